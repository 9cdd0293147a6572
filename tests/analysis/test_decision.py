"""The rule alone: words, floors, and properties over random differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.analysis.decision import Adjusted, Rule, decide, reach
from cupel.analysis.legacy import documented_word
from cupel.analysis.sentence import p_text

RNG = np.random.default_rng(0)
DIFFERENCES = st.lists(st.integers(-40, 60).map(lambda k: k / 64), min_size=1, max_size=10)
MIRROR = {
    "improvement": "degradation",
    "degradation": "improvement",
    "inconclusive": "inconclusive",
}


@given(DIFFERENCES)
def test_word_and_interval_never_contradict(d: list[float]) -> None:
    decision = decide(d, Rule(), rng=RNG)
    assert decision.interval is not None
    assert (decision.verdict == "inconclusive") == decision.interval.contains(0.0)


@given(DIFFERENCES)
def test_mirrored_differences_give_the_mirrored_word(d: list[float]) -> None:
    forth, back = decide(d, Rule(), rng=RNG), decide([-x for x in d], Rule(), rng=RNG)
    assert back.verdict == MIRROR[forth.verdict]
    lower = decide(d, Rule(higher_is_better=False), rng=RNG)
    assert lower.verdict == back.verdict


@given(DIFFERENCES, st.sampled_from([0.5, 4.0, 256.0]))
def test_units_change_nothing(d: list[float], scale: float) -> None:
    assert (
        decide([scale * x for x in d], Rule(), rng=RNG).verdict
        == decide(d, Rule(), rng=RNG).verdict
    )


def test_holm_takes_the_word_back() -> None:
    d = [0.1] * 8
    passed = Adjusted(p=0.04, level=0.05, method="holm")
    assert decide(d, Rule(), rng=RNG, family=passed).verdict == "improvement"
    held = decide(d, Rule(), rng=RNG, family=Adjusted(p=0.05, level=0.05, method="holm"))
    assert (held.verdict, held.reasons) == ("inconclusive", ("multiplicity",))


def test_nothing_to_decide() -> None:
    none = decide([], Rule(), rng=RNG)
    assert (none.verdict, none.reasons, none.p) == ("inconclusive", ("no_pairs",), None)
    constant = decide([0.1] * 6, Rule(primary_test="paired_t"), rng=RNG)
    assert constant.reasons == ("no_variation",)
    assert reach(constant.student, Rule(effect=0.1)).mde80 is None


def test_more_than_twenty_seeds_draw_flips_from_the_given_generator() -> None:
    d = np.random.default_rng(1).normal(0.5, 1, 24).tolist()
    first, second = (decide(d, Rule(), rng=np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert first.p_method == "monte_carlo_sign_flip"


@pytest.mark.parametrize(
    ("p", "delta", "ci", "word"),
    [
        (0.01, 0.1, (0.02, 0.2), "improvement"),
        (0.01, -0.1, (-0.2, -0.02), "degradation"),
        (0.05, 0.1, (0.02, 0.2), "inconclusive"),
        (0.01, 0.1, (-0.01, 0.2), "inconclusive"),
        (0.01, -0.1, (-0.2, 0.01), "inconclusive"),
    ],
)
def test_the_documented_rule(p: float, delta: float, ci: tuple[float, float], word: str) -> None:
    assert documented_word(p, delta, ci, 0.05) == word


def test_p_values_read_as_people_write_them() -> None:
    assert [p_text(p) for p in (None, 1.0, 0.0625, 0.0078125, 0.00001)] == [
        "none",
        "1",
        ".0625",
        ".0078",
        "< .0001",
    ]


def test_equivalence_needs_a_declared_margin_and_enough_precision() -> None:
    d = [0.010, -0.008, 0.004, -0.006, 0.009, -0.011, 0.003, 0.002]
    assert decide(d, Rule(), rng=RNG).verdict == "inconclusive"
    assert decide(d, Rule(margin=0.02), rng=RNG).verdict == "equivalent"
    assert decide(d, Rule(margin=0.004), rng=RNG).verdict == "inconclusive"


def test_a_significant_difference_inside_the_margin_is_still_a_difference() -> None:
    d = [0.010, 0.011, 0.012, 0.009, 0.010, 0.011, 0.008, 0.010]
    assert decide(d, Rule(margin=0.05), rng=RNG).verdict == "improvement"
