"""Two looks, decided by the analysis itself, under the null and under an effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cupel.analysis.contrast import Answer, Contrast, answer, look_at
from cupel.analysis.decision import Rule
from cupel.analysis.endpoint import Outcome
from cupel.analysis.looks import LookRule
from cupel.lab.store import RunRecord
from cupel.lab.study import Endpoint
from cupel.stats.sequential import plan_looks

RUN = RunRecord(folder=Path(), condition=None, seed=None, status="done")
ORDER = tuple(range(12))
Z = 3.29


def outcome(value: float) -> Outcome:
    return Outcome(
        run=RUN, value=value, origin="observed", steps=1, missing=0, last_step=0, source=None
    )


def contrast_of(d: np.ndarray, rule: LookRule | None) -> Contrast:
    return Contrast(
        baseline="a",
        candidate="b",
        endpoint=Endpoint(),
        rule=Rule(),
        pairs=tuple((s, outcome(0.0), outcome(float(x))) for s, x in zip(ORDER, d, strict=False)),
        runs=(12, 12),
        worst=0.0,
        seed=0,
        look_rule=rule,
    )


def answers(
    rng: np.random.Generator, number: int, *, effect: float = 0.0, **looks: str
) -> Iterator[tuple[Answer, int]]:
    rule = LookRule(sizes=(6, 12), order=ORDER, planned=12, **looks)  # type: ignore[arg-type]
    for _ in range(number):
        seen = look_at(contrast_of(rng.normal(effect, 1.0, size=12), rule))
        assert seen.look is not None
        yield answer(seen), seen.look.index


def size_of_two_stages_of_six() -> float:
    """Return the exact size of two combined stages of six pairs, by counting all outcomes.

    A stage's one-sided p is k/64 with equal chances; none is small enough to end the first look.
    """
    level = plan_looks([6, 12]).alpha_at[1]
    z = stats.norm.isf(np.arange(1, 65) / 64)
    z[-1] = -np.inf
    combined = (z[:, None] + z[None, :]) / np.sqrt(2)
    return float(2 * (combined >= stats.norm.isf(level / 2)).mean())


@pytest.mark.parametrize(
    ("looks", "number"),
    [
        ({"spending": "pocock"}, 600),
        ({"spending": "obrien_fleming"}, 600),
        ({"combination": "inverse_normal"}, 60),
        pytest.param({"spending": "pocock"}, 4_000, marks=pytest.mark.slow),
        pytest.param({"spending": "obrien_fleming"}, 4_000, marks=pytest.mark.slow),
        pytest.param({"combination": "inverse_normal"}, 1_000, marks=pytest.mark.slow),
    ],
)
def test_two_looks_claim_a_difference_no_more_often_than_alpha(looks, number: int) -> None:
    found = list(answers(np.random.default_rng(61), number, **looks))
    rejected = [one.verdict in ("improvement", "degradation") for one, _ in found]
    band = Z * np.sqrt(0.05 * 0.95 / number)
    assert np.mean(rejected) <= 0.05 + band
    if "combination" in looks:
        size = size_of_two_stages_of_six()
        assert abs(np.mean(rejected) - size) <= Z * np.sqrt(size * (1 - size) / number)
    elif number > 500:
        assert np.mean(rejected) >= 0.02
    for (one, _), reject in zip(found, rejected, strict=True):
        assert one.decision.p is not None
        assert (one.decision.p < 0.05) == reject
        assert one.decision.interval is not None
        assert one.decision.interval.contains(0.0) == (not reject)


def test_an_effect_is_found_and_often_early() -> None:
    found = list(answers(np.random.default_rng(62), 100, effect=1.6, spending="pocock"))
    assert np.mean([one.verdict == "improvement" for one, _ in found]) > 0.9
    assert {look for _, look in found} <= {0, 1}


def test_testing_again_without_a_plan_is_caught() -> None:
    """The same twelve seeds, tested after eight and after twelve at the full level."""
    rng, twice = np.random.default_rng(63), []
    for _ in range(1_000):
        d = rng.normal(size=12)
        looks = (contrast_of(d[:8], None), contrast_of(d, None))
        twice.append(any(answer(one).verdict != "inconclusive" for one in looks))
    assert np.mean(twice) > 0.055
