from dataclasses import replace

import pytest

from tpdm.arena import telling
from tpdm.arena.standing import Ratio, Standing
from tpdm.arena.telling import agreement, convexity, paragraphs, spoken


def stands(name, target, ratio, kind="adaptive", own=None, seed=None):
    return Standing(
        name, kind, target, seed, target, 0.0, 1.0, 1.0, {}, 0.0, Ratio(*ratio), own and Ratio(*own)
    )


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        ((0.9, 0.85, 0.95), "better"),
        ((1.1, 1.02, 1.2), "worse"),
        ((0.97, 0.93, 1.01), "ties"),
        ((0.9998, 0.9997, 0.9999), "ties"),
    ],
)
def test_an_interval_that_holds_one_is_a_tie(ratio, verdict):
    assert Ratio(*ratio).verdict == verdict


def test_beaten_is_said_as_beaten():
    rows = [
        stands("table", 6, (1, 1, 1), "static"),
        stands("uniform", 6, (1.2, 1.1, 1.3), "static"),
        stands("adaptive", 4, (1.2, 1.1, 1.35), own=(0.9, 0.8, 0.95)),
        stands("adaptive", 6, (0.9, 0.85, 0.95)),
        stands("adaptive", 8, (0.97, 0.93, 1.01)),
        stands("adaptive", 20, (3.4, 3.1, 3.7)),
        stands("adaptive", 8, (0.1, 0.1, 0.1), seed=0),
        stands("oracle", 6, (0.755, 0.7, 0.8), "bound"),
    ]
    measured, adaptive, best, oracle = paragraphs(rows, 3, 2112, "table")
    assert "on 2112 held-out noises and conditions over 3 seeds, with 95 % intervals" in measured
    assert adaptive == (
        "adaptive beats table, with 10.0 % less error (5.0 to 15.0) at NFE 6; "
        "is beaten by it, with 20.0 % more error (10.0 to 35.0) at NFE 4, "
        "3.4 times the error (3.1 to 3.7) at NFE 20; ties with it at NFE 8 (7.0 % less to 1.0 % more error). "
        "adaptive beats its own mean schedule, with 10.0 % less error (5.0 to 20.0) at NFE 4."
    )
    assert best == "No other static contestant beats table anywhere."
    assert oracle.startswith("oracle, which knows every error beforehand")
    assert oracle.endswith("gains 24.5 % (20.0 to 30.0) at NFE 6.")


def test_each_contestant_has_a_paragraph_of_its_own():
    rows = [stands("table", 4, (1, 1, 1), "static")]
    rows += [stands(name, n, (1.2, 1.1, 1.3)) for name in ("adaptive", "allocator") for n in (4, 6)]
    assert not any(text.startswith("No other") for text in paragraphs(rows, 1, 10, "table"))
    rows.append(stands("uniform", 4, (1.2, 1.1, 1.3), "static"))
    told = paragraphs(rows, 1, 10, "table")
    assert [text.split()[0] for text in told[1:]] == ["adaptive", "allocator", "No"]


def test_whoever_plays_the_baseline_is_told_of_in_one_short_sentence():
    """And at a budget where it does not, that stands beside it."""
    rows = [stands("one_shot", n, (1, 1, 1), own=(1, 1, 1)) for n in (2, 4, 8)]
    assert paragraphs(rows, 1, 10, "table")[1] == "one_shot does the same as table at NFE 2, 4, 8."
    rows[1] = stands("one_shot", 4, (0.9, 0.8, 0.95), own=(0.95, 0.9, 1.05))
    assert paragraphs(rows, 1, 10, "table")[1] == (
        "one_shot beats table, with 10.0 % less error (5.0 to 20.0) at NFE 4; "
        "does the same as it at NFE 2, 8. "
        "one_shot ties with its own mean schedule at NFE 4 (10.0 % less to 5.0 % more error)."
    )


def test_intervals_are_told_with_the_level_that_they_have(monkeypatch):
    monkeypatch.setattr(telling, "LEVEL", 0.5)
    assert "with 50 % intervals" in paragraphs([stands("table", 2, (1, 1, 1), "static")], 1, 10, "table")[0]


def test_a_baseline_that_is_not_the_best_is_told_of():
    rows = [stands("table", 6, (1, 1, 1), "static"), stands("gits", 6, (0.8, 0.7, 0.9), "static")]
    told = paragraphs(rows, 1, 10, "table")[-1]
    assert "table is not the best static contestant: it is beaten by gits, with 20.0 % less error" in told


@pytest.mark.parametrize(
    ("errors", "found"),
    [
        ((5.0, 2.0, 1.0, 0.5), "falls convexly from 1 to 4 steps."),
        ((5.0, 4.0, 1.0, 0.5), "is not convex at 2 steps"),
        ((5.0, 2.0, 1.0, 1.5), "rises at 4 steps"),
        ((5.0, 6.0, 1.0, 0.5), "rises at 2 and is not convex at 2 steps"),
    ],
)
def test_errors_of_a_search_that_is_stuck_are_not_convex(errors, found):
    (told,) = convexity("table", errors)
    assert told.startswith(f"The error of table {found}")


def test_two_errors_have_no_bend_to_tell_of():
    assert convexity("table", (5.0,)) == convexity("table", (5.0, 2.0)) == []
    assert convexity("table", (2.0, 5.0)) == [
        "The error of table rises at 2 steps: its search may be stuck there."
    ]


def test_starts_that_do_not_agree_are_told_of_with_their_gap():
    assert agreement("table", {}) == []
    (told,) = agreement("table", {2: 0.0, 3: 0.004, 4: 0.009})
    assert told.endswith("the two best end within 1 % in cost for every number of steps from 2 to 4.")
    (told,) = agreement("table", {2: 0.0, 3: 0.024, 4: 0.2})
    assert told.endswith("within 1 % in cost but for these numbers of steps: 3 (2.4 %), 4 (20.0 %).")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"levels": [[1.0, 0.8226630091667175, 0.0]]}, "levels 1, 0.8227, 0"),
        ({"levels": [[1.0, 0.0], [1.0, 1 / 3, 0.0]]}, "levels 1, 0 and 1, 0.3333, 0"),
        ({"better": False, "held_out_ratio": None}, "better no, held_out_ratio none"),
        ({"price": 0.00046870979713275996}, "price 0.0004687"),
        ({"cores": 2, "gpu": "H100"}, "cores 2, gpu H100"),
        (None, "none"),
        ({}, ""),
    ],
)
def test_what_was_found_is_spoken(value, text):
    assert spoken(value) == text


def test_a_tie_that_few_samples_leave_open_is_not_told_as_one_that_is_close():
    rows = [stands("own_steps", 4, (1, 0.99, 1.01)), stands("own_steps", 6, (1.1, 0.4, 2.5))]
    told = paragraphs(rows, 1, 10, "table")[1]
    assert "at NFE 4 (1.0 % less to 1.0 % more error), 6 (60.0 % less to 150.0 % more error)." in told


def test_who_misses_a_budget_is_told_of_with_its_own_calls():
    met = stands("adaptive", 4, (1, 0.9, 1.1))
    rows = [replace(met, nfe=4.19), replace(met, contestant="controlled", target=2, nfe=3.0)]
    told = paragraphs(rows, 1, 10, "table")
    (missed,) = [text for text in told if "miss the budget" in text]
    assert missed.endswith("calls that miss the budget by over 5 %: controlled, with 3.00 calls at NFE 2.")
    assert not [text for text in paragraphs(rows[:1], 1, 10, "table") if "miss the budget" in text]
