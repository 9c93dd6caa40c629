"""Sokoban: rules and rewards in drawn rooms, and what the generator of rooms promises."""

from __future__ import annotations

import time

import pytest

from verl_actfocus.envs.sokoban.env import SokobanEnv

OFFSET = {"Up": (-1, 0), "Down": (1, 0), "Left": (0, -1), "Right": (0, 1)}
Cell = tuple[int, int]


def play(room: list[str], *actions: str) -> list[tuple[str, float, bool, bool, dict[str, bool]]]:
    env = SokobanEnv()
    env.reset(seed=0, options={"room": room})
    return [env.step(action) for action in actions]


def shortest_solution(observation: str) -> int | None:
    """Length of a shortest solution by plain breadth-first search on the drawing."""
    drawn = {(r, c): s for r, row in enumerate(observation.split("\n")) for c, s in enumerate(row)}
    targets = {cell for cell, symbol in drawn.items() if symbol in "O√S"}
    boxes = frozenset(cell for cell, symbol in drawn.items() if symbol in "X√")
    player = next(cell for cell, symbol in drawn.items() if symbol in "PS")
    layer, seen, length = [(player, boxes)], {(player, boxes)}, 0
    while layer:
        if any(boxes == targets for _, boxes in layer):
            return length
        following = []
        for (row, column), boxes in layer:
            for down, right in OFFSET.values():
                ahead, beyond = (row + down, column + right), (row + 2 * down, column + 2 * right)
                if drawn[ahead] == "#" or (ahead in boxes and (drawn[beyond] == "#" or beyond in boxes)):
                    continue
                state = (ahead, boxes - {ahead} | {beyond} if ahead in boxes else boxes)
                if state not in seen:
                    seen.add(state)
                    following.append(state)
        layer, length = following, length + 1
    return None


def test_a_solving_push_pays_the_step_the_box_and_the_room() -> None:
    ((observation, reward, terminated, truncated, info),) = play(["#####", "#PXO#", "#___#", "#####"], "Right")
    assert reward == pytest.approx(-0.1 + 1 + 10)
    assert (terminated, truncated) == (True, False)
    assert info == {"valid": True, "effective": True, "success": True}
    assert observation == "#####\n#_P√#\n#___#\n#####"


def test_a_step_costs_a_tenth_whether_it_leads_anywhere_or_not() -> None:
    room = ["######", "#P_XO#", "######"]
    walk, wall = play(room, "Right", "Up")
    assert walk[1] == wall[1] == pytest.approx(-0.1)
    assert walk[4] == {"valid": True, "effective": True, "success": False}
    assert wall[4] == {"valid": True, "effective": False, "success": False}
    assert wall[0] == walk[0] == "######\n#_PXO#\n######"


def test_a_box_onto_a_target_pays_one_and_off_it_takes_one_back() -> None:
    room = ["########", "#PXO__O#", "#_X____#", "########"]
    onto, off = play(room, "Right", "Right")
    assert onto[1] == pytest.approx(-0.1 + 1)
    assert off[1] == pytest.approx(-0.1 - 1)
    assert off[0].split("\n")[1] == "#__SX_O#"
    assert not onto[4]["success"]


def test_a_push_from_target_to_target_pays_the_step_alone() -> None:
    assert play(["######", "#P√O_#", "#__X_#", "######"], "Right")[0][1] == pytest.approx(-0.1)


@pytest.mark.parametrize(
    "room",
    [
        ["#####", "#OPX#", "#####"],
        ["#######", "#PXX_O#", "#_O___#", "#######"],
        ["######", "#PX√X#", "#_OO_#", "######"],
    ],
)
def test_a_box_moves_neither_into_a_wall_nor_into_another_box(room: list[str]) -> None:
    ((observation, reward, _, _, info),) = play(room, "Right")
    assert observation.split("\n") == room
    assert info["valid"] and not info["effective"]
    assert reward == pytest.approx(-0.1)


def test_every_symbol_is_drawn_as_the_paper_lists_them() -> None:
    room = ["#######", "#S√_XO#", "#_X___#", "#######"]
    env = SokobanEnv()
    assert env.reset(seed=0, options={"room": room})[0].split("\n") == room
    moved = env.step("Down")[0].split("\n")
    assert moved == ["#######", "#O√_XO#", "#PX___#", "#######"]


def test_invalid_actions_do_not_count_as_steps_and_the_last_step_truncates() -> None:
    env = SokobanEnv(max_steps=3)
    env.reset(seed=0, options={"room": ["######", "#P_XO#", "######"]})
    for _ in range(10):
        assert env.step("Jump")[1:4] == (0.0, False, False)
    assert [env.step("Up")[3] for _ in range(3)] == [False, False, True]


def test_solving_on_the_last_step_is_success_and_not_truncation() -> None:
    env = SokobanEnv(max_steps=1)
    env.reset(seed=0, options={"room": ["#####", "#PXO#", "#####"]})
    assert env.step("Right")[2:4] == (True, False)


@pytest.mark.parametrize(
    ("arguments", "most_actions"),
    [({}, 10), ({"search_depth": 5}, 5), ({"size": (7, 8), "boxes": 2, "search_depth": 15}, 15)],
)
def test_300_rooms_are_unsolved_and_solvable_within_the_search_depth(
    arguments: dict[str, object], most_actions: int
) -> None:
    env = SokobanEnv(**arguments)
    lengths = []
    for seed in range(300):
        length = shortest_solution(env.reset(seed=seed)[0])
        assert length is not None
        lengths.append(length)
    assert min(lengths) >= 1
    assert max(lengths) <= most_actions
    assert len(set(lengths)) >= min(5, most_actions)


@pytest.mark.parametrize(("size", "boxes"), [((6, 6), 1), ((5, 7), 1), ((8, 8), 3)])
def test_a_room_has_its_size_a_closed_wall_one_player_and_a_target_per_box(size: Cell, boxes: int) -> None:
    env = SokobanEnv(size=size, boxes=boxes)
    for seed in range(50):
        text, _ = env.reset(seed=seed)
        rows = text.split("\n")
        assert (len(rows), {len(row) for row in rows}) == (size[0], {size[1]})
        assert set(rows[0] + rows[-1] + "".join(row[0] + row[-1] for row in rows)) == {"#"}
        counts = {symbol: text.count(symbol) for symbol in "PSX√O"}
        assert counts["P"] + counts["S"] == 1
        assert counts["X"] + counts["√"] == boxes
        assert counts["O"] + counts["√"] + counts["S"] == boxes
        assert counts["X"] >= 1


def test_128_rooms_are_generated_in_less_than_a_second() -> None:
    environments = [SokobanEnv() for _ in range(128)]
    start = time.perf_counter()
    for seed, env in enumerate(environments):
        env.reset(seed=seed)
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (3, 6)}, r"size \(3, 6\)"),
        ({"size": (5, 5), "boxes": 4}, "4 box"),
        ({"boxes": 0}, "boxes 0"),
        ({"search_depth": 0}, "search_depth 0"),
        ({"max_steps": -1}, "max_steps -1"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SokobanEnv(**arguments)


@pytest.mark.parametrize(
    ("room", "message"),
    [
        (["####", "#P#"], "every row needs 4"),
        (["#####", "#P?X#", "#####"], r"unknown symbols \['\?'\]"),
        (["#####", "#PXO_", "#####"], "outline"),
        (["#####", "#_XO#", "#####"], r"0 player\(s\)"),
        (["#####", "#PX_#", "#####"], r"1 box\(es\), 0 target\(s\)"),
        (["#####", "#P√_#", "#####"], "off the targets"),
    ],
)
def test_a_given_room_that_cannot_be_played_is_refused_with_the_reason(room: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SokobanEnv().reset(options={"room": room})
