"""Does 5 % mean 5 %? Every procedure tried on simulated campaigns, against stated bands.

Knows cells, bands and the faulty procedures that must fail, which proves that the trial can see.
Refuses to pass a procedure whose rate lies outside its band, and to pass when a faulty one does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cupel.errors import ConfigError
from cupel.stats import procedures
from cupel.stats.campaign_power import paired_t_p_values, pooled_p_values
from cupel.stats.nested import Cell, Shape, simulate
from cupel.stats.permutation import sign_flip_p_values
from cupel.stats.power import paired_t_power
from cupel.stats.samples import FloatArray, positive

Tier = Literal["short", "full"]
Kind = Literal["size", "coverage", "family", "looks", "equivalence", "power", "control", "limit"]
ALPHA = 0.05
LEVELS = (0.001, 0.01, 0.05, 0.10)
Z = 3.29
"""Monte Carlo slack in standard errors: about 2 % false alarms over 40 cells."""
MOST_ENUMERATED = 16
_COLLAPSED_BOOTSTRAP = (0.0, 0.15)
"""Where 5 % of the runs collapse the studentised bootstrap errs up to 11 %: a limit, not a size.
It showed 8.5 % at 10 and 11.5 % at 16 seeds, outside the band set for it beforehand; that is one
reason why it is a companion and never the verdict."""
REPLICATIONS: dict[Tier, int] = {"short": 2_000, "full": 20_000}

NOISY = Cell(name="noisy: 8 x 1600, run .20", prompts=100, group=16, run_sd=0.2)
THREE = Cell(name="three seeds x 1600", seeds=3, prompts=100, group=16)
SHORT_CELLS = (
    Cell(name="mild: 8 x 160, run .10"),
    Cell(name="no run noise", run_sd=0.0),
    NOISY,
    Cell(name="rare: rate .019", rate=0.01875),
    Cell(name="5 % collapses", prompts=100, group=16, shape="collapse"),
    THREE,
    Cell(name="five seeds x 1600", seeds=5, prompts=100, group=16),
    Cell(name="six seeds, t3", seeds=6, run_sd=0.2, shape="t3"),
    Cell(name="ten seeds, bimodal", seeds=10, run_sd=0.2, shape="bimodal"),
    Cell(name="sixteen seeds x 160", seeds=16),
    Cell(name="20 % missing", missing=0.2),
    Cell(name="64000 a run", prompts=400, group=160),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rate and the band it must lie in.

    Attributes:
        kind: `control` rows are faulty procedures and must fail; a `limit` row shows a known
            weakness of every seed-level test.
        low, high: the band, Monte Carlo slack included.
    """

    procedure: str
    cell: str
    kind: Kind
    rate: float
    low: float
    high: float
    replications: int

    @property
    def ok(self) -> bool:
        """Say whether the rate lies in its band."""
        return self.low <= self.rate <= self.high

    @property
    def error(self) -> float:
        """Monte Carlo standard error of the rate."""
        return math.sqrt(self.rate * (1 - self.rate) / self.replications)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All rows of one calibration; the same tier and seed give the same rows."""

    tier: Tier
    seed: int
    rows: tuple[Row, ...]

    @property
    def breaches(self) -> tuple[Row, ...]:
        """Rows outside their band."""
        return tuple(row for row in self.rows if not row.ok)

    @property
    def ok(self) -> bool:
        """Say whether every row lies in its band."""
        return not self.breaches


def slack(rate: float, replications: int) -> float:
    """Return the Monte Carlo slack of a rate, 3.29 standard errors."""
    return Z * math.sqrt(rate * (1 - rate) / replications)


def at_most(rate: float, replications: int) -> tuple[float, float]:
    """Return the band of an exact procedure: no more than its level."""
    return 0.0, rate + slack(rate, replications)


def between(low: float, high: float, replications: int) -> tuple[float, float]:
    """Return a band widened by Monte Carlo slack on both sides."""
    return low - slack(low, replications), high + slack(high, replications)


def calibrate(tier: Tier = "short", *, seed: int = 0, replications: int | None = None) -> Report:
    """Try every procedure on simulated data and compare with its band.

    Args:
        tier: `short` takes seconds; `full` covers the whole grid with ten times the replications.
        seed: of the simulation; use a fresh one after every change to a procedure.
        replications: overrides the tier's number.

    Raises:
        ConfigError: an unknown tier, or fewer than 200 replications.
    Source: Morris, White & Crowther 2019 (ADEMP); Bradley 1978 (bands of robustness).
    """
    if tier not in REPLICATIONS:
        raise ConfigError(f"calibrate: tier '{tier}' is unknown; allowed: short, full")
    number = replications if replications is not None else REPLICATIONS[tier]
    positive(number, where="calibrate", name="replications", at_least=200)
    cells = SHORT_CELLS if tier == "short" else (*SHORT_CELLS, *full_cells())
    generators = np.random.default_rng([seed, 71]).spawn(8)
    rows = [*run_cells(cells, number, generators[0])]
    for part, generator in zip(_PARTS, generators[1:], strict=True):
        rows.extend(part(number, generator))
    return Report(tier=tier, seed=seed, rows=tuple(rows))


def full_cells() -> tuple[Cell, ...]:
    """Return the grid of the full tier: seeds by noise and shape by size, rates and spreads."""
    noise: tuple[tuple[float, Shape], ...] = (
        (0.05, "normal"),
        (0.2, "normal"),
        (0.2, "t3"),
        (0.1, "collapse"),
        (0.2, "bimodal"),
    )
    grid = [
        Cell(name="", seeds=seeds, prompts=prompts, group=group, run_sd=sd, shape=shape)
        for seeds in (3, 5, 6, 8, 10, 16, 32)
        for prompts, group in ((20, 8), (100, 16))
        for sd, shape in noise
    ]
    grid += [
        Cell(name="", rate=rate, prompt_sd=spread)
        for rate in (0.01875, 0.1, 0.3, 0.6)
        for spread in (0.0, 1.5, 3.0)
    ]
    grid += [Cell(name="", prompts=400, group=160, run_sd=sd) for sd in (0.05, 0.2)]
    return tuple(replace(cell, name=_described(cell)) for cell in grid)


def _described(cell: Cell) -> str:
    return (
        f"{cell.seeds} x {cell.prompts * cell.group}, rate {cell.rate:g}, run {cell.run_sd:g}, "
        f"prompt {cell.prompt_sd:g}, {cell.shape}"
    )


def run_cells(cells: Sequence[Cell], replications: int, rng: np.random.Generator) -> Iterator[Row]:
    """Yield the false rejection rates of every procedure in null cells, with their bands."""
    for cell, stream in zip(cells, rng.spawn(len(cells)), strict=True):
        yield from _size_rows(cell, replications, stream)


def _size_rows(cell: Cell, replications: int, rng: np.random.Generator) -> Iterator[Row]:
    nested = simulate(cell, replications, rng)
    d_RS, number = nested.differences_RS, replications

    def row(name: str, rate: float, band: tuple[float, float], kind: Kind = "size") -> Row:
        return Row(
            procedure=name,
            cell=cell.name,
            kind=kind,
            rate=rate,
            low=band[0],
            high=band[1],
            replications=number,
        )

    if cell.seeds <= MOST_ENUMERATED:
        p_R = sign_flip_p_values(d_RS)
        for level in LEVELS:
            rate = float(np.mean(p_R < level))
            yield row(f"sign_flip at {level:g}", rate, at_most(level, number))
    widest = 0.065 if cell.shape == "normal" else 0.075
    least = 0.015 if cell.seeds > 3 and cell.shape == "normal" else 0.0
    rate = float(np.mean(paired_t_p_values(d_RS) < ALPHA))
    yield row("paired_t", rate, between(least, widest, number))
    if 5 <= cell.seeds <= MOST_ENUMERATED:
        boot_R = procedures.bootstrap_t_rejects(d_RS, alpha=ALPHA, rng=rng)
        if cell.shape == "collapse":
            yield row("bootstrap_t", float(np.mean(boot_R)), _COLLAPSED_BOOTSTRAP, "limit")
        else:
            yield row("bootstrap_t", float(np.mean(boot_R)), between(0.0, 0.07, number))
    if cell is NOISY:
        rate = float(np.mean(pooled_p_values(nested) < ALPHA))
        yield row("pooled Fisher", rate, (0.30, 1.0), "control")
        shuffled_R = procedures.shuffled_seed_p_values(nested, rng) < ALPHA
        yield row("shuffled seeds", float(np.mean(shuffled_R)), (0.30, 1.0), "control")
    if cell is THREE:
        percentile_R = procedures.percentile_bootstrap_rejects(d_RS, alpha=ALPHA, rng=rng)
        yield row("percentile bootstrap", float(np.mean(percentile_R)), (0.15, 1.0), "control")


def _row(
    procedure: str,
    cell: str,
    kind: Kind,
    flags: NDArray[np.bool_] | FloatArray,
    band: tuple[float, float],
) -> Row:
    return Row(
        procedure=procedure,
        cell=cell,
        kind=kind,
        rate=float(np.mean(flags)),
        low=band[0],
        high=band[1],
        replications=len(flags),
    )


def _coverage_rows(replications: int, rng: np.random.Generator) -> Iterator[Row]:
    number = min(replications, 4_000)
    designs: tuple[tuple[str, int, FloatArray], ...] = (
        ("normal, 8 seeds", 8, rng.normal(0.4, 1.0, size=(number, 8))),
        ("t3, 6 seeds", 6, rng.standard_t(3, size=(number, 6)) + 0.4),
        ("normal, 12 seeds", 12, rng.normal(0.4, 1.0, size=(number // 4, 12))),
    )
    for name, _, d_RS in designs:
        covers_R, agrees_R = procedures.sign_flip_covers(d_RS, 0.4)
        band = between(0.935, 0.975, len(d_RS))
        yield _row("sign-flip interval", name, "coverage", covers_R, band)
        yield _row("interval and p agree", name, "coverage", agrees_R, (1.0, 1.0))
        covers_R = procedures.paired_t_covers(d_RS, 0.4)
        yield _row("t-interval", name, "coverage", covers_R, between(0.935, 0.975, len(d_RS)))


def _two_way_rows(replications: int, rng: np.random.Generator) -> Iterator[Row]:
    number = min(replications, 4_000)
    for seeds, prompts, seed_sd, prompt_sd in (
        (3, 30, 0.0, 0.5),
        (8, 30, 0.2, 0.5),
        (8, 100, 0.5, 0.2),
        (16, 60, 0.3, 0.3),
    ):
        covers_R = procedures.two_way_covers(
            number, seeds=seeds, prompts=prompts, seed_sd=seed_sd, prompt_sd=prompt_sd, rng=rng
        )
        name = f"{seeds} seeds x {prompts} prompts, sd {seed_sd:g} and {prompt_sd:g}"
        yield _row("two-way interval", name, "coverage", covers_R, between(0.93, 0.975, number))
    covers_R = procedures.wrong_prompt_error_covers(
        number, seeds=8, prompts=100, seed_sd=0.5, rng=rng
    )
    yield _row("prompt error alone", "8 seeds that differ", "control", covers_R, (0.0, 0.80))


def _family_rows(replications: int, rng: np.random.Generator) -> Iterator[Row]:
    number = min(replications, 2_000) // 2
    for contrasts, true in ((4, 0), (4, 2), (10, 0)):
        found = procedures.family_rejects(
            number, contrasts=contrasts, true=true, seeds=10, alpha=ALPHA, rng=rng
        )
        name = f"{contrasts} contrasts, {true} true, 10 seeds"
        for method in ("holm", "max_t"):
            yield _row(method, name, "family", found[method], at_most(ALPHA, number))
        yield _row(
            "benjamini_hochberg", name, "family", found["bh_fdp"], at_most(2 * ALPHA, number)
        )
        if contrasts == 10:
            yield _row("no correction", name, "control", found["uncorrected"], (0.10, 1.0))


def _look_rows(replications: int, rng: np.random.Generator) -> Iterator[Row]:
    d_RS = rng.normal(size=(replications, 16))
    band = at_most(ALPHA, replications)
    name = "8 then 16 seeds"
    pocock_R = procedures.looks_reject(d_RS, alpha=ALPHA, spending="pocock")
    yield _row("pocock", name, "looks", pocock_R, band)
    obf_R = procedures.looks_reject(d_RS, alpha=ALPHA, spending="obrien_fleming")
    yield _row("obrien_fleming", name, "looks", obf_R, band)
    adaptive_R = procedures.adaptive_stages_reject(d_RS, alpha=ALPHA)
    yield _row("inverse_normal", "8, then as an adversary likes", "looks", adaptive_R, band)
    long_RS = rng.normal(size=(min(replications, 4_000), 512))
    ever_R = procedures.e_process_rejects(long_RS, alpha=ALPHA)
    yield _row("e-process", "any of 512 looks", "looks", ever_R, at_most(ALPHA, len(long_RS)))
    naive_R = procedures.naive_doubling_rejects(d_RS, alpha=ALPHA)
    yield _row("naive doubling", name, "control", naive_R, (0.07, 1.0))


def _equivalence_rows(replications: int, rng: np.random.Generator) -> Iterator[Row]:
    number = min(replications, 4_000)
    for seeds in (5, 8, 16):
        at_margin_RS = rng.normal(1.0, 1.0, size=(number, seeds))
        passes_R = procedures.tost_passes(at_margin_RS, margin=1.0, alpha=ALPHA)
        name = f"effect at the margin, {seeds} seeds"
        yield _row("tost", name, "equivalence", passes_R, at_most(ALPHA, number))


def _power_rows(replications: int, rng: np.random.Generator) -> Iterator[Row]:
    for seeds, effect in ((8, 1.156), (10, 1.0), (16, 0.75)):
        p_R = sign_flip_p_values(rng.normal(effect, 1.0, size=(replications, seeds)))
        planned = paired_t_power(effect, seeds)
        tolerance = 0.03 + slack(planned, replications)
        band = (planned - tolerance, planned + tolerance)
        name = f"{seeds} seeds, effect {effect:g} sd, planned {planned:.3f}"
        yield _row("sign_flip power", name, "power", p_R < ALPHA, band)


def _sweep_rows(replications: int, rng: np.random.Generator) -> Iterator[Row]:
    for reuse in (True, False):
        improved_R = procedures.sweep_rejects(
            replications, grid=4, seeds=8, reuse=reuse, alpha=ALPHA, rng=rng
        )
        if reuse:
            yield _row("sweep runs tested again", "grid 4", "control", improved_R, (0.05, 1.0))
        else:
            band = at_most(ALPHA / 2, replications)
            yield _row("sweep on disjoint seeds", "grid 4", "size", improved_R, band)
    skewed_RS = np.where(rng.random((replications, 8)) < 0.1, -6.0, 2 / 3)
    skewed_RS = skewed_RS + rng.normal(size=skewed_RS.shape)
    unseen_R = (sign_flip_p_values(skewed_RS) < ALPHA) & (skewed_RS.mean(axis=1) > 0)
    yield _row(
        "sign_flip, collapse unseen", "mean 0, 10 % at -6 sd", "limit", unseen_R, (0.05, 0.3)
    )


_PARTS: tuple[Callable[[int, np.random.Generator], Iterator[Row]], ...] = (
    _coverage_rows,
    _two_way_rows,
    _family_rows,
    _look_rows,
    _equivalence_rows,
    _power_rows,
    _sweep_rows,
)
