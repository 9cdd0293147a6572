"""Paired contrasts, rates and the diagonal, against numbers made by hand or by another route."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cupel.stats.intervals import wilson
from cupel.teach.evaluation.transfer import adjusted, diagonal, paired, rate

OWN = {f"{q}_{f}": q for q in "ABCD" for f in ("demo", "contrast", "hint")}


def own_task(values: dict[str, float]) -> dict[str, str]:
    return {start: start for start in values}


def test_one_start_a_task_is_wilsons_interval() -> None:
    values = {f"t{i}": float(i < 7) for i in range(20)}
    found = rate(values, own_task(values))
    expected = wilson(7, 20)
    assert (found.mean, found.lo, found.hi) == (7 / 20, expected.low, expected.high)


def test_starts_of_one_task_widen_the_interval() -> None:
    values = {f"{task}{copy}": float(task < 10) for task in range(20) for copy in "abc"}
    task_of = {start: start[:-1] for start in values}
    clustered = rate(values, task_of)
    naive = rate(values, own_task(values))
    assert clustered.clusters == 20
    assert clustered.lo is not None
    assert naive.lo is not None
    assert clustered.mean == naive.mean == 0.5
    assert (0.5 - clustered.lo) / (0.5 - naive.lo) == pytest.approx(math.sqrt(3), rel=0.15)


def test_nothing_measured_is_missing_and_not_zero() -> None:
    assert rate({}, {}).mean is None
    assert paired({"a": 1.0}, {"b": 1.0}, {}).delta is None


def test_rates_that_do_not_vary_still_have_an_interval_over_tasks() -> None:
    values = {f"{task}{copy}": 1.0 for task in range(5) for copy in "ab"}
    found = rate(values, {start: start[:-1] for start in values})
    assert (found.lo, found.hi) == (wilson(5, 5).low, wilson(5, 5).high)


def test_paired_contrast_is_the_paired_t_test_when_every_start_is_a_task() -> None:
    rng = np.random.default_rng(3)
    base = {f"t{i}": float(rng.random()) for i in range(30)}
    model = {start: value + 0.1 * float(rng.normal()) + 0.05 for start, value in base.items()}
    found = paired(model, base, own_task(base))
    expected = stats.ttest_rel(list(model.values()), list(base.values()))
    assert found.p == pytest.approx(float(expected.pvalue), rel=1e-9)
    assert found.p_mcnemar is None


def test_only_starts_measured_on_both_sides_are_compared() -> None:
    found = paired({"a": 1.0, "b": 1.0}, {"b": 0.0, "c": 1.0}, {s: s for s in "abc"})
    assert (found.n, found.delta) == (1, 1.0)


def test_mcnemar_counts_discordant_pairs() -> None:
    base = {f"t{i}": float(i < 3) for i in range(12)}
    model = {f"t{i}": float(i >= 2) for i in range(12)}
    found = paired(model, base, own_task(base))
    assert found.p_mcnemar == pytest.approx(
        float(stats.binomtest(2, 11, 0.5).pvalue)  # 2 lost, 9 won
    )


@pytest.mark.parametrize(
    ("shift", "p", "ends"),
    [
        (0.0, 1.0, (-0.4593, 0.4593)),
        (1.0, 2 / 2**6, (0.0815, 1.0)),
        (-1.0, 2 / 2**6, (-1.0, -0.0815)),
    ],
)
def test_differences_that_do_not_vary_have_exact_bounds_and_an_honest_p(
    shift: float, p: float, ends: tuple[float, float]
) -> None:
    """0 of 6 tasks differ: at most 45.93 % of all tasks do (Clopper-Pearson)."""
    base = {f"t{i}": max(0.0, -shift) for i in range(6)}
    found = paired({start: value + shift for start, value in base.items()}, base, own_task(base))
    assert (found.lo, found.hi) == (
        pytest.approx(ends[0], abs=1e-4),
        pytest.approx(ends[1], abs=1e-4),
    )
    assert found.p == p


def test_equal_probabilities_tell_no_interval() -> None:
    base = {f"t{i}": 0.25 for i in range(6)}
    found = paired(dict.fromkeys(base, 0.5), base, own_task(base))
    assert (found.lo, found.hi, found.p) == (None, None, 2 / 2**6)


def test_untested_cells_are_no_members_of_the_family() -> None:
    assert adjusted([0.01, None, 0.04, 0.03]) == [0.03, None, 0.06, 0.06]
    assert adjusted([None]) == [None]


def cells(effect: float, *, easy: float = 0.0, strong: float = 0.0) -> dict[str, dict[str, float]]:
    """One value a (model, start): an own-quadrant effect, an easy column, strong models."""
    return {
        name: {
            f"{column}{i}": effect * (own == column)
            + easy * (column == "A")
            + strong * (own == "B")
            for column in "ABCD"
            for i in range(5)
        }
        for name, own in OWN.items()
    }


QUADRANT_OF = {f"{column}{i}": column for column in "ABCD" for i in range(5)}
TASK_OF = {start: start for start in QUADRANT_OF}


def test_easy_columns_and_strong_models_do_not_enter_the_diagonal() -> None:
    plain = diagonal(cells(0.2), OWN, QUADRANT_OF, TASK_OF)
    shifted = diagonal(cells(0.2, easy=0.5, strong=0.7), OWN, QUADRANT_OF, TASK_OF)
    assert plain.delta == pytest.approx(0.2)
    assert shifted.delta == pytest.approx(0.2)
    assert plain.balanced
    assert plain.columns == 4


def test_a_matrix_with_a_hole_says_that_it_is_not_balanced() -> None:
    some = {name: own for name, own in OWN.items() if own != "C" or name.endswith("hint")}
    assert not diagonal(cells(0.2), some, QUADRANT_OF, TASK_OF).balanced


def test_one_quadrant_alone_has_no_diagonal() -> None:
    only = {name: own for name, own in OWN.items() if own == "A"}
    found = diagonal(cells(0.2), only, QUADRANT_OF, TASK_OF)
    assert (found.delta, found.columns) == (None, 0)


def test_diagonal_error_is_that_of_the_delta_over_tasks() -> None:
    """With one start a task and column, the contrast is a mean of per-start contrasts."""
    rng = np.random.default_rng(5)
    values = {name: {start: float(rng.normal()) for start in TASK_OF} for name in OWN}
    found = diagonal(values, OWN, QUADRANT_OF, TASK_OF)
    by_start = []
    for start, column in QUADRANT_OF.items():
        own = [values[name][start] for name, at in OWN.items() if at == column]
        others = [values[name][start] for name, at in OWN.items() if at != column]
        by_start.append((column, np.mean(own) - np.mean(others)))
    assert found.delta == pytest.approx(np.mean([value for _, value in by_start]))
    centred = [
        value - np.mean([other for at, other in by_start if at == column])
        for column, value in by_start
    ]
    error = math.sqrt(20 / 19 * sum(value**2 for value in centred)) / 20
    half = float(stats.t.isf(0.025, 19)) * error
    assert found.lo == pytest.approx(found.delta - half)


def test_diagonal_holds_its_size_when_starts_share_tasks() -> None:
    """12 models, 4 quadrants, 100 starts of 25 tasks, task effects, no own-quadrant effect."""
    rng = np.random.default_rng(11)
    starts = [f"{column}{i}" for column in "ABCD" for i in range(25)]
    quadrant_of = {start: start[0] for start in starts}
    task_of = {start: start[1:] for start in starts}
    rejected, runs = 0, 400
    for _ in range(runs):
        task_model = rng.normal(size=(25, len(OWN)))
        values = {
            name: {start: float(task_model[int(start[1:]), m] + rng.normal()) for start in starts}
            for m, name in enumerate(OWN)
        }
        p = diagonal(values, OWN, quadrant_of, task_of).p
        rejected += p is not None and p < 0.05
    low, high = wilson(rejected, runs, alpha=0.001).low, wilson(rejected, runs, alpha=0.001).high
    assert low < 0.06
    assert high > 0.03
