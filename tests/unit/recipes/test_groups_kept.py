"""The share of the groups that is kept, in whole groups."""

from __future__ import annotations

import pytest

from verl_actfocus.config.selection import groups_kept


@pytest.mark.parametrize("hundredths", range(1, 101))
def test_a_share_with_two_digits_keeps_what_integers_say(hundredths: int) -> None:
    share = hundredths / 100
    for groups in range(1, 201):
        # ⌈h·n / 100⌉ without a floating-point number in it
        assert groups_kept(groups, share) == (hundredths * groups + 99) // 100


@pytest.mark.parametrize(
    ("groups", "share", "kept"), [(25, 0.28, 7), (100, 0.07, 7), (8, 0.25, 2), (8, 0.3, 3), (5, 1, 5), (10, 1e-9, 1)]
)
def test_shares_are_rounded_up_and_whole_ones_are_left_alone(groups: int, share: float, kept: int) -> None:
    assert groups_kept(groups, share) == kept
