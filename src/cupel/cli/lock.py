"""`cupel lock`: declare a study before it runs, and hear what the declaration can show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cupel.cli import console
from cupel.cli.plan import make_plan, plan_facts, save_plan, show_plan
from cupel.cli.source import find_study, json_option, set_option

if TYPE_CHECKING:
    from cupel.lab.prospects import Prospect


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Study folder [default: results/<name of the study>].",
)
@click.option(
    "--amend",
    metavar="REASON",
    help="Change a lock whose runs already measured something; kept with every result.",
)
@set_option
@json_option
def command(
    study: Path, out: Path | None, amend: str | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Lock STUDY: write what will be tested, on what and how, with its SHA-256.

    Results read under a lock older than the first of them are confirmatory; all others are
    exploratory. Says the chance of every answer at no, half and the full declared effect, and
    refuses a design that can never reach its alpha. Runs nothing.

    \b
    Examples:
      cupel lock quickstart.toml
      cupel lock quickstart.toml --set decision.effect=0.02 --set decision.effect_sd=0.01
      cupel lock quickstart.toml --amend "a seed was mistyped"
    """
    from cupel.lab.files import read_json
    from cupel.lab.prospects import prospects, refuse_unreachable

    source = find_study(study, overrides=overrides, out=out)
    refuse_unreachable(source.study)
    plan = make_plan(source)
    save_plan(source, plan, amend=amend)
    lock = read_json(source.folder / "plan.lock")
    expected = prospects(plan.study)
    if as_json:
        facts = {"lock": lock, "prospects": [_fact(one) for one in expected]}
        console.print_json({**plan_facts(plan, source.folder), **facts})
        return
    show_plan(plan, source.folder)
    console.line()
    if expected:
        console.table(*prospect_table(expected), title="chance of each answer, simulated")
    else:
        console.line(
            "declare decision.effect and decision.effect_sd to hear the chance of each answer"
        )
    console.line(f"lock sha256 {lock['sha256']}, written {lock['locked_at']}")
    console.note(f"next: cupel run {source.folder}")


def prospect_table(
    expected: Sequence[Prospect],
) -> tuple[list[str], list[list[console.Cell]]]:
    """Return one row a true effect: the chance of each answer and the seeds used on average."""
    columns = [
        *("true effect", "improvement", "degradation", "equivalent", "not established"),
        "seeds used",
    ]
    rows: list[list[console.Cell]] = []
    for one in expected:
        chances = one.chances
        shares = (
            *(chances.improvement, chances.degradation),
            *(chances.equivalent, chances.inconclusive),
        )
        rows.append(
            [f"{one.effect:+g}", *(f"{share:.0%}" for share in shares), f"{chances.mean_seeds:.1f}"]
        )
    return columns, rows


def _fact(one: Prospect) -> dict[str, Any]:
    from dataclasses import asdict

    return {"effect": one.effect, **asdict(one.chances)}
