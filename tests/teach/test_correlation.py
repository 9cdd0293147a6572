"""Promises: the figures of phase 1B are what they are called; headroom is not foresight."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cupel.errors import DataError
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.validation.correlation import Pair, agreement, gate, partial_spearman


def pairs(
    n: int, *, slope: float = 0.0, seed: int = 0, per_task: int = 1, q1_bonus: float = 0.0
) -> list[Pair]:
    rng = np.random.default_rng(seed)
    made = []
    for at in range(n):
        cpt = float(rng.normal())
        quadrant = QUADRANTS[at % 4]
        bonus = q1_bonus if quadrant == QUADRANTS[0] else 0.0
        made.append(
            Pair(
                snapshot_id=f"s{at}",
                task_id=f"t{at // per_task}",
                quadrant=quadrant,
                cpt=cpt,
                effect=slope * cpt + float(rng.normal()) + bonus,
                base=float(rng.uniform()),
                log_pi=cpt,
            )
        )
    return made


def found(rows: list[Pair], seed: int = 1):  # type: ignore[no-untyped-def]
    return agreement(rows, rng=np.random.default_rng(seed))


def test_spearman_and_pearson_are_those_of_scipy() -> None:
    rows = pairs(60, slope=0.7)
    cpt, effect = [row.cpt for row in rows], [row.effect for row in rows]
    got = found(rows)
    for ours, theirs in (
        (got.spearman, stats.spearmanr(cpt, effect)),
        (got.pearson, stats.pearsonr(cpt, effect)),
    ):
        assert ours.value == pytest.approx(theirs.statistic)
        assert ours.p == pytest.approx(theirs.pvalue)
        assert ours.lo < ours.value < ours.hi


def test_the_partial_correlation_is_that_of_rank_residuals() -> None:
    rng = np.random.default_rng(0)
    given = rng.normal(size=80)
    first, second = given + rng.normal(size=80), given + rng.normal(size=80)
    ranks = [stats.rankdata(values) for values in (first, second, given)]
    residuals = [side - np.polyval(np.polyfit(ranks[2], side, 1), ranks[2]) for side in ranks[:2]]
    want = np.corrcoef(*residuals)[0, 1]
    assert partial_spearman(first, second, given) == pytest.approx(want)


def test_two_gains_limited_by_the_same_headroom_correlate_and_the_partial_says_so() -> None:
    rng = np.random.default_rng(3)
    rows = []
    for at in range(400):
        base = float(rng.uniform())
        gains = (1 - base) * rng.uniform(size=2)
        rows.append(
            Pair(
                snapshot_id=f"s{at}", task_id=f"t{at}", quadrant=QUADRANTS[0],
                cpt=float(gains[0]), effect=float(gains[1]), base=base,
            )
        )  # fmt: skip
    got = found(rows)
    assert got.spearman.value > 0.25
    assert abs(got.partial.value) < 0.1 < got.spearman.lo


def test_moments_of_one_task_do_not_count_as_independent() -> None:
    alone = pairs(50, slope=1.0)
    copied = [
        Pair(snapshot_id=f"{row.snapshot_id}-{copy}", task_id=row.task_id, quadrant=row.quadrant,
             cpt=row.cpt, effect=row.effect, base=row.base)
        for row in alone for copy in range(8)
    ]  # fmt: skip
    one, many = found(alone).spearman, found(copied).spearman
    assert many.value == pytest.approx(one.value)
    assert (many.hi - many.lo) == pytest.approx(one.hi - one.lo, rel=0.15)


def test_noise_lowers_the_ceiling_and_exact_values_have_none() -> None:
    rows = pairs(100, slope=1.0)
    assert found(rows).ceiling == pytest.approx(1.0)
    noisy = [
        Pair(snapshot_id=row.snapshot_id, task_id=row.task_id, quadrant=row.quadrant, cpt=row.cpt,
             effect=row.effect, base=row.base, cpt_noise=0.5, effect_noise=0.5)
        for row in rows
    ]  # fmt: skip
    got = found(noisy)
    assert 0.2 < got.ceiling < 0.9
    assert got.ceiling == pytest.approx(got.cpt_ceiling * got.effect_ceiling)


def test_the_gate_passes_what_it_says_and_gives_reasons_otherwise() -> None:
    good = gate(found(pairs(200, slope=1.0, q1_bonus=2.0)))
    assert good.proceed
    assert good.reasons == ()
    weak = gate(found(pairs(200, slope=0.0, q1_bonus=2.0)))
    assert not weak.proceed
    assert weak.q1_above_q2
    assert "is not at least 0.3" in weak.reasons[0]
    wrong = gate(found(pairs(200, slope=1.0, q1_bonus=-2.0)))
    assert wrong.spearman_at_least
    assert not wrong.q1_above_q2
    assert not wrong.proceed


def test_what_never_varies_is_not_defined_and_does_not_pass() -> None:
    rows = [
        Pair(snapshot_id=f"s{at}", task_id=f"t{at}", quadrant=QUADRANTS[at % 4],
             cpt=float(at), effect=0.0, base=0.5)
        for at in range(20)
    ]  # fmt: skip
    got = found(rows)
    assert got.spearman.value is None
    assert got.partial.value is None
    assert not gate(got).proceed


def test_a_quadrant_without_moments_has_no_numbers() -> None:
    rows = [row for row in pairs(80) if row.quadrant != QUADRANTS[1]]
    got = found(rows)
    assert got.quadrants[QUADRANTS[1]].n == 0
    assert got.quadrants[QUADRANTS[1]].mean_effect.value is None
    assert got.q1_minus_q2.value is None
    assert not gate(got).q1_above_q2


def test_fewer_than_two_moments_are_refused() -> None:
    with pytest.raises(DataError, match="1 moments"):
        found(pairs(1))


def test_equal_input_gives_equal_figures() -> None:
    rows = pairs(40, slope=0.5, per_task=2)
    assert found(rows) == found(rows)
