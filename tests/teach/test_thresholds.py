"""Quantiles of U and L_local over the training tasks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cupel.errors import DataError
from cupel.teach.branches.arms import Arm
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.labelling.leverage import leverage_of
from cupel.teach.labelling.thresholds import quantiles_of
from tests.teach.label_runs import corridor_moments

MOMENTS = corridor_moments(range(40))
TRAIN = [moment for moment in MOMENTS if moment.split == "train"][:5]
OTHER = next(moment for moment in MOMENTS if moment.split != "train")


def row(moment, u: float, local: float) -> LabelledMoment:
    arms = {"policy": 0.0, "force": local, "expert": 1.0}
    leverage = leverage_of({name: Arm(lo=p, hi=p) for name, p in arms.items()})  # type: ignore[misc]
    return LabelledMoment(moment=moment, hint=None, U=u, leverage=leverage)


def test_quantiles_by_hand() -> None:
    rows = [row(moment, float(at), at / 4) for at, moment in enumerate(TRAIN)]
    found = quantiles_of([*rows, row(OTHER, 99.0, 0.9)], where="here")
    assert found["U"] == {
        "n": 5, "min": 0.0, "p10": pytest.approx(0.4), "p25": 1.0, "median": 2.0, "p75": 3.0,
        "p90": pytest.approx(3.6), "max": 4.0, "mean": 2.0, "std": pytest.approx(2**0.5),
    }  # fmt: skip
    assert found["suggested_thresholds"] == {
        "median": {"U": 2.0, "L_local": 0.5}, "p75": {"U": 3.0, "L_local": 0.75},
    }  # fmt: skip
    assert found["share_above"]["median"] == {"U": 0.4, "L_local": 0.4}


def test_a_row_without_a_label_is_not_a_zero() -> None:
    rows = [row(TRAIN[0], 2.0, 0.5), replace(row(TRAIN[1], 0.0, 0.0), leverage=None)]
    assert quantiles_of(rows, where="here")["U"]["n"] == 1
    with pytest.raises(DataError, match=r"l\.jsonl: no moment of a training task"):
        quantiles_of(rows[1:], where="l.jsonl")
