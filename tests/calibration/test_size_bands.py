"""The shipped calibration: every procedure inside its band, every faulty one caught."""

from __future__ import annotations

import numpy as np
import pytest

from cupel.errors import ConfigError
from cupel.stats.calibration import (
    NOISY,
    SHORT_CELLS,
    THREE,
    Report,
    Row,
    calibrate,
    full_cells,
    run_cells,
)

CONTROLS = {
    "pooled Fisher": 0.30,
    "shuffled seeds": 0.30,
    "percentile bootstrap": 0.15,
    "naive doubling": 0.07,
    "sweep runs tested again": 0.05,
}


def told(rows: tuple[Row, ...]) -> str:
    return "\n".join(
        f"{r.procedure} | {r.cell}: {r.rate:.4f} outside {r.low:.4f} to {r.high:.4f}" for r in rows
    )


@pytest.fixture(scope="module")
def short() -> Report:
    return calibrate("short", seed=11)


def test_every_procedure_is_inside_its_band(short: Report) -> None:
    assert short.ok, told(short.breaches)
    kinds = {row.kind for row in short.rows}
    assert kinds == {
        "size",
        "coverage",
        "family",
        "looks",
        "equivalence",
        "power",
        "control",
        "limit",
    }
    assert {row.cell for row in short.rows if row.kind == "size"} >= {c.name for c in SHORT_CELLS}


def test_faulty_procedures_are_caught(short: Report) -> None:
    controls = {row.procedure: row for row in short.rows if row.kind == "control"}
    for name, least in CONTROLS.items():
        assert controls[name].rate >= least
        assert controls[name].low == least


def test_a_faulty_procedure_that_passes_is_a_breach(short: Report) -> None:
    control = next(row for row in short.rows if row.procedure == "pooled Fisher")
    tame = Row(
        procedure=control.procedure,
        cell=control.cell,
        kind="control",
        rate=0.05,
        low=control.low,
        high=control.high,
        replications=2_000,
    )
    assert not Report(tier="short", seed=0, rows=(tame,)).ok


def test_an_exact_test_at_twice_its_level_would_be_seen() -> None:
    """Power of the trial itself: a test that errs 10 % at a stated 5 % leaves its band."""
    row = next(
        row
        for row in run_cells([NOISY], 2_000, np.random.default_rng(12))
        if row.procedure == "sign_flip at 0.05"
    )
    rng = np.random.default_rng(13)
    rates = rng.binomial(2_000, 0.10, size=1_000) / 2_000
    assert np.mean(rates > row.high) > 0.999
    honest = rng.binomial(2_000, 0.047, size=1_000) / 2_000
    assert np.mean(honest > row.high) < 0.002


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    first, again, other = (calibrate("short", seed=s, replications=200) for s in (1, 1, 2))
    assert first == again
    assert [row.rate for row in first.rows] != [row.rate for row in other.rows]


def test_no_size_is_claimed_below_the_floor(short: Report) -> None:
    three = [row for row in short.rows if row.cell == THREE.name and "sign_flip" in row.procedure]
    assert [row.rate for row in three] == [0.0] * 4


def test_the_full_grid_covers_seeds_noise_shapes_and_rates() -> None:
    cells = full_cells()
    assert len({cell.name for cell in cells}) >= 80
    assert {cell.seeds for cell in cells} == {3, 5, 6, 8, 10, 16, 32}
    assert {cell.shape for cell in cells} == {"normal", "t3", "collapse", "bimodal"}


def test_unknown_tiers_are_refused() -> None:
    with pytest.raises(ConfigError, match="allowed: short, full"):
        calibrate("quick")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="replications"):
        calibrate(replications=10)


@pytest.mark.slow
def test_the_full_grid_holds_its_bands() -> None:
    report = calibrate("full", seed=20261121)
    assert report.ok, told(report.breaches)
