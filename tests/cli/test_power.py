"""The power tables: documented figures, honest floors."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Invoke, says_one_line


def test_the_documented_table_is_reproduced(cupel: Invoke) -> None:
    lifts = (0.01, 0.0126, 0.015, 0.02)
    words = [word for lift in lifts for word in ("--lift", lift)]
    result = cupel("power", "proportions", "--p0", 0.01875, *words, "--pilot", 160, "--json")
    rows = json.loads(result.stdout)["per_arm"]
    assert [row["seed_compat"] for row in rows] == [3639, 2414, 1782, 1095]
    assert [row["normal"] for row in rows] == [3639, 2414, 1783, 1095]
    assert [row["times_pilot"] for row in rows] == [22.7, 15.1, 11.1, 6.8]


def test_a_design_effect_multiplies(cupel: Invoke) -> None:
    words = ("power", "proportions", "--p0", 0.01875, "--lift", 0.0126, "--json")
    once = json.loads(cupel(*words).stdout)["per_arm"][0]
    four = json.loads(cupel(*words, "--design-effect", 4).stdout)["per_arm"][0]
    assert four["fleiss"] == 4 * once["fleiss"]


def test_few_seeds_have_no_power_whatever_the_effect(cupel: Invoke) -> None:
    result = cupel("power", "seeds", "--effect", 10, "--run-sd", 0.1, "--json")
    designs = {row["seeds"]: row for row in json.loads(result.stdout)["designs"]}
    assert designs[5]["smallest_p"] == 0.0625
    assert designs[5]["power_at_effect"] == 0
    assert designs[5]["smallest_effect_found"] is None
    assert designs[6]["smallest_p"] == 0.03125
    assert designs[6]["power_at_effect"] > 0.99


@pytest.mark.parametrize("words", [["--rho", 0.5], []])
def test_pairing_buys_power(cupel: Invoke, words: list[object]) -> None:
    shown = cupel("power", "seeds", "--effect", 0.03, "--run-sd", 0.02, *words)
    assert shown.exit_code == 0
    needed = int(shown.stdout.splitlines()[0].rsplit(" ", 1)[1])
    assert needed == (6 if words else 10)


def test_an_impossible_rate_is_refused(cupel: Invoke) -> None:
    says_one_line(cupel("power", "proportions", "--p0", 0.9, "--lift", 0.2), "p0 + lift")
