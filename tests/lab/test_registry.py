"""A recipe is found by its name, and a wrong name is answered with the nearest one."""

from __future__ import annotations

import pytest
from lab_toy_recipe import RECIPE

from cupel.errors import ConfigError
from cupel.lab.registry import load_recipe, recipe_names


def test_a_recipe_is_found_by_module_and_attribute() -> None:
    assert load_recipe("lab_toy_recipe:RECIPE") is RECIPE


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rlvr.trian", "is not registered; did you mean 'rlvr.train'"),
        ("lab_toy_recipe:RECIP", "has no 'RECIP'; did you mean 'RECIPE'"),
        ("lab_toy_recip:RECIPE", "is the module on the Python path"),
        ("lab_toy_recipe:METRICS", "is no recipe: it lacks name, config_type"),
    ],
)
def test_a_wrong_name_is_explained(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_recipe(name)


def test_registered_names_are_listed() -> None:
    assert "rlvr.train" in recipe_names()
