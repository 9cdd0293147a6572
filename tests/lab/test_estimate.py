"""Adding runs up: by hand."""

from __future__ import annotations

import pytest

from cupel.errors import DataError
from cupel.lab.estimate import CONTENTION, Range, RunEstimate, estimate_study, makespan


def a_run(seconds: float, tokens: float | None = None) -> RunEstimate:
    return RunEstimate(
        seconds=Range(low=seconds / 2, expected=seconds, high=seconds * 2),
        tokens=None if tokens is None else Range(low=tokens, expected=tokens, high=tokens),
        assumptions=("runs are alike",),
    )


def test_jobs_go_to_the_first_worker_that_is_free() -> None:
    assert makespan([2.0, 2.0, 2.0], 1) == 6.0
    assert makespan([2.0, 2.0, 2.0], 2) == 4.0
    assert makespan([5.0, 1.0, 1.0, 1.0], 2) == 5.0
    assert makespan([1.0, 1.0, 1.0, 5.0], 2) == 6.0  # in order, as executors start them
    assert makespan([2.0], 8) == 2.0


def test_one_worker_adds_up() -> None:
    found = estimate_study([a_run(10, 5)] * 3, workers=1, cores=4, import_s=2.0, peak_bytes=7)
    assert found.seconds == Range(low=17.0, expected=32.0, high=62.0)
    assert found.tokens == Range(low=15.0, expected=15.0, high=15.0)
    assert (found.runs, found.workers, found.memory_bytes) == (3, 1, 7)
    assert found.assumptions == ("runs are alike", "one run at a time")


def test_runs_side_by_side_may_slow_each_other_down() -> None:
    found = estimate_study([a_run(10)] * 4, workers=2, cores=2, import_s=0.0, peak_bytes=7)
    assert found.seconds == Range(low=10.0, expected=20.0, high=40.0 * CONTENTION)
    assert found.tokens is None
    assert found.memory_bytes == 14


def test_more_workers_than_cores_share_them() -> None:
    found = estimate_study([a_run(10)] * 4, workers=4, cores=2, import_s=0.0, peak_bytes=7)
    assert found.seconds.expected == 20.0
    fewer_runs = estimate_study([a_run(10)], workers=4, cores=2, import_s=0.0, peak_bytes=7)
    assert (fewer_runs.workers, fewer_runs.seconds.expected) == (1, 10.0)


def test_no_runs_are_no_study() -> None:
    with pytest.raises(DataError, match="without runs"):
        estimate_study([], workers=1, cores=1, import_s=0.0, peak_bytes=0)
