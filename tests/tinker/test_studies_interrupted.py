"""A client that is killed and a server that is restarted: nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.program import call, finish, start, succeed
from tests.tinker.servers import RealServer
from tests.tinker.studies import (
    assert_once_each,
    manifest_of,
    on,
    rows_of,
    state_of,
    wait_for_rows,
)

pytestmark = pytest.mark.tinker
STEPS = 8
NOTICED_S = 60
"""When a client gives up a server that is gone; its first compilation takes part of it."""
SHORT = ("--max-steps", STEPS, "--save-every", 2)


def test_a_run_killed_mid_arm_continues_with_its_optimizer(
    tmp_path: Path, tinker_server: RealServer
) -> None:
    train = ("train", "--algorithm", "full", "--seed", 5, *on(tinker_server, *SHORT))
    succeed(tmp_path, *train, "--log-dir", "unbroken")
    running = start(tmp_path, *train, "--log-dir", "broken")
    wait_for_rows(tmp_path / "broken", 5, by=running)
    os.killpg(running.pid, signal.SIGKILL)
    finish(running)
    assert not (tmp_path / "broken/result.json").exists()

    succeed(tmp_path, "resume", "broken")

    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    assert_once_each(broken, STEPS)
    assert state_of(broken)["attempts"] == 2
    notes = " ".join(event["message"] for event in state_of(broken)["events"])
    assert "continued from the checkpoint of step" in notes
    # Adam's moments decide how far a step goes: without them the later steps would differ.
    for ours, theirs in zip(rows_of(broken), rows_of(unbroken), strict=True):
        assert ours["correct_rate"] == theirs["correct_rate"], ours["step"]
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4), ours["step"]
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3), ours["step"]


def test_a_study_outlives_a_restart_of_its_server(
    tmp_path: Path, own_tinker_server: RealServer
) -> None:
    server = own_tinker_server
    quick = ("--policy.tinker.deadline-s", NOTICED_S, "--policy.tinker.timeout-s", NOTICED_S)
    study = ("ab", "--campaign-root", "ab", "--seeds", 1, "--no-figures", "--resamples", 200)
    running = start(
        tmp_path,
        *(*study, "--execute", "--workers", 2, "--continue-on-error"),
        *on(server, *SHORT, *quick),
    )
    arms = [tmp_path / "ab/runs" / arm for arm in ("baseline", "candidate")]
    for arm in arms:
        wait_for_rows(arm, 3, by=running)
    server.kill()
    stopped = finish(running)

    assert stopped.returncode == 3, stopped.stderr
    assert "Traceback" not in stopped.stderr
    failures = [entry["failure"] for entry in manifest_of(tmp_path / "ab")["runs"]]
    assert {failure["kind"] for failure in failures} == {"infrastructure"}
    refused = call(tmp_path, "run", "ab", "--no-figures")
    assert refused.returncode == 2
    assert "is it up?" in refused.stderr or "does not answer" in refused.stderr

    server.start()
    succeed(tmp_path, "run", "ab", "--no-figures", "--workers", 2)

    for arm in arms:
        assert_once_each(arm, STEPS)
        assert state_of(arm)["status"] == "done"
    assert (tmp_path / "ab/analysis/significance.json").is_file()
