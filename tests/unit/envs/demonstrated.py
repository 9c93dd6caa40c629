"""What the tests read off a demonstrated response."""

from __future__ import annotations

import re

from verl_actfocus.envs.demonstrations import Response


def stated_way(response: Response) -> list[str]:
    """The directions that the reasoning names, in its order."""
    return re.findall(r"\b(Up|Down|Left|Right)\b", response.reasoning)


def actions(response: Response) -> list[str]:
    """The actions as an environment reads them."""
    return [action.strip() for action in response.actions]
