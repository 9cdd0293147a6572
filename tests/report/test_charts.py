"""Data of charts: exact to five figures, gaps kept, shared steps once; the library as vendored."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cupel.report.chart_data import chart_data, compact_steps, rounded
from cupel.report.charts import Figure, prepare
from cupel.report.palette import inks
from cupel.report.view import Curve

UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""SHA-256 of the files of uPlot 1.6.32 as its npm package holds them."""


def curve(seed: int, values: list[float], *, steps: list[float] | None = None) -> Curve:
    places = np.arange(len(values), dtype=np.float64) if steps is None else np.array(steps)
    return Curve(
        condition="a<b", seed=seed, failed=seed == 2, steps_T=places, values_T=np.array(values)
    )


def test_the_vendored_library_is_what_its_package_holds() -> None:
    folder = files("cupel.report").joinpath("assets", "vendor", "uplot")
    found = {name: hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() for name in UPLOT}
    assert found == UPLOT
    assert b"(v1.6.32)" in folder.joinpath("uPlot.iife.min.js").read_bytes()[:80]


@given(st.floats(-1e9, 1e9, allow_nan=False))
def test_five_figures_are_kept(value: float) -> None:
    found = float(rounded(np.array([value]))[0])
    assert abs(found - value) <= 5.1e-5 * abs(value) + 1e-290


def test_rounding_keeps_gaps_and_writes_no_tails() -> None:
    found = rounded(np.array([np.nan, 0.0, 1 / 3, -2 / 3, 123456.7]))
    assert np.isnan(found[0])
    assert json.dumps(found[1:].tolist()) == "[0.0, 0.33333, -0.66667, 123460.0]"


def test_even_steps_are_three_numbers_and_others_are_told_one_by_one() -> None:
    assert compact_steps(np.array([0.0, 2, 4, 6])) == {"first": 0.0, "by": 2.0, "count": 4}
    assert list(compact_steps(np.array([0.0, 2, 5, 6]))) == [0, 2, 5, 6]


def test_a_figure_tells_gaps_seeds_and_where_seeds_drop_out() -> None:
    curves = [
        curve(1, [0.1, float("nan"), 0.3, 0.4]),
        curve(2, [0.1, 0.2]),
        curve(3, [0.5, 0.6], steps=[0.0, 3.0]),
    ]
    drawn = prepare(curves, ["a<b"], "rate")
    text = chart_data(Figure(slug="f", title="t", unit="rate"), drawn, inks(["a<b"]))
    assert "<" not in text
    data = json.loads(text)
    assert data["runs"][0]["y"] == [0.1, None, 0.3, 0.4]
    assert "x" not in data["runs"][1]
    assert data["runs"][1]["failed"] is True
    assert data["runs"][2]["x"] == [0, 3]
    assert data["bands"][0]["part"] == 2
    assert data["bands"][0]["mean"][0] == 0.23333
