"""Fields of a config become flags, and only what was passed is handed on."""

from __future__ import annotations

import json
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import Field

from cupel.cli.app import exit_code_of
from cupel.cli.flags import config_flags, passed
from cupel.config import Config, validate


class Inner(Config):
    """A nested table."""

    threads: int = 2
    """Threads to use."""


class Outer(Config):
    """Every kind of field."""

    max_steps: int = 5
    """Steps to train."""
    lr: float | None = None
    """Learning rate."""
    mode: Literal["fast", "exact"] = "exact"
    """How to count."""
    greedy: bool = True
    """Also decode greedily."""
    band: tuple[float, float] | None = None
    """Allowed band."""
    grams: Literal["default"] | list[str] = "default"
    """Phrases."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Free-form; no flag."""
    inner: Inner = Field(default_factory=Inner)
    """Nested."""


@click.command()
@config_flags(Outer, also={"inner.threads": ["--threads"]}, defaults={"lr": "0.1 (tiny)"})
@click.pass_context
def command(ctx: click.Context) -> None:
    """Echo what was passed."""
    data = passed(ctx)
    validate(Outer, data, where="flags")
    click.echo(json.dumps(data))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--max-steps", "5"], {"max_steps": 5}),
        (["--lr", "1e-4"], {"lr": 1e-4}),
        (["--lr", "none"], {"lr": None}),
        (["--mode", "fast"], {"mode": "fast"}),
        (["--no-greedy"], {"greedy": False}),
        (["--greedy"], {"greedy": True}),
        (["--band", "0.1,0.2"], {"band": [0.1, 0.2]}),
        (["--grams", "default"], {"grams": "default"}),
        (["--grams", "wait,let me see"], {"grams": ["wait", "let me see"]}),
        (["--inner.threads", "3"], {"inner": {"threads": 3}}),
        (["--threads", "3"], {"inner": {"threads": 3}}),
    ],
)
def test_only_what_was_passed_is_handed_on(words: list[str], expected: dict[str, Any]) -> None:
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == expected


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--max-steps", "many"], "'many' is not a whole number"),
        (["--max-steps", "1.5"], "'1.5' is not a whole number"),
        (["--lr", "fast"], "'fast' is not a number"),
        (["--mode", "fats"], "did you mean 'fast'?"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(lambda: command.main(words, standalone_mode=False), debug=False) == 2
    assert says in capsys.readouterr().err


def test_the_help_is_the_docstring_and_the_default() -> None:
    text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert "--max-steps INTEGER Steps to train. [default: 5]" in text
    assert "--mode fast|exact How to count. [default: exact]" in text
    assert "--greedy / --no-greedy" in text
    assert "[default: 0.1 (tiny)]" in text
    assert "--inner.threads, --threads INTEGER" in text
    assert "--extra" not in text
