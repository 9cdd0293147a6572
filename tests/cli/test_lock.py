"""`cupel lock`: the declaration, its chances, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cupel.cli.app import program

STUDY = """
name = "locked"
seeds = {seeds}
[config]
backend = "toy"
[[conditions]]
label = "grpo"
config = {{ algorithm = "grpo" }}
[[conditions]]
label = "full"
config = {{ algorithm = "full" }}
[decision]
effect = 0.04
effect_sd = 0.02
margin = 0.03
{more}
"""
EIGHT = "[1, 2, 3, 4, 5, 6, 7, 8]"


def lock(folder: Path, *words: str, seeds: str = EIGHT, more: str = "") -> Result:
    (folder / "study.toml").write_text(STUDY.format(seeds=seeds, more=more))
    line = ["lock", str(folder / "study.toml"), "--out", str(folder / "out"), *words]
    return CliRunner().invoke(program, line)


def test_a_lock_is_written_and_its_hash_is_said(tmp_path: Path) -> None:
    done = lock(tmp_path)
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "out" / "plan.lock").read_text())
    assert written["sha256"] in done.output
    assert written["lock"]["seeds"] == list(range(1, 9))
    assert not list((tmp_path / "out" / "runs").rglob("metrics.jsonl"))


def test_the_chances_are_those_of_the_declared_design(tmp_path: Path) -> None:
    facts = json.loads(lock(tmp_path, "--json").stdout)
    none, half, full = facts["prospects"]
    assert [one["effect"] for one in (none, half, full)] == [0.0, 0.02, 0.04]
    for one in (none, half, full):
        total = sum(one[name] for name in ("improvement", "degradation", "equivalent"))
        assert total + one["inconclusive"] == pytest.approx(1.0)
    assert none["improvement"] + none["degradation"] < 0.07
    assert none["equivalent"] > 0.8
    assert full["improvement"] > 0.95
    assert half["improvement"] < full["improvement"]
    assert json.loads(lock(tmp_path, "--json").stdout)["prospects"] == facts["prospects"]


def test_looks_end_early_when_the_effect_is_large(tmp_path: Path) -> None:
    seeds = str(list(range(1, 17)))
    facts = json.loads(lock(tmp_path, "--json", seeds=seeds, more="looks = [8, 16]").stdout)
    assert facts["prospects"][2]["mean_seeds"] < 10


def test_a_design_that_cannot_reach_its_alpha_is_refused(tmp_path: Path) -> None:
    done = lock(tmp_path, seeds="[1, 2, 3]")
    assert done.exit_code == 2
    assert "3 seeds cannot reach alpha 0.05: the smallest possible p is 0.25" in done.output
    assert not (tmp_path / "out").exists()


def test_without_a_guess_of_the_spread_no_chance_is_invented(tmp_path: Path) -> None:
    text = STUDY.format(seeds=EIGHT, more="").replace("effect_sd = 0.02\n", "")
    (tmp_path / "study.toml").write_text(text)
    line = ["lock", str(tmp_path / "study.toml"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(program, line)
    assert done.exit_code == 0
    assert "declare decision.effect and decision.effect_sd" in done.output
