"""A folder has one writer, on this machine and among many."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cupel.errors import UsageError
from cupel.lab import leases
from cupel.lab.leases import EXIT_LOST, Lease, Watch
from cupel.lab.locks import claim

ELSEWHERE = {"owner": "x", "pid": 7, "host": "node-7", "boot": "another boot", "beat": 1}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.05)
    monkeypatch.setattr(leases, "LEASE_S", 0.4)


@contextmanager
def beating_elsewhere(path: Path) -> Iterator[None]:
    """What another machine's writer looks like from here."""
    stop = threading.Event()

    def beat() -> None:
        count = 0
        while not stop.wait(0.03):
            count += 1
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps({**ELSEWHERE, "beat": count}))
            temporary.replace(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def hold(path: Path, *then: str) -> subprocess.Popen[str]:
    """Claim in a process of its own, say so, and go on as told."""
    code = "\n".join(
        [
            "import sys",
            "from pathlib import Path",
            "from cupel.lab import leases",
            "from cupel.lab.locks import claim",
            "leases.BEAT_S = 0.05",
            f"with claim(Path({str(path)!r}), what='study'):",
            "    print('held', flush=True)",
            *(f"    {line}" for line in then),
        ]
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lease_says_who_lives_and_is_gone_afterwards(tmp_path: Path, quick: None) -> None:
    path = tmp_path / ".lock"
    with claim(path, what="study"):
        lease = Lease(tmp_path / ".lock.lease", what="study")
        watch = Watch(lease)
        holder = watch.look()
        assert holder is not None
        assert holder.is_here
        time.sleep(0.2)
        watch.look()
        assert watch.has_moved
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".lock"]


def test_a_killed_holder_of_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    with hold(tmp_path / ".lock", "sys.stdin.read()") as process:
        with (
            pytest.raises(UsageError, match=rf"run by process {process.pid} on"),
            claim(tmp_path / ".lock", what="study"),
        ):
            pass
        process.kill()
        process.communicate()
    assert (tmp_path / ".lock.lease").is_file()
    started = time.monotonic()
    with claim(tmp_path / ".lock", what="study", wait_s=5.0):
        assert time.monotonic() - started < 2.0


def test_a_living_holder_of_another_machine_is_respected_without_its_lock(
    tmp_path: Path, quick: None
) -> None:
    lease = tmp_path / ".lock.lease"
    lease.write_text(json.dumps(ELSEWHERE))
    with (
        beating_elsewhere(lease),
        pytest.raises(UsageError, match="already being run"),
        claim(tmp_path / ".lock", what="study"),
    ):
        pass


def test_a_silent_holder_of_another_machine_is_taken_over_after_its_lease(
    tmp_path: Path, quick: None
) -> None:
    (tmp_path / ".lock.lease").write_text(json.dumps(ELSEWHERE))
    started = time.monotonic()
    with claim(tmp_path / ".lock", what="study"):
        assert time.monotonic() - started >= 0.4
        assert "another boot" not in (tmp_path / ".lock.lease").read_text()


def test_a_lock_that_a_file_system_kept_for_a_lost_machine_is_taken_over(
    tmp_path: Path, quick: None
) -> None:
    path = tmp_path / ".lock"
    with hold(path, "sys.stdin.read()") as p:
        p.send_signal(signal.SIGSTOP)  # stopped: it keeps its lock, and its lease stands still
        time.sleep(0.1)
        (tmp_path / ".lock.lease").write_text(json.dumps(ELSEWHERE))
        with claim(path, what="study"):
            assert "another boot" not in (tmp_path / ".lock.lease").read_text()
            p.send_signal(signal.SIGCONT)  # it wakes up, finds another owner, and ends itself
            assert p.wait(10) == EXIT_LOST
            assert p.stderr is not None
            assert "taken over by another process" in p.stderr.read()
            p.communicate()


def test_waiting_outlives_a_holder_that_ends(tmp_path: Path, quick: None) -> None:
    lease = tmp_path / ".lock.lease"
    with beating_elsewhere(lease):
        time.sleep(0.1)
    threading.Timer(0.2, lease.unlink).start()
    with claim(tmp_path / ".lock", what="study", wait_s=5.0):
        assert "another boot" not in lease.read_text()
