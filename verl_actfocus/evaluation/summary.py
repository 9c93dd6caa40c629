"""What an evaluation found, beside what it was made with: `summary.json`."""

from __future__ import annotations

from datetime import UTC, datetime

from verl_actfocus.evaluation.figures import figures, stop_reasons, summary_of
from verl_actfocus.evaluation.policy import Policy
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import Attempt
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.experiments.results import machine


def write_summary(
    model: str, settings: EvaluationSettings, policy: Policy, folder: EvaluationFolder, attempt: Attempt
) -> int:
    """Write the summary of an evaluation.

    Args:
        model: its name for people.
        settings: what was played.
        policy: who played.
        folder: where the episodes are.
        attempt: what was found.

    Returns:
        Episodes that are missing: 0 of a complete evaluation.
    """
    missing = settings.episodes - len(attempt.finished)
    folder.finish(
        {
            "model": {"name": model, **policy.identity(), **policy.notes()},
            "evaluation": settings.as_dict(),
            "episodes": {
                "asked": settings.episodes,
                "finished": len(attempt.finished),
                "failed": len(attempt.failures),
                "not_played": missing - len(attempt.failures),
            },
            "figures": summary_of(figures(attempt.finished)) if attempt.finished else {},
            "stop_reasons": stop_reasons(attempt.finished),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": machine.versions(),
            "commit": machine.git_commit(),
            "hardware": machine.hardware(),
        }
    )
    return missing
