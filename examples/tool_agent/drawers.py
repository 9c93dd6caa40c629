"""A tool of one's own for veRL's `ToolAgentLoop`, and the reward of the task that needs it.

A row of the data says what lies in three drawers (`extra_info.tools_kwargs`). The model is asked what one of them holds
and can know only by opening it: the call decides the outcome.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import ToolResponse


class Drawers(BaseTool):
    """Opens a drawer; its schema stands in `tools.yaml`."""

    def __init__(self, config: dict[str, Any], tool_schema: Any) -> None:
        super().__init__(config, tool_schema)
        self._contents: dict[str, dict[str, str]] = {}

    async def create(self, instance_id: str | None = None, **kwargs: Any) -> tuple[str, ToolResponse]:
        """Begin a call with the contents that the row of the data gives."""
        key = instance_id or uuid4().hex
        self._contents[key] = kwargs["create_kwargs"]
        return key, ToolResponse()

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Return what lies in the drawer that the call names."""
        contents = self._contents[instance_id]
        colour = str(parameters.get("colour"))
        return ToolResponse(text=contents.get(colour, f"There is no {colour} drawer.")), 0.0, {}

    async def release(self, instance_id: str, **kwargs: Any) -> None:
        """Forget the call."""
        del self._contents[instance_id]


def compute_score(data_source: str, solution_str: str, ground_truth: str, **kwargs: Any) -> float:
    """Return 1 if the last thing that the model says is the answer, else 0."""
    return float(solution_str.removesuffix("<|im_end|>").rstrip().endswith(f"</think>\n{ground_truth}"))
