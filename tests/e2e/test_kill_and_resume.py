"""A training run killed with SIGKILL again and again ends in the bytes of an unbroken one."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cupel.errors import DataError
from cupel.lab import RunFolder, differing_streams
from tests.e2e.program import TINY, call, start, succeed, values_of

TOY = (
    *("train", "--backend", "toy", "--max-steps", "240", "--save-every", "2"),
    *("--set", "lr=2.0", "--set", "sepa_schedule='auto'", "--set", "sepa.warmup=20"),
)
KINDS = ("start-up", "sampling", "checkpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A planned kill: in which activity, and after which share of the run's rows."""

    kind: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What a kill found: a living process or not, rows written so far, a torn checkpoint or not."""

    kill: Kill
    alive: bool
    rows: int
    torn: bool


def kills_of(rng: random.Random, number: int) -> list[Kill]:
    """Draw kills spread over the run and over what a run does; the first meets the start-up."""
    shares = sorted(rng.uniform(0.05, 0.9) for _ in range(number))
    kinds = itertools.cycle(KINDS)
    return [Kill(kind=kind, share=share) for kind, share in zip(kinds, shares, strict=False)]


def kill_at(folder: Path, process: subprocess.Popen[str], kill: Kill, size: int) -> Hit:
    """Wait for the moment, send SIGKILL, and say what was hit."""
    attempts = attempts_of(folder)
    wait(process, lambda: attempts_of(folder) > attempts)
    if kill.kind != "start-up":
        wait(process, lambda: size_of(folder / "metrics.jsonl") >= kill.share * size)
    if kill.kind == "checkpoint":
        wait(process, lambda: any((folder / "checkpoints").glob(".step_*.tmp")))
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not alive or process.returncode == -signal.SIGKILL
    rows = folder / "metrics.jsonl"
    return Hit(
        kill=kill,
        alive=alive,
        rows=rows.read_bytes().count(b"\n") if rows.is_file() else 0,
        torn=any((folder / "checkpoints").glob(".step_*.tmp")),
    )


def wait(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    """Watch the files until something happened or the process is over."""
    deadline = time.monotonic() + 120
    while process.poll() is None and not happened():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.0002)


def attempts_of(folder: Path) -> int:
    try:
        return int(RunFolder(folder).state()["attempts"])
    except DataError:  # not there yet
        return 0


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def kill_again_and_again(
    root: Path, unbroken: Path, line: tuple[str, ...], *, kills: int, seed: int
) -> list[Hit]:
    """Train, kill, resume, kill, ... until every kill is spent; then resume to the end."""
    folder = root / "broken"
    size = size_of(unbroken / "metrics.jsonl")
    hits = []
    for kill in kills_of(random.Random(seed), kills):
        begun = (folder / "config.json").is_file()
        words = ("resume", "broken") if begun else (*line, "--log-dir", "broken")
        hits.append(kill_at(folder, start(root, *words), kill, size))
    print(f"seed {seed}:", *(f"\n  {hit}" for hit in hits))
    done = call(root, "resume", "broken")
    assert done.returncode == 0, done.stderr
    return hits


def assert_unbroken(broken: Path, unbroken: Path) -> None:
    assert differing_streams(broken, unbroken) == []
    assert values_of(broken) == values_of(unbroken)
    assert not list((broken / "checkpoints").glob(".step_*.tmp"))
    assert RunFolder(broken).state()["status"] == "done"


def assert_kills_landed(hits: list[Hit]) -> None:
    """Most kills met a living process, in every activity, at different places of the run."""
    living = [hit for hit in hits if hit.alive]
    assert len(living) >= 0.8 * len(hits)
    assert set(Counter(hit.kill.kind for hit in living)) == set(KINDS)
    assert len({hit.rows for hit in living}) >= len(living) / 3


@pytest.fixture(scope="module")
def toy_unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the toy policy without a kill."""
    folder = tmp_path_factory.mktemp("toy")
    succeed(folder, *TOY, "--log-dir", "run")
    return folder / "run"


def test_a_toy_run_killed_five_times(tmp_path: Path, toy_unbroken: Path) -> None:
    hits = kill_again_and_again(tmp_path, toy_unbroken, TOY, kills=5, seed=1)
    assert_kills_landed(hits)
    assert_unbroken(tmp_path / "broken", toy_unbroken)
    events = [event["message"] for event in RunFolder(tmp_path / "broken").state()["events"]]
    assert any(text.startswith("continued from the checkpoint of step ") for text in events)


def test_a_tiny_run_killed_between_two_checkpoints(tmp_path: Path, tiny_unbroken: Path) -> None:
    """Step 5 is under way: the last checkpoint is that of step 4."""
    size = size_of(tiny_unbroken / "metrics.jsonl")
    running = start(tmp_path, *TINY, "--log-dir", "broken")
    hit = kill_at(tmp_path / "broken", running, Kill(kind="sampling", share=0.48), size)
    assert hit.alive
    assert hit.rows in (5, 6)
    succeed(tmp_path, "resume", "broken")
    assert_unbroken(tmp_path / "broken", tiny_unbroken)


@pytest.mark.slow
def test_a_tiny_run_killed_twenty_times(tmp_path: Path) -> None:
    line = tuple("60" if word == "10" else word for word in TINY)
    succeed(tmp_path, *line, "--log-dir", "whole")
    seed = random.SystemRandom().randrange(10_000)
    hits = kill_again_and_again(tmp_path, tmp_path / "whole", line, kills=20, seed=seed)
    assert_kills_landed(hits)
    assert_unbroken(tmp_path / "broken", tmp_path / "whole")


@pytest.mark.slow
def test_a_toy_run_killed_twenty_times(tmp_path: Path, toy_unbroken: Path) -> None:
    seed = random.SystemRandom().randrange(10_000)
    hits = kill_again_and_again(tmp_path, toy_unbroken, TOY, kills=20, seed=seed)
    assert_kills_landed(hits)
    assert_unbroken(tmp_path / "broken", toy_unbroken)
