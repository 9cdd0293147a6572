"""Finding a recipe by name: registered ones by entry point, any other as `module:attribute`.

Knows names. Refuses to import a recipe that was not asked for.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cupel.config import did_you_mean, nearest
from cupel.errors import ConfigError, UsageError
from cupel.lab.recipe import Recipe

GROUP = "cupel.recipes"
_PARTS = ("name", "config_type", "streams", "preload", "prepare", "forecast", "run")


def recipe_names() -> list[str]:
    """Return the names of all registered recipes."""
    return sorted(_registered())


@cache
def load_recipe(name: str) -> Recipe[Any]:
    """Import a recipe: `rlvr.train`, or `my_package.my_module:RECIPE`.

    Raises:
        ConfigError: nothing has this name (the nearest one is named), or it is no recipe.
    """
    recipe = _load_attribute(name) if ":" in name else _load_registered(name)
    missing = [part for part in _PARTS if not hasattr(recipe, part)]
    if missing:
        raise ConfigError(f"recipe '{name}' is no recipe: it lacks {', '.join(missing)}")
    return recipe  # type: ignore[no-any-return]


def check_shared(recipe: str, processes: int) -> None:
    """Refuse a recipe whose runs so many processes cannot share.

    Raises:
        UsageError: names the recipe and what to do.
    """
    if processes > 1 and not getattr(load_recipe(recipe), "together", False):
        raise UsageError(
            f"recipe '{recipe}' runs in one process, not in {processes} as --executor torchrun "
            "would run it; use --executor processes"
        )


@cache
def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load_registered(name: str) -> Any:
    entry = _registered().get(name)
    if entry is None:
        hint = did_you_mean(name, recipe_names())
        raise ConfigError(f"recipe '{name}' is not registered; {hint}, or give 'module:ATTRIBUTE'")
    return entry.load()


def _load_attribute(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"recipe '{name}': {error}; is the module on the Python path?") from None
    if not hasattr(module, attribute):
        match = nearest(attribute, dir(module))
        hint = f"; did you mean '{match}'?" if match is not None else ""
        raise ConfigError(f"recipe '{name}': {module_name} has no '{attribute}'{hint}")
    return getattr(module, attribute)
