"""`cupel explain`: what a study file, or a file of settings, would do, in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cupel.cli import console
from cupel.cli.diff import flat
from cupel.cli.source import find_study, json_option, set_option

if TYPE_CHECKING:
    from cupel.lab.study import StudyConfig


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@set_option
@json_option
def command(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say in words what a study file, or a settings file for `cupel train`, would do.

    \b
    Examples:
      cupel explain quickstart.toml
      cupel explain quickstart.toml --set seeds=[1,2,3]
    """
    from cupel.config import apply_overrides, load_toml

    recipe = "rlvr.train"
    if file.is_dir() or "conditions" in load_toml(file):
        study = find_study(file, overrides=overrides).study
        facts, recipe = study_facts(study), study.recipe
        tables = {"shared": study.config} | {c.label: c.config for c in study.conditions}
    else:
        facts = [f"one run of {recipe} with the settings of {file}"]
        tables = {"settings": apply_overrides(load_toml(file), overrides)}
    settings = {where: _dotted(table) for where, table in tables.items()}
    meanings = field_meanings(recipe)
    if as_json:
        rows = [
            {"where": where, "key": key, "value": str(value), "meaning": meanings.get(key, "")}
            for where, table in settings.items()
            for key, value in table.items()
        ]
        console.print_json({"facts": facts, "settings": rows})
        return
    for fact in facts:
        console.line(fact)
    _show_settings(settings, meanings)


def _show_settings(settings: Mapping[str, Mapping[str, Any]], meanings: Mapping[str, str]) -> None:
    """Print what all runs share, what varies by condition, and once what each setting means."""
    (name, shared), *conditions = settings.items()
    varied = list(dict.fromkeys(key for _, table in conditions for key in table))
    if shared:
        console.line()
        console.table([name, "value"], [(key, str(value)) for key, value in shared.items()])
    if varied:
        console.line()
        rows = [
            (label, *(str(table[key]) if key in table else None for key in varied))
            for label, table in conditions
        ]
        console.table(["condition", *varied], rows)
    known = [(key, meanings[key]) for key in dict.fromkeys([*shared, *varied]) if key in meanings]
    if known:
        console.line()
        console.table(["setting", "meaning"], known)


def study_facts(study: StudyConfig) -> list[str]:
    """Return one sentence a fact: what runs, what is measured, and how it is decided."""
    runs = len(study.labels) * len(study.seeds)
    facts = [
        f"{study.name}: {study.question or 'no question stated'}",
        f"Runs: {runs} = {len(study.labels)} conditions x {len(study.seeds)} seeds "
        f"of {study.recipe}.",
        f"Endpoint: {study.endpoint.metric}, {_window(study.endpoint.over)}; "
        f"{'higher' if study.endpoint.higher_is_better else 'lower'} is better.",
    ]
    if study.tuning is not None:
        chosen = f"{study.tuning.setting} of each method by {study.tuning.select}"
        return [*facts, f"A sweep: chooses {chosen}; nothing is tested on its runs."]
    if study.primary is None:
        return [*facts, "Decision: none; one condition can be described but not tested."]
    baseline, candidate = study.primary
    rule = study.decision
    test = {"sign_flip": "exact sign-flip test", "paired_t": "paired t-test"}[rule.primary_test]
    facts.append(
        f"Decision: {candidate} against {baseline}, {test} on the differences of equal seeds, "
        f"two-sided alpha {rule.alpha:g}."
    )
    floor = 2.0 / 2 ** min(len(study.seeds), 1000)
    if rule.primary_test == "sign_flip" and floor > rule.alpha:
        facts.append(
            f"With {len(study.seeds)} seeds the smallest p this test can reach is {floor:.3g}: "
            f"no outcome can be significant at {rule.alpha:g}."
        )
    if rule.secondary:
        pairs = ", ".join(f"{right} vs {left}" for left, right in rule.secondary)
        facts.append(f"Secondary, tested together with Holm's correction: {pairs}.")
    return facts


def field_meanings(recipe: str) -> dict[str, str]:
    """Return the docstring of every setting of a recipe, by its dotted path."""
    from cupel.config import setting_fields
    from cupel.lab.registry import load_recipe

    return {
        path: " ".join((field.description or "").split())
        for path, field in setting_fields(load_recipe(recipe).config_type)
    }


def _dotted(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix("x."): value for key, value in flat("x", table).items() if key != "x"}


def _window(over: str) -> str:
    if over == "last":
        return "the last value of the run"
    if over == "all":
        return "averaged over the whole run"
    kind, _, span = over.partition(" ")
    if kind == "last":
        return f"averaged over the last {span} of the steps"
    return f"averaged over steps {span.replace(':', ' to ')}"
