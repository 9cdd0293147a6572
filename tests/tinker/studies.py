"""Words of the commands that the study tests share, and how their run folders are read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.tinker.servers import Server


def on(server: Server, *words: object) -> tuple[object, ...]:
    """Return the flags of a small study of the shipped start on this server."""
    return (
        *("--backend", "tinker", "--base-url", server.url, "--model", server.base_model),
        *("--lora-rank", 8, "--problems.source", "arithmetic", "--no-problems.chat-template"),
        *("--strategic-grams", "arithmetic", "--max-tokens", 48, "--temperature", 1),
        *("--batch-size", 4, "--group-size", 8, "--sepa-steps", 10, "--sepa-delay-steps", 2),
        *("--eval-problems", 32, "--lr", 1e-3, *words),
    )


def without_rate(words: tuple[object, ...]) -> tuple[object, ...]:
    """Return the words without `--lr`: a sweep chooses it."""
    at = words.index("--lr")
    return (*words[:at], *words[at + 2 :])


def rows_of(run: Path, stream: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """Read the rows that are complete by now."""
    path = run / stream
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def state_of(run: Path) -> dict[str, Any]:
    """Read run.json."""
    state: dict[str, Any] = json.loads((run / "run.json").read_text())
    return state


def manifest_of(study: Path) -> dict[str, Any]:
    """Read manifest.json."""
    manifest: dict[str, Any] = json.loads((study / "manifest.json").read_text())
    return manifest


def wait_for_rows(
    run: Path, count: int, *, by: subprocess.Popen[str], within_s: float = 300.0
) -> None:
    """Return when a process has written so many rows of a run's metrics.jsonl; it must not end."""
    deadline = time.monotonic() + within_s
    while len(rows_of(run)) < count:
        late = time.monotonic() > deadline
        if late or by.poll() is not None:
            os.killpg(by.pid, signal.SIGKILL) if late else None
            said = by.communicate()[1]
            raise AssertionError(f"{run}: {len(rows_of(run))} rows, late: {late}\n{said}")
        time.sleep(0.05)


def assert_once_each(run: Path, steps: int) -> None:
    """Assert that no step is missing or written twice, in any stream that counts steps."""
    assert [row["step"] for row in rows_of(run)] == list(range(steps))
    assert [row["step"] for row in rows_of(run, "emergence/steps.jsonl")] == list(range(steps))
    drawn = [row["step"] for row in rows_of(run, "emergence/generations.jsonl")]
    counts = {step: drawn.count(step) for step in drawn}
    assert list(counts) == list(range(steps))
    assert len(set(counts.values())) == 1, counts
    evaluated = [row["step"] for row in rows_of(run, "evaluations.jsonl")]
    assert evaluated == sorted(set(evaluated))
