"""The program under test, called in this process or in a real one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cupel.cli.app import program

Invoke = Callable[..., Result]
Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cupel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Call `cupel` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Result:
        return CliRunner().invoke(program, [str(word) for word in words])

    return call


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Call `python -m cupel` as a process of its own, in an empty folder."""

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cupel", *(str(word) for word in words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call


def says_one_line(result: Result, *parts: str) -> None:
    """Assert exit code 2 and exactly one line on stderr, `cupel: ...`, holding every part."""
    lines = result.stderr.splitlines()
    assert result.exit_code == 2, (result.exit_code, result.output)
    assert len(lines) == 1, lines
    assert lines[0].startswith("cupel: ")
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in lines[0], lines[0]
