"""`cupel models`: builds and lists the models that ship with Cupel."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import Stop, suggestion
from cupel.cli.source import json_option, threads_option

MODELS = ("tiny", "tiny-shop")
"""tiny: the arithmetic of `cupel train`; tiny-shop: the student of `cupel teach`."""


@click.group()
def command() -> None:
    """Build and list the models that ship with Cupel.

    \b
    Examples:
      cupel models list
      cupel models build tiny
      cupel models build tiny-shop
    """


@command.command(name="list", short_help="List built models: shipped and cached.")
@json_option
def list_models(as_json: bool) -> None:
    """List built models: where they lie, their hash, and what they reached when built.

    \b
    Examples:
      cupel models list
      cupel models list --json
    """
    from cupel.policy.built import cache_root

    rows = built_models()
    if as_json:
        console.print_json({"cache": cache_root(), "models": rows})
    elif not rows:
        console.line("no model is built; cupel models build tiny")
    else:
        console.table(
            ["model", "where", "weights sha256", "sampled", "greedy"],
            [
                (
                    row["name"],
                    row["folder"],
                    row["weights_sha256"][:16],
                    *_reached(row),
                )
                for row in rows
            ],
        )


@command.command(short_help="Build a model from nothing and keep it in the cache.")
@click.argument("name")
@click.option("--force", is_flag=True, help="Build again even if it is there.")
@threads_option
@json_option
def build(name: str, force: bool, threads: int, as_json: bool) -> None:
    """Build model NAME from nothing and keep it in the cache.

    tiny: the start of `cupel train`, about a minute. tiny-shop: the student of `cupel teach`, two
    to three minutes. A model that ships with Cupel is taken as it is, unless --force is given.

    \b
    Examples:
      cupel models build tiny
      cupel models build tiny-shop --force
    """
    if name not in MODELS:
        raise Stop(f"no model '{name}'; {suggestion(name, MODELS)}")
    folder = _arithmetic(force, threads) if name == "tiny" else _shop(force, threads)
    facts = model_facts(name, folder)
    if as_json:
        console.print_json(facts)
    else:
        console.line(f"{name}: {folder}")
        console.line(f"weights sha256 {facts['weights_sha256']}")


def _arithmetic(force: bool, threads: int) -> Path:
    from cupel.policy.built import cache_root
    from cupel.policy.tiny_build import WarmStart, build_key, build_tiny, cached_build
    from cupel.rlvr.warm_start import ArithmeticCorpus

    corpus: Any = ArithmeticCorpus()
    recipe = WarmStart()
    if not force:
        return cached_build(corpus, recipe, threads=threads)
    folder = _emptied(cache_root() / f"tiny-{build_key(corpus, recipe)}")
    console.note(f"building the tiny model in {folder}: about a minute")
    build_tiny(corpus, recipe, folder, threads=threads)
    return folder


def _shop(force: bool, threads: int) -> Path:
    from cupel.policy.built import cache_root
    from cupel.teach.students.warm_start import (
        ShopStart,
        build_key,
        build_shop_student,
        cached_build,
    )

    recipe = ShopStart()
    if not force:
        return cached_build(recipe, threads=threads)
    folder = _emptied(cache_root() / f"tiny-shop-{build_key(recipe)}")
    console.note(f"building the tiny shop student in {folder}: two to three minutes")
    build_shop_student(recipe, folder, threads=threads)
    return folder


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def built_models() -> list[dict[str, Any]]:
    """Return one entry for each shipped model and each in the cache."""
    from cupel.policy.built import BUILD_RECORD, SHIPPED, SHOP, cache_root

    found = [folder for folder in (SHIPPED, SHOP) if (folder / BUILD_RECORD).is_file()]
    found += sorted(path.parent for path in cache_root().glob(f"*/{BUILD_RECORD}"))
    return [model_facts(_name(folder), folder) for folder in found]


def _name(folder: Path) -> str:
    return "tiny-shop" if folder.name.startswith("tiny-shop") else "tiny"


def _reached(facts: dict[str, Any]) -> tuple[float, float]:
    """Return the share of right answers, or of successes, at T = 1 and greedily."""
    kind = "accuracy" if "accuracy_sampled" in facts else "success"
    return facts[f"{kind}_sampled"], facts[f"{kind}_greedy"]


def model_facts(name: str, folder: Path) -> dict[str, Any]:
    """Return where a model lies, and its build record: hash, accuracies, recipe, versions."""
    from cupel.policy.built import BUILD_RECORD

    record: dict[str, Any] = json.loads((folder / BUILD_RECORD).read_text(encoding="utf-8"))
    return {"name": name, "folder": str(folder), **record}
