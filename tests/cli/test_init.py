"""Templates are valid studies, written once and never over another file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.cli.init import TEMPLATES
from cupel.config import load_toml, merge, validate
from cupel.lab.registry import load_recipe
from cupel.lab.study import StudyConfig
from cupel.rlvr.campaign import condition_settings
from cupel.rlvr.config import TrainConfig, with_backend_defaults
from tests.cli.conftest import Invoke, says_one_line

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_a_valid_commented_study(cupel: Invoke, name: str) -> None:
    result = cupel("init", "--template", name)
    assert result.exit_code == 0, result.output
    assert f"cupel plan {name}.toml" in result.stderr
    assert_is_a_study(Path(f"{name}.toml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_is_valid(path: Path) -> None:
    assert_is_a_study(path)


def test_the_quickstart_study_is_the_quickstart_template(cupel: Invoke) -> None:
    cupel("init", "quickstart.toml")
    shipped = Path(__file__).parents[2] / "studies" / "quickstart.toml"
    assert Path("quickstart.toml").read_text() == shipped.read_text()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_study_is_named_after_its_file(cupel: Invoke, name: str) -> None:
    """Two studies from one template must not meet in one folder."""
    assert cupel("init", "--template", name, "ideas/mine.toml").exit_code == 0
    assert load_toml(Path("ideas/mine.toml"))["name"] == "mine"
    text = Path("ideas/mine.toml").read_text()
    assert f"{name}.toml" not in text
    assert f"results/{name}" not in text


def test_an_existing_file_is_kept(cupel: Invoke) -> None:
    Path("quickstart.toml").write_text("mine")
    says_one_line(cupel("init"), "quickstart.toml exists", "--force")
    assert Path("quickstart.toml").read_text() == "mine"
    assert cupel("init", "--force").exit_code == 0
    assert Path("quickstart.toml").read_text() != "mine"


def test_the_list_names_every_template(cupel: Invoke) -> None:
    listed = json.loads(cupel("init", "--list", "--json").stdout)
    assert [entry["name"] for entry in listed] == list(TEMPLATES)
    assert not list(Path().iterdir())


def test_an_unknown_template_gets_the_nearest(cupel: Invoke) -> None:
    says_one_line(cupel("init", "--template", "quikstart"), "did you mean 'quickstart'?")


def assert_is_a_study(path: Path) -> None:
    """Assert that a file holds a study whose every condition is a valid run."""
    text = path.read_text()
    assert text.startswith("# ")
    study = validate(StudyConfig, load_toml(path), where=str(path))
    assert study.question.endswith("?")
    if study.recipe != "rlvr.train":
        recipe = load_recipe(study.recipe)
        for condition in study.conditions:
            data = recipe.prepare(merge(study.config, condition.config))
            validate(recipe.config_type, data, where=condition.label)
        return
    for condition in study.conditions:
        data = with_backend_defaults(merge(study.config, condition.config))
        config = validate(TrainConfig, data, where=condition.label)
        if "algorithm" not in condition.config:
            assert condition_settings(condition.label).items() <= condition.config.items()
            assert config.label == condition.label
