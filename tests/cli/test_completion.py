"""Shell completion: a real shell completes commands and options, and no command is imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cupel.cli.app import program

BASH = shutil.which("bash")


def _complete(words: str, at: int) -> list[str]:
    asked = {"_CUPEL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    done = subprocess.run(
        [sys.executable, "-m", "cupel"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_options_and_commands_of_a_group_are_completed() -> None:
    assert _complete("cupel re", 1) == ["resume", "report"]
    assert _complete("cupel report --pa", 2) == ["--paper"]
    assert _complete("cupel teach mi", 2) == ["mine"]


def test_completing_a_command_imports_none() -> None:
    code = (
        "import sys, click; from cupel.cli.app import program;"
        "found = program.shell_complete(click.Context(program), 'sw');"
        "print([item.value for item in found], [n for n in sys.modules if 'cli.sweep' in n])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "['sweep'] []"


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_the_printed_script_is_one_that_bash_takes(tmp_path: Path) -> None:
    printed = CliRunner().invoke(program, ["completion", "bash"], standalone_mode=False)
    script = tmp_path / "completion.sh"
    script.write_text(printed.output)
    done = subprocess.run(
        [str(BASH), "-c", f"source {script} && complete -p cupel"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "cupel" in done.stdout, done.stderr


def test_another_shell_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cupel", "completion", "csh"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "bash" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
