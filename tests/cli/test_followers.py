"""A tracker beside a study: started by a flag or the study file, and never noticed by the runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cupel.config import load_toml
from tests.cli.conftest import Invoke, Shell, says_one_line

TOY = ("--backend", "toy", "--max-steps", "5", "--eval-problems", "4")
STUDY = (*TOY, "--seeds", "1", "--conditions", "grpo+none", "--campaign-root", "c")
RUN = ("--execute", "--executor", "inline", "--no-figures")


def test_the_flags_become_the_study_files_follow_table(cupel: Invoke) -> None:
    words = ("--wandb-project", "mine", "--wandb-entity", "us", "--wandb-offline")
    assert cupel("campaign", *STUDY, *words).exit_code == 0
    expected = {"tracker": "wandb", "project": "mine", "entity": "us", "offline": True}
    assert load_toml(Path("c/study.toml"))["follow"] == expected
    plain = json.loads(Path("c/plan.lock").read_text())["sha256"]
    assert cupel("campaign", *STUDY).exit_code == 0
    assert "follow" not in load_toml(Path("c/study.toml"))
    assert json.loads(Path("c/plan.lock").read_text())["sha256"] == plain  # not what is declared


@pytest.mark.parametrize("command", ["campaign", "ab", "sweep", "train"])
def test_an_entity_without_a_project_is_refused(cupel: Invoke, command: str) -> None:
    says_one_line(cupel(command, "--wandb-offline"), "--wandb-project")


def test_a_run_name_without_a_project_is_refused(cupel: Invoke) -> None:
    says_one_line(cupel("train", "--wandb-run-name", "x"), "--wandb-project")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "give PATH"),
        (("run", "--metrics-path", "run/metrics.jsonl"), "give PATH"),
        (("nowhere",), "nowhere: no such folder"),
        ((".",), "no run in it"),
        (("--metrics-path", "nowhere/metrics.jsonl"), "no folder nowhere"),
        ((".", "--offline", "--tracker", "tensorboard"), "--offline is for wandb"),
        ((".", "--entity", "us", "--tracker", "trackio"), "--entity is for wandb"),
        ((".", "--tracker", "mlflow"), "wandb"),
        ((".", "--poll-seconds", "0"), "--poll-seconds"),
    ],
)
def test_bad_usage_of_follow_is_one_line(cupel: Invoke, words: tuple[str, ...], part: str) -> None:
    says_one_line(cupel("follow", *words), part)


def wait_for(path: Path, word: str) -> str:
    """Wait until a file holds a word, and return its text."""
    for _ in range(600):
        if path.is_file() and word in path.read_text():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{path}: no {word}: {path.read_text() if path.is_file() else 'no file'}")


def test_a_study_file_starts_a_follower_that_sends_everything_and_ends(
    shell: Shell, tmp_path: Path
) -> None:
    assert shell("campaign", *STUDY).returncode == 0
    text = (tmp_path / "c" / "study.toml").read_text()
    (tmp_path / "mine.toml").write_text(f'{text}\n[follow]\ntracker = "tensorboard"\n')
    done = shell("run", "mine.toml", "--executor", "inline", "--no-figures")
    assert done.returncode == 0, done.stderr
    assert "followed into tensorboard" in done.stderr
    run = tmp_path / "results" / "c" / "runs" / "grpo+none_s1"
    wait_for(run / "follow" / "tensorboard.json", '"ended": "done"')
    (events,) = (run / "tensorboard").iterdir()
    assert events.stat().st_size > 0


def test_a_tracker_that_cannot_start_changes_nothing_but_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B without a login: the run goes on, to the rows it has without a tracker."""
    for name, value in {
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / "none"),
        "WANDB_API_KEY": "",
        "WANDB_BASE_URL": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    rows = {}
    for place, words in (("plain", ()), ("followed", ("--wandb-project", "mine"))):
        command = ["campaign", *STUDY[:-1], place, *words, *RUN]
        done = subprocess.run(
            [sys.executable, "-m", "cupel", *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        path = tmp_path / place / "runs" / "grpo+none_s1" / "emergence" / "generations.jsonl"
        rows[place] = path.read_bytes()
    assert rows["plain"] == rows["followed"]
    assert "wandb login" in wait_for(tmp_path / "followed" / "follow.log", "cupel: W&B")


def test_a_follower_that_is_killed_leaves_the_run_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cupel", "train", *TOY, "--log-dir", "run"]
    command[command.index("5")] = "700"
    with subprocess.Popen(
        [*command, "--wandb-project", "mine", "--wandb-offline"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        wait_for(tmp_path / "run" / "follow" / "wandb.json", '"pid"')
        follower = json.loads((tmp_path / "run" / "follow" / "wandb.json").read_text())["pid"]
        os.kill(follower, signal.SIGKILL)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    assert (tmp_path / "run" / "result.json").is_file()
