"""The turns of an episode in veRL's rollout trace (Weave, MLflow, trackio), where the user turned it on.

veRL traces an agent loop's whole run and every request to the server (`verl/utils/rollout_trace.py`,
`actor_rollout_ref.rollout.trace.backend`). What became of a response, only the episode knows.
"""

from __future__ import annotations

from typing import Any

from verl.utils.rollout_trace import rollout_trace_op

from verl_actfocus.episodes.record import TurnRecord


class EpisodeTurn:
    """One turn that was played; without a backend of the trace this does nothing.

    Args:
        record: what is known of it.
    """

    def __init__(self, record: TurnRecord) -> None:
        self._record = record

    @rollout_trace_op
    async def played(self, turn: int, observation: str, response: str) -> dict[str, Any]:
        """Emit the span `EpisodeTurn.played`: its inputs are the arguments, its outputs what is returned.

        Args:
            turn: number of the turn, from 1.
            observation: the environment's text of the state that the response answers.
            response: the response, without the prefill.

        Returns:
            Parsed and executed actions, reward, whether the turn is valid, and what was wrong with it.
        """
        record = self._record
        return {
            "parsed": record.parsed,
            "executed": record.executed,
            "reward": record.reward,
            "valid": record.valid,
            "problem": record.problem,
        }


async def trace_turn(number: int, record: TurnRecord) -> None:
    """Trace a turn that was just played, see `EpisodeTurn.played`."""
    await EpisodeTurn(record).played(number, record.observation, record.text)
