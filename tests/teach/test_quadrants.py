"""Cuts: where they are fitted, what is high, what is refused, and how sure a class is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cupel.config import validate
from cupel.errors import DataError
from cupel.teach.branches.arms import Arm
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.labelling.leverage import leverage_of
from cupel.teach.labelling.quadrants import (
    QuadrantConfig,
    assign,
    counts_of,
    fit_thresholds,
    quadrant_of,
    short_of,
)
from tests.teach.label_runs import corridor_moments

MOMENTS = corridor_moments(range(60))
TRAIN = [moment for moment in MOMENTS if moment.split == "train"]
OTHER = [moment for moment in MOMENTS if moment.split != "train"]


def labelled(moment, u: float | None, local: float | None, n: int | None = None) -> LabelledMoment:
    def arm(p: float) -> Arm:
        if n is None:
            return Arm(lo=p, hi=p)
        return Arm(success={r: r < round(p * n) for r in range(n)})

    leverage = None
    if local is not None:
        base = max(0.0, -local)
        leverage = leverage_of(
            {"policy": arm(base), "force": arm(base + local), "expert": Arm(lo=1, hi=1)}
        )
    return LabelledMoment(moment=moment, hint=None, U=u, leverage=leverage)


def config(**changes: object) -> QuadrantConfig:
    return validate(QuadrantConfig, changes, where="here")


def spread(moments: list, *, shift: float = 0.0) -> list[LabelledMoment]:
    count = len(moments)
    return [
        labelled(moment, shift + at / count, ((at * 7) % count) / count)
        for at, moment in enumerate(moments)
    ]


def test_cuts_are_fitted_on_training_tasks_only() -> None:
    train = spread(TRAIN)
    alone = fit_thresholds(train, config())
    assert fit_thresholds([*train, *spread(OTHER, shift=100.0)], config()) == alone
    assert alone.n_fitted == len(TRAIN)


def test_high_is_strictly_above_and_all_four_are_named() -> None:
    at = fit_thresholds([], config(method="manual", U_threshold=0.5, L_threshold=0.1))
    moment = TRAIN[0]
    found = [
        quadrant_of(labelled(moment, u, local), at)
        for u, local in ((0.6, 0.2), (0.6, 0.1), (0.5, 0.1), (0.5, 0.2))
    ]
    assert found == ["Q1_highU_highL", "Q2_highU_lowL", "Q3_lowU_lowL", "Q4_lowU_highL"]


@pytest.mark.parametrize(("u", "local"), [(None, 0.5), (0.5, None), (None, None)])
def test_a_missing_label_is_unassigned_and_never_a_zero(
    u: float | None, local: float | None
) -> None:
    at = fit_thresholds([], config(method="manual", U_threshold=-1.0, L_threshold=-1.0))
    (row,) = assign([labelled(TRAIN[0], u, local)], at)
    assert (row.quadrant, dict(row.quadrant_probs)) == ("UNASSIGNED", {})


def test_the_median_of_a_greedy_student_is_refused_with_its_ties() -> None:
    rows = [labelled(m, at / 9, float(at % 3 > 0)) for at, m in enumerate(TRAIN)]
    with pytest.raises(
        DataError, match=r"median of L is 1 and 0\.0% .*lie exactly on it.*give --L"
    ):
        fit_thresholds(rows, config())
    mended = fit_thresholds(rows, config(L_threshold=0.1))
    assert mended.L == 0.1
    assert not mended.L_fitted
    assert mended.U_fitted


def test_equal_uncertainties_are_refused() -> None:
    rows = [labelled(moment, 0.7, at / 99) for at, moment in enumerate(TRAIN)]
    with pytest.raises(DataError, match=r"median of U is 0\.7 .*give --U-threshold"):
        fit_thresholds(rows, config())


def test_ties_on_a_usable_cut_are_told() -> None:
    rows = [labelled(m, at / 9, 0.0 if at % 5 < 3 else 0.4) for at, m in enumerate(TRAIN)]
    found = fit_thresholds(rows, config())
    assert found.L == 0.0
    assert found.L_tie_mass == pytest.approx(0.6, abs=0.05)


def test_percentile_75_leaves_a_quarter_high() -> None:
    rows = spread(TRAIN)
    found = assign(rows, fit_thresholds(rows, config(method="percentile_75")))
    high = [row for row in found if row.quadrant in ("Q1_highU_highL", "Q2_highU_lowL")]
    assert len(high) == pytest.approx(len(TRAIN) / 4, abs=1)


def test_manual_cuts_need_both() -> None:
    with pytest.raises(DataError, match="'manual' needs --L-threshold"):
        fit_thresholds(spread(TRAIN), config(method="manual", U_threshold=0.5))


def test_nothing_labelled_in_the_training_split_is_said() -> None:
    with pytest.raises(DataError, match="no moment of the training split"):
        fit_thresholds(spread(OTHER), config())


def test_classes_of_few_rollouts_are_unsure_and_exact_ones_are_not() -> None:
    at = fit_thresholds([], config(method="manual", U_threshold=0.5, L_threshold=0.1))
    (few,) = assign([labelled(TRAIN[0], 0.9, 1 / 7, n=7)], at)
    (known,) = assign([labelled(TRAIN[0], 0.9, 1 / 7)], at)
    assert few.quadrant == known.quadrant == "Q1_highU_highL"
    assert 0.4 < few.quadrant_probs["Q1_highU_highL"] < 0.7
    assert known.quadrant_probs["Q1_highU_highL"] == 1.0
    for row in (few, known):
        assert sum(row.quadrant_probs.values()) == pytest.approx(1)
        assert row.quadrant_probs["Q3_lowU_lowL"] == 0.0


def test_empty_and_small_quadrants_are_named() -> None:
    at = fit_thresholds([], config(method="manual", U_threshold=0.5, L_threshold=0.1))
    rows = assign([labelled(TRAIN[0], 0.9, 0.5), labelled(TRAIN[1], 0.1, 0.5)], at)
    counts = counts_of([*rows, replace(rows[0], quadrant="UNASSIGNED")])
    assert counts == {
        "Q1_highU_highL": 1, "Q2_highU_lowL": 0, "Q3_lowU_lowL": 0, "Q4_lowU_highL": 1,
        "UNASSIGNED": 1,
    }  # fmt: skip
    assert short_of(counts, 1) == ("Q2_highU_lowL", "Q3_lowU_lowL")
