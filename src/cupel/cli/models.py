"""`cupel models`: builds and lists the models that ship with Cupel."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import Stop, suggestion
from cupel.cli.source import json_option

MODELS = ("tiny",)


@click.group()
def command() -> None:
    """Build and list the models that ship with Cupel.

    \b
    Examples:
      cupel models list
      cupel models build tiny
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
    from cupel.policy.tiny import cache_root

    rows = built_models()
    if as_json:
        console.print_json({"cache": cache_root(), "models": rows})
    elif not rows:
        console.line("no model is built; cupel models build tiny")
    else:
        console.table(
            ["model", "where", "weights sha256", "accuracy sampled", "greedy"],
            [
                (
                    row["name"],
                    row["folder"],
                    row["weights_sha256"][:16],
                    row["accuracy_sampled"],
                    row["accuracy_greedy"],
                )
                for row in rows
            ],
        )


@command.command(short_help="Build a model from nothing and keep it in the cache.")
@click.argument("name")
@click.option("--force", is_flag=True, help="Build again even if it is there.")
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads."
)
@json_option
def build(name: str, force: bool, threads: int, as_json: bool) -> None:
    """Build model NAME from nothing (about a minute for tiny) and keep it in the cache.

    \b
    Examples:
      cupel models build tiny
      cupel models build tiny --force
    """
    if name not in MODELS:
        raise Stop(f"no model '{name}'; {suggestion(name, MODELS)}")
    from cupel.policy.tiny import cache_root
    from cupel.policy.tiny_build import WarmStart, build_key, build_tiny, cached_build
    from cupel.rlvr.warm_start import ArithmeticCorpus

    corpus: Any = ArithmeticCorpus()
    recipe = WarmStart()
    if force:
        folder = cache_root() / f"tiny-{build_key(corpus, recipe)}"
        console.note(f"building the tiny model in {folder}: about a minute")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        build_tiny(corpus, recipe, folder, threads=threads)
    else:
        folder = cached_build(corpus, recipe, threads=threads)
    facts = model_facts(name, folder)
    if as_json:
        console.print_json(facts)
    else:
        console.line(f"{name}: {folder}")
        console.line(f"weights sha256 {facts['weights_sha256']}")


def built_models() -> list[dict[str, Any]]:
    """Return one entry for the shipped model and one for each in the cache."""
    from cupel.policy.tiny import BUILD_RECORD, SHIPPED, cache_root

    found = [SHIPPED] if (SHIPPED / BUILD_RECORD).is_file() else []
    found += sorted(path.parent for path in cache_root().glob(f"*/{BUILD_RECORD}"))
    return [model_facts("tiny", folder) for folder in found]


def model_facts(name: str, folder: Path) -> dict[str, Any]:
    """Return where a model lies, and its build record: hash, accuracies, recipe, versions."""
    from cupel.policy.tiny import BUILD_RECORD

    record: dict[str, Any] = json.loads((folder / BUILD_RECORD).read_text(encoding="utf-8"))
    return {"name": name, "folder": str(folder), **record}
