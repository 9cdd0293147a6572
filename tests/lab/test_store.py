"""The store reads what is there, and refuses what is damaged by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.errors import DataError
from cupel.lab.store import find_runs, read_jsonl, read_run, read_study


def write_lines(path: Path, *lines: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + end)
    return path


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"step": 1, "loss": NaN}', "not strict JSON"),
        ('{"step": 1, "loss": 1e999}', "not strict JSON"),
        ('{"step": 1', "not strict JSON"),
        ("[1, 2]", "expected a JSON object, found a list"),
        ("3.5", "found a number"),
        ("", "not strict JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = write_lines(tmp_path / "rows.jsonl", '{"step": 0}', line, '{"step": 2}')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: ") as caught:
        read_jsonl(path)
    assert says in str(caught.value)


def test_a_torn_last_line_is_called_truncated(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", '{"step": 0}', '{"step": 1, "lo', end="")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: truncated"):
        read_jsonl(path)


def test_rows_come_back_in_order_and_an_empty_file_has_none(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", '{"b": 1, "a": null}', '{"é": "ü"}')
    assert read_jsonl(path) == [{"b": 1, "a": None}, {"é": "ü"}]
    assert list(read_jsonl(path)[0]) == ["b", "a"]
    assert read_jsonl(write_lines(tmp_path / "empty.jsonl", end="")) == []


def test_a_step_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "metrics.jsonl", '{"step": 0}', '{"step": 1}', '{"step": 0}')
    with pytest.raises(DataError, match=r"metrics\.jsonl:3: step 0 .*line 1"):
        read_jsonl(path)


def test_a_missing_run_names_its_nearest_sibling(tmp_path: Path) -> None:
    (tmp_path / "grpo_s42").mkdir()
    with pytest.raises(DataError, match=r"grpo_s43: no such folder.*did you mean '.*grpo_s42'"):
        read_run(tmp_path / "grpo_s43")
    with pytest.raises(DataError, match="not a run folder"):
        read_run(tmp_path / "grpo_s42")
    with pytest.raises(DataError, match="not a study folder"):
        read_study(tmp_path)


def test_a_folder_of_an_earlier_system_is_unknown_and_readable(tmp_path: Path) -> None:
    run = tmp_path / "old" / "seed_42"
    write_lines(run / "metrics.jsonl", '{"step": 0, "condition": "grpo", "seed": 42}')
    write_lines(run / "emergence/generations.jsonl", '{"step": 0, "reward": 1.0}')
    record = read_run(run)
    assert (record.status, record.condition, record.seed) == ("unknown", "grpo", 42)
    assert record.streams == ["emergence/generations.jsonl", "metrics.jsonl"]
    assert record.rows("emergence/generations.jsonl") == [{"step": 0, "reward": 1.0}]
    with pytest.raises(DataError, match=r"no stream 'metric\.jsonl'; did you mean"):
        record.rows("metric.jsonl")
    assert [found.folder for found in find_runs(tmp_path)] == [run]


def test_only_generations_is_a_run_without_condition(tmp_path: Path) -> None:
    write_lines(tmp_path / "emergence/generations.jsonl", '{"step": 0}')
    record = read_run(tmp_path)
    assert (record.condition, record.seed, record.result) == (None, None, None)


def test_a_running_run_may_be_mid_line_and_a_done_one_may_not(tmp_path: Path) -> None:
    write_lines(tmp_path / "metrics.jsonl", '{"step": 0}', '{"st', end="")
    state = {"status": "running", "condition": "a", "seed": 1}
    (tmp_path / "run.json").write_text(json.dumps(state))
    assert read_run(tmp_path).rows("metrics.jsonl") == [{"step": 0}]
    (tmp_path / "run.json").write_text(json.dumps({**state, "status": "failed"}))
    with pytest.raises(DataError, match="truncated"):
        read_run(tmp_path).rows("metrics.jsonl")


def test_an_unheard_of_status_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    with pytest.raises(DataError, match="status 'finished'; expected one of planned, running"):
        read_run(tmp_path)
