"""What goes wrong on a server, as the user sees it: one line, nothing made up, the study continues.

The scripted server stands in because no real one misbehaves when asked; nothing is learned on it.
"""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

pytest.importorskip("tinker")

from tests.e2e.program import call
from tests.tinker.fake_server import FakeServer
from tests.tinker.faults import Fault
from tests.tinker.studies import assert_once_each, manifest_of, state_of

pytestmark = pytest.mark.usefixtures("tinker_key")
STEPS = 3
QUICK = (
    *("--policy.tinker.timeout-s", 15, "--policy.tinker.deadline-s", 20),
    *("--policy.tinker.retries", 1, "--policy.tinker.backoff-s", 0.01),
)


def ab(folder: Path, server: FakeServer, *words: object) -> CompletedProcess[str]:
    """Execute an A/B with one seed; a table solves nothing, so uniform groups are trained on."""
    return call(
        folder,
        *("ab", "--backend", "tinker", "--base-url", server.url, "--model", server.base_model),
        *("--lora-rank", 4, "--problems.source", "arithmetic", "--no-problems.chat-template"),
        *("--strategic-grams", "arithmetic", "--max-tokens", 8, "--temperature", 1),
        *("--batch-size", 2, "--group-size", 2, "--uninformative-groups", "keep"),
        *("--max-steps", STEPS, "--save-every", 1, "--eval-problems", 2, "--seeds", 1),
        *("--campaign-root", "ab", "--execute", "--executor", "inline", "--no-figures"),
        *("--resamples", 200, *QUICK, *words),
    )


def failures(folder: Path) -> list[dict[str, str]]:
    """Return what the manifest says of the failed runs."""
    return [entry["failure"] for entry in manifest_of(folder / "ab")["runs"] if entry["failure"]]


def error_line(done: CompletedProcess[str]) -> str:
    """Return the one line that says what was wrong; exit code 2."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("cupel: ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("words", "faults", "says"),
    [
        (("--model", "no/such-model"), (), ("serves no model 'no/such-model'", "it has")),
        (
            (),
            (
                Fault(
                    route="create_session",
                    kind="status",
                    status=400,
                    calls=99,
                    text="client 0.25.0 is older than this server accepts",
                ),
            ),
            ("older than this server accepts",),
        ),
        (
            (),
            (Fault(route="create_session", kind="status", status=401, calls=99, text="bad key"),),
            ("bad key",),
        ),
    ],
    ids=["unknown-model", "version", "key"],
)
def test_what_a_server_refuses_beforehand_is_one_line_and_nothing_runs(
    tmp_path: Path,
    fake_tinker: FakeServer,
    words: tuple[object, ...],
    faults: tuple[Fault, ...],
    says: tuple[str, ...],
) -> None:
    fake_tinker.script.set(faults)
    line = error_line(ab(tmp_path, fake_tinker, *words))
    assert all(part in line for part in says), line
    assert "tml-" not in line
    assert {run["status"] for run in manifest_of(tmp_path / "ab")["runs"]} == {"planned"}


def test_an_address_with_something_else_behind_it(tmp_path: Path, fake_tinker: FakeServer) -> None:
    elsewhere = f"{fake_tinker.url}/elsewhere"
    line = error_line(ab(tmp_path, fake_tinker, "--base-url", elsewhere))
    assert "no Tinker server is there" in line


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(route="asample", kind="missing_logprobs", calls=999), "log-probabilities"),
        (
            Fault(
                route="forward_backward",
                kind="status",
                status=422,
                call=3,
                calls=999,
                text="datum 0: no such field",
            ),
            "datum 0: no such field",
        ),
        (
            Fault(
                route="asample",
                kind="status",
                status=404,
                call=6,
                calls=999,
                text="session expired",
            ),
            "session expired",
        ),
    ],
    ids=["no-logprobs", "datum", "session"],
)
@pytest.mark.tinker
def test_a_failure_on_the_way_is_recorded_and_the_study_continues(
    tmp_path: Path, fake_tinker: FakeServer, fault: Fault, says: str
) -> None:
    fake_tinker.script.set([fault])
    stopped = ab(tmp_path, fake_tinker, "--retries", 0, "--continue-on-error")
    assert stopped.returncode == 3, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert says in stopped.stderr
    found = failures(tmp_path)
    assert {failure["kind"] for failure in found} == {"infrastructure"}
    assert all(says in failure["message"] for failure in found)

    fake_tinker.script.set([])
    again = call(tmp_path, "run", "ab", "--executor", "inline", "--no-figures")
    assert again.returncode == 0, again.stderr
    assert not failures(tmp_path)
    for arm in ("baseline", "candidate"):
        assert_once_each(tmp_path / "ab/runs" / arm, STEPS)


@pytest.mark.tinker
def test_one_expired_session_is_mended_without_a_word_from_the_user(
    tmp_path: Path, fake_tinker: FakeServer
) -> None:
    fake_tinker.script.set(
        [Fault(route="asample", kind="status", status=404, call=7, text="session expired")]
    )
    done = ab(tmp_path, fake_tinker)
    assert done.returncode == 0, done.stderr
    runs = [tmp_path / "ab/runs" / arm for arm in ("baseline", "candidate")]
    assert sorted(state_of(run)["attempts"] for run in runs) == [1, 2]
    for run in runs:
        assert_once_each(run, STEPS)
