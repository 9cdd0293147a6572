"""The one sentence a person reads first, and the second one when pooled completions disagree.

Knows words and rounding; refuses to know a number that is not in the block it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BECAUSE = {
    "single_run_per_arm": "with one run per arm this compares two checkpoints, not two methods",
    "sensitive_to_failures": "the answer changes with how the failed runs are counted",
    "no_variation": "the seed differences do not vary at all",
    "too_few_pairs": "the declared paired t-test needs at least 4 seed pairs",
    "no_pairs": "no seed has a finished run in both arms",
    "look_not_reached": "the seeds of the first declared look are not all finished in both arms",
}
_CORRECTIONS = {
    "holm": "Holm's correction for the family of contrasts",
    "max_t": "the max-T correction for the family of contrasts",
    "benjamini_hochberg": "the bound on false discoveries among exploratory metrics",
}


_TESTS = {
    "paired_t": "paired t",
    "exact_sign_flip": "exact sign-flip",
    "monte_carlo_sign_flip": "sign-flip",
    "inverse_normal_sign_flip": "combined sign-flip",
}


def is_rate(metric: str) -> bool:
    """Say whether a metric is a rate in [0, 1], shown in percent and percentage points."""
    return metric.endswith(("rate", "accuracy")) or metric.startswith("eval/pass@")


def amount(value: float, metric: str) -> str:
    """Return a value of a metric with its unit."""
    return f"{100 * value:.1f} %" if is_rate(metric) else f"{value:.4g}"


def difference(value: float, metric: str, *, sign: bool = True) -> str:
    """Return a difference of a metric with its unit."""
    plus = "+" if sign else ""
    text = f"{100 * value:{plus}.1f} pp" if is_rate(metric) else f"{value:{plus}.4g}"
    return text.replace("-", "\N{MINUS SIGN}", 1) if value < 0 else text


def p_text(p: float | None) -> str:
    """Return a p-value as people write it."""
    if p is None:
        return "none"
    if p < 0.0001:
        return "< .0001"
    return f"{p:.4f}".rstrip("0").rstrip(".").removeprefix("0")


def sentence(block: Mapping[str, Any]) -> str:
    """Return the verdict of a contrast in words: effect, interval, test, word, what would help."""
    baseline, candidate = block["baseline"], block["candidate"]
    if block["delta"] is None:
        return f"{candidate} and {baseline} cannot be compared: {_BECAUSE['no_pairs']}."
    known = all(seed is not None for seed, _, _ in block["pairs"])
    samples = block.get("seeds_draw") == "samples"
    seed = "sampling seed" if samples else "training seed"
    unit = (
        (seed if known else "pair of runs")
        if block["n_seeds"] == 1
        else (f"{seed}s" if known else "pairs of runs")
    )
    opening = (
        f"Over {block['n_seeds']} {unit}, {candidate} minus {baseline} = "
        f"{difference(block['delta'], block['metric'])} in {block['metric']} ({_evidence(block)})."
    )
    closing = " This holds for these checkpoints, never for the methods that trained them."
    return f"{opening} {_verdict(block)}{closing if samples else ''}"


def _evidence(block: Mapping[str, Any]) -> str:
    metric, parts = block["metric"], []
    low, high = block["ci95"] or (None, None)
    if low is not None and high is not None:
        level = f"{100 * block['ci_level']:.4g} % CI"
        parts.append(f"{level} {difference(low, metric)} to {difference(high, metric)}")
    elif block["t"] is not None and block["t"]["ci95"] is not None:
        low, high = block["t"]["ci95"]
        parts.append(
            f"t interval {difference(low, metric)} to {difference(high, metric)}, "
            "which assumes normal seed differences"
        )
    if block["p"] is not None:
        p = p_text(block["p"])
        name = _TESTS[block["p_method"]]
        parts.append(f"{name} p {p}" if p.startswith("<") else f"{name} p = {p}")
        if block["looks"]["of"] > 1 and block["looks"]["k"]:
            looks = block["looks"]
            parts[-1] += f" over looks (unadjusted {p_text(block['unadjusted'])})"
            level = p_text(looks["alpha_spent"])
            parts.append(f"look {looks['k']} of {looks['of']} at level {level}")
    if block["p_floor"]:
        parts.append(f"floor {p_text(block['p_floor'])}")
    return ", ".join(parts)


def _verdict(block: Mapping[str, Any]) -> str:
    if block["verdict"] == "improvement":
        return f"Improvement: {block['candidate']} is better."
    if block["verdict"] == "degradation":
        return f"Degradation: {block['candidate']} is worse."
    if block["verdict"] == "equivalent":
        margin = difference(block["margin"], block["metric"], sign=False)
        return f"Equivalent: the difference lies within the declared margin of {margin}."
    reasons = block["reasons"]
    if "more_looks_planned" in reasons and not {*reasons} & _BECAUSE.keys():
        looks = block["looks"]
        return (
            f"Not established at look {looks['k']} of {looks['of']}; "
            f"the next look is at {looks['sizes'][looks['k']]} seeds."
        )
    if "resolution_floor" in reasons:
        return (
            f"Not established: {block['n_seeds']} seeds can never give p below "
            f"{p_text(block['p_floor'])}; at least {_least(block)} are needed."
        )
    because = next((_BECAUSE[reason] for reason in reasons if reason in _BECAUSE), None)
    if because is None and "multiplicity" in reasons:
        because = f"it does not survive {_CORRECTIONS[block['multiplicity']['method']]}"
    opening = f"Not established: {because}." if because else "Not established."
    return f"{opening}{_outlook(block)}"


def _least(block: Mapping[str, Any]) -> int:
    from cupel.stats.permutation import smallest_n

    return smallest_n(block["alpha"])


def _outlook(block: Mapping[str, Any]) -> str:
    if block["scope"] == "checkpoint" or block["mde80"] is None:
        return ""
    metric = block["metric"]
    found = difference(block["mde80"], metric, sign=False)
    if block["effect"] is not None and block["seeds_needed"] is not None:
        wanted = difference(block["effect"], metric, sign=False)
        return (
            f" About {block['seeds_needed']} seeds would give 80 % power for the planned "
            f"effect of {wanted}; this design finds {found}."
        )
    return f" This design finds effects of {found} with 80 % power."


def disagreement(block: Mapping[str, Any]) -> str | None:
    """Return the sentence on pooled completions, or None where they agree or were not tested."""
    legacy = block.get("legacy")
    if not legacy or legacy["agreement"]:
        return None
    name, p = "permutation", legacy["permutation_p"]
    if "fisher_p" in legacy:
        name, p = "Fisher", legacy["fisher_p"]
    effect = block.get("design_effect")
    why = f" (design effect {effect:.1f})" if effect is not None else ""
    text = p_text(p)
    shown = f"p {text}" if text.startswith("<") else f"p = {text}"
    return (
        f"The pooled-completion test ({name} {shown}) disagrees: it treats completions of one run "
        f"as independent{why}."
    )
