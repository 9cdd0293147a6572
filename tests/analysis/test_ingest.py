"""Completions as columns: the quick reader says what the whole reader says, and names bad lines."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.analysis import evaluate_significance, judge
from cupel.analysis.completions import GENERATIONS, read_completions
from cupel.analysis.count_cache import SETTLED_S
from cupel.analysis.ingest import Columns, needed_keys, read_file, whole_rows
from cupel.config import canonical_json
from cupel.errors import DataError
from cupel.lab.store import read_run

HERE = Path("run/emergence/generations.jsonl")
number = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5)
outcome = st.sampled_from([True, False, None])
words = st.text(max_size=8)
new_row = st.fixed_dictionaries(
    {"step": st.integers(-3, 10), "problem_id": words, "correct": outcome, "completion": words},
    optional={
        "reward": number,
        "gram_entropy_delta": st.none() | st.floats(-1e3, 1e3) | st.integers(-5, 5),
        "metadata": st.just({"a": [1]}),
    },
)
old_row = st.fixed_dictionaries(
    {"step": st.integers(0, 10), "prompt": words},
    optional={"reward": number, "metadata": st.fixed_dictionaries({"correctness": outcome})},
)
odd_row = st.fixed_dictionaries(
    {},
    optional={
        "step": st.integers(0, 10),
        "problem_id": words | st.integers(0, 3) | st.none(),
        "prompt": words,
        "group": st.integers(0, 3),
        "correct": outcome | st.sampled_from([0, 1, 1.0]),
        "reward": number | st.booleans(),
        "metadata": st.none() | st.just({}) | st.fixed_dictionaries({"correctness": outcome}),
    },
)


def read_columns(path: Path, data: bytes) -> Columns | None:
    """Read as `read_file` does, from bytes: quickly, else whole."""
    quick = needed_keys(io.BytesIO(data), hashlib.sha256())
    return quick if quick is not None else whole_rows(path, data)


def lines_of(rows: list[dict[str, Any]], *, ascii_only: bool = True) -> bytes:
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    return text.encode()


def same(one: Any, other: Any) -> None:
    assert (one.correct_from, one.gram_pairs, one.gram_total) == (
        other.correct_from,
        other.gram_pairs,
        other.gram_total,
    )
    named = [[columns.problems[code] for code in columns.problem_N] for columns in (one, other)]
    assert named[0] == named[1]
    for name in ("step_N", "outcome_N", "reward_N"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@given(
    st.lists(new_row, min_size=1)
    | st.lists(old_row, min_size=1)
    | st.lists(odd_row, min_size=1)
    | st.lists(new_row | old_row | odd_row, min_size=1),
    st.booleans(),
)
def test_both_readers_say_the_same(rows: list[dict[str, Any]], ascii_only: bool) -> None:
    data = lines_of(rows, ascii_only=ascii_only)
    found = read_columns(HERE, data)
    assert found is not None
    same(found, whole_rows(HERE, data))


@given(st.lists(new_row, min_size=1, max_size=3), st.data())
def test_a_changed_byte_is_read_alike_or_refused_by_both(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    text = bytearray(lines_of(rows, ascii_only=False))
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] = data.draw(st.integers(0, 255))
    assert told(read_columns, bytes(text)) == told(whole_rows, bytes(text))


def told(reader: Callable[[Path, bytes], Any], data: bytes) -> Any:
    """Return what a reader makes of the data: its columns, or the words of its refusal."""
    try:
        columns = reader(HERE, data)
    except DataError as error:
        return str(error)
    names = [columns.problems[code] for code in columns.problem_N]
    columns_N = (columns.step_N, columns.outcome_N, columns.reward_N)
    return names, [column.tobytes() for column in columns_N], columns.gram_pairs


@pytest.mark.parametrize("layout", [0, 1])
def test_ordinary_rows_take_the_quick_reader(layout: int) -> None:
    row: dict[str, Any] = {
        "step": 0,
        "prompt": "é?",
        "reward": 1,
        "metadata": {"correctness": None},
    }
    if layout == 0:
        row |= {"problem_id": "p", "correct": None, "gram_entropy_delta": None}
    columns = needed_keys(io.BytesIO(lines_of([row] * 3)), hashlib.sha256())
    assert columns is not None
    assert columns.outcome_N.tolist() == [2, 2, 2]
    assert np.isnan(columns.reward_N).sum() == 0


GOOD = b'{"step": 0, "problem_id": "p", "correct": true, "reward": 1.0, "completion": "x"}\n'


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (GOOD.replace(b"1.0", b"NaN"), ":2: not strict JSON"),
        (GOOD.replace(b'"x"', b"NaN"), ":2: not strict JSON"),
        (GOOD.replace(b'"x"', b'"\xff"'), ":2: not strict JSON"),
        (GOOD.replace(b"}", b"} {}"), ":2: not strict JSON"),
        (GOOD[:-2] + b"\n" + GOOD[1:], ":2: not strict JSON"),
        (b"\n", ":2: not strict JSON"),
        (b"[1]\n", ":2: expected a JSON object, found a list"),
        (GOOD.replace(b"1.0", b'"one"'), ":2: reward is 'one'; expected a number or null"),
        (GOOD.replace(b"true", b"2"), ":2: correct is 2; expected true, false or null"),
        (GOOD.replace(b'"step": 0', b'"step": 0.5'), ":2: step is 0.5; expected a whole number"),
    ],
)
def test_a_bad_line_is_named(bad: bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read_columns(HERE, GOOD + bad + GOOD)
    assert f"{HERE}{says}" in str(caught.value)


def test_a_truncated_tail_is_named() -> None:
    with pytest.raises(DataError, match=r"generations.jsonl:2: truncated \(no newline"):
        read_columns(HERE, GOOD + GOOD[:-9])
    whole = read_columns(HERE, GOOD + GOOD[:-1])
    assert whole is not None
    assert len(whole.step_N) == 2
    assert read_columns(HERE, b" \n\n") is None


def test_a_file_of_several_blocks_is_one_file() -> None:
    rows = [
        {"step": n // 8, "problem_id": f"p{n // 4}", "correct": n % 3 == 0, "text": "x" * 4000}
        for n in range(4500)
    ]
    data = lines_of(rows)
    assert len(data) > 50 * (256 << 10)
    found = read_columns(HERE, data)
    assert found is not None
    same(found, whole_rows(HERE, data))
    with pytest.raises(DataError, match=":4300: not strict JSON"):
        read_columns(
            HERE, data.replace(b'"step": 537', b'"step": NaN', 4).replace(b"NaN", b"537", 3)
        )


def test_a_file_is_read_hashed_and_named(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    for tail in (b"", GOOD[:-9], b"\n\n"):
        path.write_bytes(GOOD * 3 + tail)
        columns, digest = read_file(path, still_written=True)
        assert digest == hashlib.sha256(GOOD * 3 + tail).hexdigest()
        assert columns is not None
        assert len(columns.step_N) == 3
    path.write_bytes(b"")
    assert read_file(path, still_written=False) == (None, hashlib.sha256().hexdigest())
    with pytest.raises(DataError, match="cannot be read"):
        read_file(tmp_path, still_written=False)


def test_the_order_of_rows_is_forgotten(tmp_path: Path, run_at) -> None:
    run_at(tmp_path / "r", seed=1)
    path = tmp_path / "r" / GENERATIONS
    first = read_completions(read_run(tmp_path / "r"))
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    second = read_completions(read_run(tmp_path / "r"))
    assert first is not None
    assert second is not None
    assert first.prompts == second.prompts
    for name in ("prompt_N", "correct_N", "reward_N"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.counts == second.counts == (int(first.correct_N.sum()), 80)


TWO_ARMS = {"a": {1: 0.3, 2: 0.4}, "b": {1: 0.5, 2: 0.6}}


def settled(study: Path) -> Path:
    """Wait until the files of a study may be counted for good."""
    time.sleep(SETTLED_S + 0.1)
    return study


def report_bytes(study: Path) -> list[bytes]:
    judge(study)
    return [path.read_bytes() for path in sorted((study / "analysis").glob("*"))]


def test_reports_are_the_same_with_and_without_kept_counts(study_at: Callable[..., Path]) -> None:
    study = settled(study_at(TWO_ARMS))
    counted = report_bytes(study)
    kept = sorted((study / ".cache").glob("*"))
    assert [path.name for path in kept] == [
        f"{name}.generations" for name in ("a_s1", "a_s2", "b_s1", "b_s2")
    ]
    assert report_bytes(study) == counted
    for path, damage in zip(kept, (b"", b"{}\n", b"not json\n", kept[0].read_bytes()), strict=True):
        path.write_bytes(damage)
    assert report_bytes(study) == counted


def test_a_changed_file_is_never_served_from_what_was_kept(study_at: Callable[..., Path]) -> None:
    study = settled(study_at(TWO_ARMS))
    before = report_bytes(study)
    path = study / "runs" / "a_s1" / GENERATIONS
    state = path.stat()
    old = path.read_bytes()
    path.write_bytes(old.replace(b'"reward": 0.0', b'"reward": 9.0', 1))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    assert report_bytes(study) != before
    path.write_bytes(old)
    assert report_bytes(study) == before


def test_nothing_is_kept_where_it_cannot_or_should_not_be(
    study_at: Callable[..., Path], arm, tmp_path: Path
) -> None:
    study = settled(study_at(TWO_ARMS))
    (study / ".cache").write_text("in the way")
    assert report_bytes(study) == report_bytes(study)
    low, high = arm("a", {1: 0.3, 2: 0.4}), arm("b", {1: 0.5, 2: 0.6})
    settled(study)
    there = sorted(tmp_path.rglob("*"))
    evaluate_significance(low, high)
    assert sorted(tmp_path.rglob("*")) == there


_opened: list[str] | None = None


def _note_open(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(args[0]))


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Names of the files that are opened while the test runs."""
    global _opened
    sys.addaudithook(_note_open)
    _opened = []
    yield _opened
    _opened = None


def test_a_report_reads_every_stream_once(arm, opened: list[str]) -> None:
    low, high = arm("a", {1: 0.3, 2: 0.4}), arm("b", {1: 0.5, 2: 0.6})
    opened.clear()
    report = evaluate_significance(low, high)
    streams = [name for name in opened if name.endswith(".jsonl")]
    assert len(streams) == len(set(streams)) == len(report["provenance"]["inputs_sha256"]) == 12


def test_input_hashes_are_those_of_the_files(arm) -> None:
    low, high = arm("a", {1: 0.3, 2: 0.4}), arm("b", {1: 0.5, 2: 0.6})
    for name, digest in evaluate_significance(low, high)["provenance"]["inputs_sha256"].items():
        assert hashlib.sha256(Path(name).read_bytes()).hexdigest() == digest


def test_the_report_is_plain_json(arm) -> None:
    report = evaluate_significance(arm("a", {1: 0.3, 2: 0.4}), arm("b", {1: 0.5, 2: 0.6}))
    assert json.loads(canonical_json(report)) == report


def test_gram_differences_that_overflow_are_refused_and_not_summed_to_infinity() -> None:
    row = {"step": 0, "problem_id": "p", "correct": True, "gram_entropy_delta": 1.7e308}
    with pytest.raises(DataError, match=r"generations\.jsonl: the values of gram_entropy_delta"):
        read_columns(HERE, lines_of([row, row]))
