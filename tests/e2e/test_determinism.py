"""The same command twice writes the same bytes, timings apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.lab import comparable_bytes
from cupel.rlvr.metrics import EVALUATIONS, METRICS
from tests.e2e.program import TINY, finish, start, succeed, values_of

TOY = ("train", "--backend", "toy", "--log-tokens")
STREAMS = {
    "metrics.jsonl",
    "evaluations.jsonl",
    "evaluation_problems.jsonl",
    "evaluation_rates.jsonl",
    "emergence/steps.jsonl",
    "emergence/generations.jsonl",
    "emergence/tokens.jsonl",
    "events.jsonl",
}


def assert_same_bytes(one: Path, other: Path) -> None:
    first, second = comparable_bytes(one), comparable_bytes(other)
    assert set(first) == STREAMS
    for name in STREAMS:
        assert first[name], name
        assert first[name] == second[name], name
    assert values_of(one) == values_of(other)


def test_the_toy_policy_twice(tmp_path: Path) -> None:
    running = [start(tmp_path, *TOY, "--log-dir", name, "--seed", 7) for name in ("one", "other")]
    running.append(start(tmp_path, *TOY, "--log-dir", "else", "--seed", 8))
    for process in running:
        assert finish(process).returncode == 0
    assert_same_bytes(tmp_path / "one", tmp_path / "other")
    seven, eight = comparable_bytes(tmp_path / "one"), comparable_bytes(tmp_path / "else")
    assert seven["emergence/generations.jsonl"] != eight["emergence/generations.jsonl"]


def test_the_tiny_model_twice(tmp_path: Path, tiny_unbroken: Path) -> None:
    succeed(tmp_path, *TINY, "--log-dir", "again")
    assert_same_bytes(tiny_unbroken, tmp_path / "again")
    last = json.loads((tiny_unbroken / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["status"]) == (9, "trained")


def test_only_timings_and_what_follows_from_them_are_left_out(tmp_path: Path) -> None:
    succeed(tmp_path, *TOY, "--log-dir", "run", "--max-steps", 2)
    back_pressure = {
        f"bp_{name}"
        for name in (
            *("regime", "action", "warmup", "concurrency", "throughput"),
            *("p_star", "sigma", "kappa", "utilization"),
        )
    }
    timings = {
        "metrics.jsonl": {
            *("sample_time_s", "train_time_s", "step_time_s", "tokens_per_second"),
            *back_pressure,
        },
        "evaluations.jsonl": {"eval_time_s"},
    }
    for stream, declared in (("metrics.jsonl", METRICS), ("evaluations.jsonl", EVALUATIONS)):
        written = json.loads((tmp_path / "run" / stream).read_text().splitlines()[0])
        compared = json.loads(comparable_bytes(tmp_path / "run")[stream].splitlines()[0])
        assert set(written) - set(compared) == timings[stream]
        named = {"pass@k" if name.startswith("pass@") else name for name in written}
        assert named == {metric.name for metric in declared}


@pytest.mark.slow
def test_the_shell_does_not_set_the_threads_of_a_run(
    tmp_path: Path, tiny_unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads are the program's to set (--threads): what the shell says changes no byte."""
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    succeed(tmp_path, *TINY, "--log-dir", "again")
    assert_same_bytes(tiny_unbroken, tmp_path / "again")
