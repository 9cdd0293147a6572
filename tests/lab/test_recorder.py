"""The recorder writes strict rows once, keeps unhealthy ones, and cuts back on resume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cupel.errors import AlgorithmicFailure, ConfigError, DataError
from cupel.lab.metrics import Metric
from cupel.lab.recorder import Recorder
from cupel.lab.store import read_jsonl

STREAMS = {
    "metrics.jsonl": [
        Metric(name="step", meaning="step", unit="count"),
        Metric(name="loss", meaning="loss", unit="nats", limits=(-10.0, 10.0)),
        Metric(name="step_time_s", meaning="time", unit="s", reproducible=False),
    ],
    "evaluations.jsonl": [
        Metric(name="step", meaning="step", unit="count"),
        Metric(name="pass@k", meaning="pass@k", unit="rate", limits=(0.0, 1.0)),
        Metric(name="solved@2", meaning="solved", unit="rate"),
    ],
    "emergence/generations.jsonl": None,
}


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(tmp_path, STREAMS) as recorder:
        yield recorder


def rows(recorder: Recorder, stream: str = "metrics.jsonl") -> list[dict[str, object]]:
    return read_jsonl(recorder.folder / stream)


def test_a_row_is_on_disk_when_log_returns_in_declared_order(recorder: Recorder) -> None:
    recorder.log(
        "metrics.jsonl", {"step_time_s": 0.5, "loss": np.float32(0.5), "step": np.int64(0)}
    )
    text = (recorder.folder / "metrics.jsonl").read_text()
    assert text == '{"step":0,"loss":0.5,"step_time_s":0.5}\n'
    assert recorder.last_step == 0


def test_every_stream_exists_from_the_start(recorder: Recorder) -> None:
    assert rows(recorder) == rows(recorder, "emergence/generations.jsonl") == []


def test_an_undeclared_key_and_an_unknown_stream_are_refused(recorder: Recorder) -> None:
    with pytest.raises(ConfigError, match=r"metric 'los' is not declared; did you mean 'loss'"):
        recorder.log("metrics.jsonl", {"step": 0, "los": 1.0})
    with pytest.raises(ConfigError, match=r"no stream 'metric\.jsonl'; did you mean"):
        recorder.log("metric.jsonl", {"step": 0})
    assert rows(recorder) == []


def test_a_name_with_k_declares_every_whole_k(recorder: Recorder) -> None:
    row = {"pass@16": 1.0, "solved@2": 0.25, "step": 0, "pass@2": 0.5}
    recorder.log("evaluations.jsonl", row)
    text = (recorder.folder / "evaluations.jsonl").read_text()
    assert text == '{"step":0,"pass@2":0.5,"pass@16":1.0,"solved@2":0.25}\n'
    for name in ("pass@", "pass@0", "pass@x", "solved@3"):
        with pytest.raises(ConfigError, match=f"metric '{name}' is not declared"):
            recorder.log("evaluations.jsonl", {"step": 1, name: 0.5})
    with pytest.raises(AlgorithmicFailure, match=r"pass@4 = 1.5 is outside its health limits"):
        recorder.log("evaluations.jsonl", {"step": 1, "pass@4": 1.5})


@pytest.mark.parametrize("step", [3, 2])
def test_a_step_is_written_once_and_steps_only_grow(recorder: Recorder, step: int) -> None:
    recorder.log("metrics.jsonl", {"step": 3})
    with pytest.raises(ConfigError, match=f"step {step} after step 3"):
        recorder.log("metrics.jsonl", {"step": step})
    assert rows(recorder) == [{"step": 3}]


@pytest.mark.parametrize("step", [None, "1", 1.0, True])
def test_a_declared_row_needs_an_integer_step(recorder: Recorder, step: object) -> None:
    with pytest.raises(ConfigError, match="needs an integer 'step'"):
        recorder.log("metrics.jsonl", {"step": step})


@pytest.mark.parametrize(
    ("value", "kept"), [(float("nan"), None), (float("inf"), None), (11.0, 11.0)]
)
def test_an_unhealthy_row_is_kept_and_then_stops_the_run(
    recorder: Recorder, value: float, kept: float | None
) -> None:
    with pytest.raises(AlgorithmicFailure, match=r"metrics\.jsonl step 0: loss"):
        recorder.log("metrics.jsonl", {"step": 0, "loss": value})
    assert rows(recorder) == [{"step": 0, "loss": kept}]


def test_nan_in_a_free_row_is_null_on_disk_and_an_error(recorder: Recorder) -> None:
    stream = "emergence/generations.jsonl"
    good, bad = {"step": 0, "x": [1.0, 2.0]}, {"step": 1, "x": np.array([1.0, np.nan])}
    with pytest.raises(AlgorithmicFailure, match="not finite"):
        recorder.log_many(stream, [good, bad, good])
    assert rows(recorder, stream) == [good, {"step": 1, "x": [1.0, None]}]


def test_what_is_not_json_is_refused(recorder: Recorder) -> None:
    stream = "emergence/generations.jsonl"
    with pytest.raises(ConfigError, match="a value of type PosixPath"):
        recorder.log(stream, {"step": 0, "path": Path("x")})
    with pytest.raises(ConfigError, match="not valid Unicode"):
        recorder.log(stream, {"step": 0, "text": "\ud800"})


def test_opening_cuts_back_to_the_offsets_and_knows_the_last_step(tmp_path: Path) -> None:
    with Recorder(tmp_path, STREAMS) as recorder:
        recorder.log("metrics.jsonl", {"step": 0})
        recorder.log("metrics.jsonl", {"step": 1})
        recorder.event("half way")
        offsets = recorder.offsets()
        recorder.log("metrics.jsonl", {"step": 2})
        recorder.event("later")
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 3, "los')  # torn by a kill
    with Recorder(tmp_path, STREAMS, offsets=offsets) as recorder:
        assert recorder.last_step == 1
        with pytest.raises(ConfigError, match="step 1 after step 1"):
            recorder.log("metrics.jsonl", {"step": 1})
        recorder.log("metrics.jsonl", {"step": 2})
        assert rows(recorder) == [{"step": 0}, {"step": 1}, {"step": 2}]
        assert rows(recorder, "events.jsonl") == [{"step": 1, "message": "half way"}]
    with Recorder(tmp_path, STREAMS) as recorder:
        assert rows(recorder) == rows(recorder, "events.jsonl") == []


def test_a_long_last_row_is_still_found(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(json.dumps({"step": s, "pad": "x" * 9000}) for s in range(3)) + "\n")
    with Recorder(tmp_path, STREAMS, offsets={"metrics.jsonl": path.stat().st_size}) as recorder:
        assert recorder.last_step == 2


def test_a_stream_shorter_than_its_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 bytes, but its checkpoint was taken at 10"):
        Recorder(tmp_path, STREAMS, offsets={"metrics.jsonl": 10})


def test_a_full_disk_leaves_no_half_line(recorder: Recorder) -> None:
    import resource

    recorder.log("metrics.jsonl", {"step": 0, "loss": 1.0})
    size = recorder.offsets()["metrics.jsonl"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            recorder.log("metrics.jsonl", {"step": 1, "loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert rows(recorder) == [{"step": 0, "loss": 1.0}]
