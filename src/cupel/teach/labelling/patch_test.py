"""What a note in the prompt brings, net of a neutral note and without the optimism of choosing.

Pure. Knows the arms policy (the base), placebo, shuffled, demo, contrast and hint. Refuses to
read a gain from the rollouts that chose it: of two halves, one chooses, the other is read.

gain_net[m] = p[m] - p_placebo; ELP_net = max over m, biased upward by the choice (+.15 to +.28
without any effect at two rollouts); ELP_split is the honest figure, and "this note helps" is said
when its interval lies above 0. Departures from the documents: base shares the rollouts of
p_policy; intervals; split halves; the route may be undecided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from cupel.teach.branches.arms import Arm, Arms, difference, probability
from cupel.teach.labelling.labels import Estimate, PatchTest
from cupel.teach.records import FORMATS, Condition

_READING_CORRELATION = 0.36
"""Correlation of the two readings without any effect, the least favourable case: with three
formats of normal noise m**2 / 3 + (2 / 3) * (m / 2)**2 = 0.358, where m = 0.846 is their expected
maximum."""
_FEW = 4
"""Rollouts a half needs before its readings are taken for nearly normal."""

_TESTED: tuple[Condition, ...] = ("policy", "placebo", "shuffled", *FORMATS)


def patch_test_of(arms: Arms) -> PatchTest | None:
    """Return the patch test of a moment.

    None without a base, a placebo, or any format; a format without outcomes is left out.
    """
    base, placebo = arms.get("policy"), arms.get("placebo")
    p_base, p_placebo = probability(base), probability(placebo)
    p = {name: one for name in FORMATS if (one := probability(arms.get(name))) is not None}
    if p_base is None or p_placebo is None or placebo is None or not p:
        return None
    raw = _gains(base, arms, p)
    net = _gains(placebo, arms, p)
    formats = {name: arms[name] for name in FORMATS if name in p}
    split, oracle = _split(placebo, formats)
    return PatchTest(
        p_base=p_base,
        p_placebo=p_placebo,
        p_shuffled=probability(arms.get("shuffled")),
        p={str(name): one for name, one in p.items()},
        gain_raw=raw,
        gain_net=net,
        ELP_raw=max(gain.value for gain in raw.values()),
        ELP_net=max(gain.value for gain in net.values()),
        route_net=max(net, key=lambda name: net[name].value),
        ELP_split=split,
        route_split=_route(formats),
        oracle_half=oracle,
        total_episodes=sum(arms[name].n + arms[name].errors for name in _TESTED if name in arms),
    )


def helps(test: PatchTest) -> bool | None:
    """Say whether a note is shown to help: the interval of ELP_split lies above 0.

    Without any effect this is said in at most 5 % of moments, at every number of rollouts. None
    where there is no ELP_split.
    """
    return None if test.ELP_split is None else test.ELP_split.lo > 0


def _gains(against: Arm | None, arms: Arms, p: Mapping[Condition, Estimate]) -> dict[str, Estimate]:
    gains = {str(name): difference(against, arms[name]) for name in p}
    return {name: gain for name, gain in gains.items() if gain is not None}


def _split(placebo: Arm, formats: Mapping[Condition, Arm]) -> tuple[Estimate | None, float | None]:
    """Return ELP_split, and the half of it that oracles may use (chosen on even replicates)."""
    if _is_exact(placebo, formats):
        best = _exact_gain(placebo, formats)
        return best, best.value
    reads: list[Estimate] = []
    for chooser in (0, 1):
        chosen = best_format({name: arm.half(chooser) for name, arm in formats.items()})
        if chosen is None:
            return None, None
        gain = difference(placebo.half(1 - chooser), formats[chosen].half(1 - chooser))
        if gain is None:
            return None, None
        reads.append(gain)
    value = (reads[0].value + reads[1].value) / 2
    n = sum(read.n or 0 for read in reads)
    few = min(read.n or 0 for read in reads) < _FEW
    down = _combined(*(read.value - read.lo for read in reads), few=few)
    up = _combined(*(read.hi - read.value for read in reads), few=few)
    return Estimate(value=value, lo=value - down, hi=value + up, n=n), reads[0].value


def _combined(first: float, second: float, *, few: bool) -> float:
    """Return the half-width of a mean of two halves (square-and-add), their correlation included.

    The halves are independent; the two readings are not, for where the halves agree on a format
    both read one that is high in both. Of few rollouts the bound for any correlation is used.
    """
    correlation = 1.0 if few else _READING_CORRELATION
    return math.sqrt(first**2 + second**2 + 2 * correlation * first * second) / 2


def best_format(formats: Mapping[Condition, Arm]) -> Condition | None:
    """Return the format of the highest rate, ties to the first; None where a rate is missing."""
    rates = {name: probability(arm) for name, arm in formats.items()}
    known = {name: rate.value for name, rate in rates.items() if rate is not None}
    if len(known) < len(formats):
        return None
    return max(known, key=lambda name: known[name])


def _route(formats: Mapping[Condition, Arm]) -> str | None:
    """Return the format that all rollouts and both halves put first, alone; else None."""
    if all(arm.lo is not None for arm in formats.values()):
        best = best_format(formats)
        others = [arm.hi or 0.0 for name, arm in formats.items() if name != best]
        lo = None if best is None else formats[best].lo
        return best if lo is not None and all(lo > hi for hi in others) else None
    parts = (formats, *({n: arm.half(h) for n, arm in formats.items()} for h in (0, 1)))
    firsts = [_alone_first(part) for part in parts]
    return firsts[0] if firsts[0] is not None and len(set(firsts)) == 1 else None


def _alone_first(formats: Mapping[Condition, Arm]) -> Condition | None:
    best = best_format(formats)
    if best is None:
        return None
    top = formats[best].k / formats[best].n
    tied = sum(arm.k / arm.n >= top for arm in formats.values())
    return best if tied == 1 else None


def _is_exact(placebo: Arm, formats: Mapping[Condition, Arm]) -> bool:
    return all(arm.lo is not None for arm in (placebo, *formats.values()))


def _exact_gain(placebo: Arm, formats: Mapping[Condition, Arm]) -> Estimate:
    """Return bounds of the largest true gain; nothing is chosen by noise, so nothing is split."""
    bounds = [(arm.lo or 0.0, arm.hi or 0.0) for arm in formats.values()]
    lo = max(low for low, _ in bounds) - (placebo.hi or 0.0)
    hi = max(high for _, high in bounds) - (placebo.lo or 0.0)
    return Estimate(value=(lo + hi) / 2, lo=lo, hi=hi)
