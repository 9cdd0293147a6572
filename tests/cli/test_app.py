"""Starting fast, telling mistakes in one line, and the exit codes."""

from __future__ import annotations

import resource
import subprocess
import sys
from statistics import median

import click
import pytest
from click.testing import CliRunner

from cupel.cli.app import SECTIONS, exit_code_of, program
from cupel.errors import ConfigError, GateFailure
from tests.cli.conftest import Invoke, Shell, says_one_line

COMMANDS = [name for section in SECTIONS.values() for name in section]
HEAVY = ("torch", "transformers", "numpy", "scipy", "pydantic", "rich", "matplotlib")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom cupel.cli.app import program\n"
        "assert CliRunner().invoke(program, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_takes_less_than_three_tenths_of_a_cpu_second() -> None:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "cupel", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert median(seconds) < 0.3


def test_every_command_in_the_help_exists(cupel: Invoke) -> None:
    for name in COMMANDS:
        result = cupel(name, "--help")
        assert result.exit_code == 0, (name, result.output, result.exception)
        assert "Examples:" in result.output, name
        assert f"cupel {name}" in result.output, name


def test_no_command_shows_the_help(cupel: Invoke) -> None:
    result = cupel()
    assert result.exit_code == 0
    assert "cupel run quickstart.toml" in result.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["campain", "--execute"], "did you mean 'campaign'?"),
        (["power", "seeds", "--efect", "1"], "did you mean '--effect'?"),
        (["power", "sseds"], "'seeds'"),
        (["power", "seeds", "--effect", "big", "--run-sd", "1"], "'big' is not"),
        (["power", "seeds"], "missing option '--effect'"),
        (["train", "--max-stpes", "3"], "did you mean '--max-steps'?"),
        (["--nothing"], "no option '--nothing'"),
    ],
)
def test_bad_usage_is_one_line_with_the_nearest_match(
    cupel: Invoke, words: list[str], says: str
) -> None:
    says_one_line(cupel(*words), says)


def test_a_real_process_exits_with_2_and_one_line(shell: Shell) -> None:
    done = shell("plan", "nowhere.toml")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "cupel: nowhere.toml: no such file or folder\n"


def test_debug_shows_the_traceback_anywhere_on_the_line(shell: Shell) -> None:
    for words in (["--debug", "plan", "nowhere.toml"], ["plan", "nowhere.toml", "--debug"]):
        done = shell(*words)
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert done.stderr.rstrip().endswith("cupel: nowhere.toml: no such file or folder")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a\nb"), 2),
        (click.UsageError("a b"), 2),
        (PermissionError(13, "Permission denied", "/a/b"), 2),
        (GateFailure("a b"), 3),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (ZeroDivisionError("a b"), 70),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert exit_code_of(fail, debug=False) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("cupel: ")


def test_version() -> None:
    result = CliRunner().invoke(program, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("cupel 0.")
