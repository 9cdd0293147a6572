"""The power tables: documented figures, honest floors."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

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


def test_lists_and_the_exact_tests_stand_beside(cupel: Invoke) -> None:
    words = ("--p0", 0.01875, "--lift", ".0100,.0126,.0150,.0200", "--smoke", 160)
    rows = json.loads(cupel("power", "proportions", *words, "--json").stdout)["per_arm"]
    assert [row["lift"] for row in rows] == [0.01, 0.0126, 0.015, 0.02]
    assert [row["times_pilot"] for row in rows] == [22.7, 15.1, 11.1, 6.8]
    assert [row["fisher"] for row in rows] == [3802, 2537, 1881, 1157]
    assert all(row["mid_p"] < row["fisher"] < row["fleiss"] for row in rows)


def test_formats_say_the_same_numbers(cupel: Invoke) -> None:
    words = ("power", "proportions", "--p0", 0.01875, "--lift", ".01,.02")
    rows = list(csv.DictReader(io.StringIO(cupel(*words, "--csv").stdout)))
    assert [(row["seed_compat"], row["lift"]) for row in rows] == [
        ("3639", "0.01"),
        ("1095", "0.02"),
    ]
    latex, markdown = cupel(*words, "--latex").stdout, cupel(*words, "--markdown").stdout
    for text in (latex, markdown, cupel(*words).stdout):
        assert "3639" in text
        assert "independent" in text
    assert "\\toprule" in latex
    assert "% source sha256: " in latex
    assert "| seed compat |" in markdown
    says_one_line(cupel(*words, "--csv", "--latex"), "--csv and --latex", "choose one")


def test_a_campaign_is_simulated_the_same_way_twice(cupel: Invoke) -> None:
    words = ("power", "campaign", "--p0", 0.3, "--lift", 0.04, "--run-sd", 0.02)
    words += ("--seeds", "4,8", "--simulations", 300, "--json")
    first = cupel(*words)
    assert first.stdout == cupel(*words).stdout
    few, many = json.loads(first.stdout)["designs"]
    assert (few["seeds"], few["power"], few["size"]) == (4, 0.0, 0.0)
    assert many["power"] > 0.7
    assert many["size"] < 0.1 < 0.3 < many["pooled_size"]


@pytest.mark.parametrize(
    "words",
    [
        ("proportions", "--p0", 0.3, "--lift", ".02,.05"),
        ("seeds", "--effect", 0.03, "--run-sd", 0.02),
        ("campaign", "--p0", 0.3, "--lift", 0.1, "--run-sd", 0.02, "--simulations", 100),
    ],
)
def test_a_power_curve_is_drawn_and_always_the_same(cupel: Invoke, words: tuple[object]) -> None:
    for name in ("a.svg", "b.svg", "c.png"):
        result = cupel("power", *words, "--figure", name)
        assert result.exit_code == 0, result.output
        assert f"wrote {name}" in result.stderr
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()
    assert ">power</text>" in Path("a.svg").read_text()
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")
    says_one_line(cupel("power", *words, "--figure", "x.gif"), "x.gif", ".png, .svg, .pdf")


@pytest.mark.parametrize("lift", ["x", ".01,,.02", "nan"])
def test_a_lift_that_is_no_number_is_refused(cupel: Invoke, lift: str) -> None:
    says_one_line(cupel("power", "proportions", "--p0", 0.3, "--lift", lift), "--lift")


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
    assert needed == (7 if words else 10)


def test_an_impossible_rate_is_refused(cupel: Invoke) -> None:
    says_one_line(cupel("power", "proportions", "--p0", 0.9, "--lift", 0.2), "p0 + lift")
