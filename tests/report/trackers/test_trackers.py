"""What W&B's offline files and Trackio's store hold, read back, equals metrics.jsonl."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cupel.errors import MissingExtraError
from cupel.report.trackers import TrackerName
from cupel.report.trackers.event_files import cut, record, records, whole_records
from cupel.report.trackers.names import names_of
from cupel.report.trackers.opening import opener
from cupel.report.trackers.wandb_files import offline_files
from cupel.rlvr.metrics import METRICS
from tests.report.trackers.run_files import (
    FACTS,
    lines,
    make_run,
    row,
    shown,
    state,
    trackio_rows,
    wandb_rows,
)


def run_follow(
    folder: Path, *words: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `cupel follow` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "cupel", "follow", str(folder), *words],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_wandb_shows_every_value_under_its_documented_name(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "maxrl_s42", [row(0), row(1)])
    words = ("--offline", "--project", "mine", "--no-follow")
    plain = ("--project", "mine", "--no-follow")  # offline by the environment is offline too
    assert run_follow(folder, *plain, env={"WANDB_MODE": "offline"}).returncode == 0
    with (folder / "metrics.jsonl").open("ab") as handle:
        handle.write(lines([row(step) for step in range(2, 12)]))
    done = run_follow(folder, *words)
    assert done.returncode == 0, done.stderr
    assert "continues behind step 1" in done.stderr
    assert wandb_rows(folder) == [{**shown(row(step)), "_step": step} for step in range(12)]


def test_wandb_is_told_group_tags_and_settings_and_nothing_of_the_machine(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "maxrl_s42", [row(0)])
    run_follow(folder, "--offline", "--project", "mine", "--no-follow")
    (path,) = offline_files(folder, state(folder, "wandb")["run_id"])
    (run,) = _wandb_runs(path)
    settings = {item.key: json.loads(item.value_json) for item in run.config.update}
    del settings["_wandb"]
    assert settings == {**FACTS, "lr": 0.1, "max_steps": 30}
    assert (run.project, run.display_name) == ("mine", "maxrl_s42")
    assert run.run_group == "maxrl+gtpo_sepa"
    assert list(run.tags) == ["maxrl+gtpo_sepa", "seed42"]
    assert [file.name for file in (path.parent / "files").iterdir()] == []


def _wandb_runs(path: Path) -> Sequence[Any]:
    from cupel.report.trackers.wandb_files import _records

    return [record.run for record in _records(path) if record.WhichOneof("record_type") == "run"]


def test_trackio_holds_every_value_under_its_documented_name(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "maxrl_s42", [row(0), row(1)])
    store = tmp_path / "store"
    words = ("--tracker", "trackio", "--project", "mine", "--no-follow")
    done = run_follow(folder, *words, env={"TRACKIO_DIR": str(store)})
    assert done.returncode == 0, done.stderr
    with (folder / "metrics.jsonl").open("ab") as handle:
        handle.write(lines([row(step) for step in range(2, 12)]))
    done = run_follow(folder, *words, env={"TRACKIO_DIR": str(store)})
    assert "continues behind step 1" in done.stderr
    expected = [(step, shown(row(step))) for step in range(12)]
    for _, values in expected:
        del values["step"]  # Trackio keeps it beside the values
    assert trackio_rows(store, "mine", state(folder, "trackio")["run_id"]) == expected


def test_wandb_without_a_login_is_one_clear_line(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row(0)])
    env = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "WANDB_MODE": "online"}
    env |= {"WANDB_API_KEY": "", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = run_follow(folder, "--no-follow", env=env)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("cupel: W&B: ")
    assert "--offline" in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("tracker", "extra"),
    [("wandb", "track"), ("tensorboard", "tensorboard"), ("trackio", "trackio")],
)
def test_a_tracker_that_is_not_installed_names_its_extra(
    tracker: TrackerName, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> ModuleType:
        if name.split(".")[0] == tracker:
            raise ModuleNotFoundError(name)
        return real(name, *args)

    monkeypatch.delitem(sys.modules, f"cupel.report.trackers.{tracker}_run", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=rf"pip install 'cupel\[{extra}\]'"):
        opener(tracker)


def test_importing_the_followers_imports_no_tracker_and_no_torch() -> None:
    code = (
        "import sys, cupel.report.trackers, cupel.cli.follow; "
        "sys.exit(bool({'wandb', 'tensorboard', 'trackio', 'torch'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tensorboard_follower_needs_no_torch_and_no_tensorflow() -> None:
    code = (
        "import sys, cupel.report.trackers.tensorboard_run; "
        "sys.exit(bool({'torch', 'tensorflow', 'grpc'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_two_metrics_share_a_tracker_name() -> None:
    names = names_of("rlvr.train")
    values = names.values({metric.name: 1.0 for metric in METRICS})
    assert len(values) == len(METRICS)


def test_event_records_are_found_whole_wherever_the_file_was_cut(tmp_path: Path) -> None:
    payloads = [b"", b"a", b"bc" * 100, b"d" * 7]
    data = b"".join(record(one) for one in payloads)
    ends = [0]
    for one in payloads:
        ends.append(ends[-1] + 16 + len(one))
    path = tmp_path / "events"
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = [end for end in ends if end <= size]
        assert whole_records(path).size == whole[-1]
        cut(path, whole_records(path).size)
        assert list(records(path)) == payloads[: len(whole) - 1]


def test_a_flipped_byte_ends_the_reading_of_an_event_file(tmp_path: Path) -> None:
    data = bytearray(record(b"first") + record(b"second"))
    data[-6] ^= 1
    path = tmp_path / "events"
    path.write_bytes(data)
    assert whole_records(path).last == b"first"
    assert list(records(path)) == [b"first"]
