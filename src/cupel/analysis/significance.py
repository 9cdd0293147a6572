"""The significance report: every contrast decided by seeds, the documented pooled tests beside it.

Reads run folders through the lab's store. Refuses a verdict without a finished run, and writes
nothing: the same files give the same report, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from cupel import __version__
from cupel.analysis import legacy
from cupel.analysis.checkpoint import checkpoint_block
from cupel.analysis.contrast import Contrast, answer, block, look_at
from cupel.analysis.crossed import crossed_block, evaluated_by_problem, trained_by_problem
from cupel.analysis.decision import Adjusted, PrimaryTest
from cupel.analysis.endpoint import MetricMissing
from cupel.analysis.evidence import (
    Arms,
    Evidence,
    Settings,
    Vocabulary,
    by_seed,
    data_notes,
    input_hashes,
    read_arms,
    run_row,
)
from cupel.analysis.family import correct_exploratory, correct_family
from cupel.analysis.looks import Look
from cupel.analysis.pairing import pair_runs
from cupel.analysis.sentence import disagreement, sentence
from cupel.errors import ConfigError
from cupel.lab.store import RunRecord
from cupel.lab.study import Endpoint
from cupel.stats.permutation import EXACT_LIMIT

SCHEMA = "cupel.significance/1"
EXPLORATORY = ("correct_rate", "mean_reward")
SAMPLING_RECIPE = "rlvr.evaluate"
"""Its runs train nothing: their seeds draw samples of checkpoints that are what they are."""


def evaluate_significance(
    baseline_run_dirs: Sequence[Path | str],
    candidate_run_dirs: Sequence[Path | str],
    *,
    alpha: float = 0.05,
    num_resamples: int = 20_000,
    seed: int = 0,
    endpoint: Endpoint | None = None,
    primary_test: PrimaryTest = "sign_flip",
    effect: float | None = None,
    margin: float | None = None,
    failure: Literal["carry_forward", "worst"] = "carry_forward",
    failure_value: float = 0.0,
    vocabulary: Vocabulary = "retrain",
) -> dict[str, Any]:
    """Test a candidate against a baseline, seed by seed.

    Reads any folder that holds metrics.jsonl or emergence/*.jsonl, of Cupel or an earlier
    system. Runs pair by seed; where seeds are unknown, by order, and the report says so.

    Args:
        num_resamples, seed: of the documented pooled tests and the bootstrap companion; the
            verdict draws no random number up to 20 seeds.
        endpoint: what a run is judged by; default: mean correct_rate over the last 20 % of steps.
        margin: equivalence margin in units of the endpoint; without it nothing is equivalent.

    Returns:
        The report as strict JSON data; `significance_markdown` renders it.

    Raises:
        DataError: a folder is mistyped or damaged, or no run is finished.
        ConfigError: a setting is out of range.
    """
    if not 0 < alpha < 0.5:
        raise ConfigError(f"evaluate_significance: alpha = {alpha}; allowed: between 0 and 0.5")
    if primary_test not in ("sign_flip", "paired_t"):
        raise ConfigError(
            f"evaluate_significance: primary_test = '{primary_test}'; allowed: sign_flip, paired_t"
        )
    if margin is not None and not margin > 0:
        raise ConfigError(f"evaluate_significance: margin = {margin} must be positive")
    arms = read_arms(baseline_run_dirs, candidate_run_dirs)
    settings = Settings(
        endpoint=endpoint or Endpoint(),
        alpha=alpha,
        primary_test=primary_test,
        effect=effect,
        margin=margin,
        failure=failure,
        failure_value=failure_value,
        resamples=num_resamples,
        seed=seed,
        vocabulary=vocabulary,
    )
    return significance_report([arms], Evidence(arms.runs, settings))


def significance_report(arms: Sequence[Arms], evidence: Evidence) -> dict[str, Any]:
    """Decide every contrast; the first one is the primary.

    Raises:
        DataError: no run is finished, or a file is damaged.
    """
    settings = evidence.settings
    notes: list[str] = []
    primary, *others = arms
    deciding = look_at(_contrast(primary, settings.endpoint, evidence, notes))
    look = deciding.look
    blocks = {settings.endpoint.metric: _block(primary, deciding, evidence)}
    blocks |= _secondary(others, look, evidence, notes)
    blocks |= _exploratory(primary, look, evidence, notes)
    head = blocks[settings.endpoint.metric]
    words = {"retrain": "recommendation", "textpolicy": "recommendation_textpolicy"}
    return {
        "schema": SCHEMA,
        "lock_sha256": settings.lock_sha256,
        "mode": settings.mode,
        "primary": settings.endpoint.metric,
        "baseline": primary.baseline,
        "candidate": primary.candidate,
        "sentence": head["sentence"],
        "disagreement": head["disagreement"],
        "verdict": head["verdict"],
        "reasons": head["reasons"],
        "vocabulary": settings.vocabulary,
        "recommendation": head[words[settings.vocabulary]],
        "recommendation_retrain": head["recommendation"],
        "recommendation_textpolicy": head["recommendation_textpolicy"],
        "metrics": blocks,
        "runs": [run_row(run, evidence) for run in evidence.runs],
        "notes": list(dict.fromkeys([*notes, *data_notes(evidence)])),
        "provenance": {
            "manifest": "../manifest.json" if settings.root is not None else None,
            "inputs_sha256": input_hashes(evidence),
            "rng": "none" if head["n_seeds"] <= EXACT_LIMIT else f"PCG64({settings.seed})",
            "cupel": __version__,
        },
    }


def _secondary(
    arms: Sequence[Arms], look: Look | None, evidence: Evidence, notes: list[str]
) -> dict[str, dict[str, Any]]:
    """Decide the secondary family at the primary's look, corrected over all its contrasts."""
    if not arms:
        return {}
    endpoint = evidence.settings.endpoint
    contrasts = [_seen(_contrast(one, endpoint, evidence, notes), look) for one in arms]
    adjusted = correct_family(contrasts, look, evidence.settings, notes)
    return {
        f"{endpoint.metric}: {one.candidate} vs {one.baseline}": _block(
            one, contrast, evidence, adjusted=p
        )
        for one, contrast, p in zip(arms, contrasts, adjusted, strict=True)
    }


def _seen(contrast: Contrast, look: Look | None) -> Contrast:
    """Cut a contrast that does not decide where the study ends down to the look that did."""
    return contrast if look is None else contrast.at(replace(look, stagewise=False))


def _exploratory(
    primary: Arms, look: Look | None, evidence: Evidence, notes: list[str]
) -> dict[str, dict[str, Any]]:
    """Describe the other outcomes of the primary contrast, where they were logged."""
    window = _training_window(evidence.settings.endpoint)
    endpoints = {metric: Endpoint(metric=metric, over=window) for metric in EXPLORATORY}
    endpoints |= {endpoint.metric: endpoint for endpoint in evidence.settings.exploratory}
    endpoints.pop(evidence.settings.endpoint.metric, None)
    contrasts = {}
    for metric, endpoint in endpoints.items():
        try:
            contrasts[metric] = _seen(_contrast(primary, endpoint, evidence, notes), look)
        except MetricMissing as error:
            notes.append(f"{metric} was not compared: {error}")
    described = replace(primary, family="exploratory")
    corrected = correct_exploratory(list(contrasts.values()))
    return {
        metric: _block(described, contrast, evidence, adjusted=adjusted)
        for (metric, contrast), adjusted in zip(contrasts.items(), corrected, strict=True)
    }


def _training_window(endpoint: Endpoint) -> str:
    """Return the primary's window, or the default where it counts evaluations, not steps."""
    return Endpoint().over if endpoint.metric.startswith("eval/") else endpoint.over


def _contrast(arms: Arms, endpoint: Endpoint, evidence: Evidence, notes: list[str]) -> Contrast:
    pairing = pair_runs(arms.baseline_runs, arms.candidate_runs)
    notes.extend(pairing.notes)
    settings = evidence.settings
    return Contrast(
        baseline=arms.baseline,
        candidate=arms.candidate,
        endpoint=endpoint,
        rule=settings.rule(endpoint),
        pairs=tuple(
            (seed, evidence.outcome(b, endpoint), evidence.outcome(c, endpoint))
            for seed, b, c in pairing.pairs
        ),
        runs=(len(arms.baseline_runs), len(arms.candidate_runs)),
        worst=settings.failure_value,
        seed=settings.seed,
        look_rule=settings.looks,
    )


def _block(
    arms: Arms, contrast: Contrast, evidence: Evidence, *, adjusted: Adjusted | None = None
) -> dict[str, Any]:
    final = answer(contrast, family=adjusted)
    result = block(contrast, final, family=arms.family, adjusted=adjusted)
    result |= _pooled(arms, contrast, result["recommendation"], evidence)
    result["t2"] = _crossed(contrast, final.scope, evidence)
    result["seeds_draw"] = _seeds_draw(arms)
    if final.scope == "checkpoint":
        result["checkpoint"] = _checkpoint(arms, evidence)
    result["sentence"] = sentence(result)
    result["disagreement"] = disagreement(result)
    return result


def _seeds_draw(arms: Arms) -> Literal["runs", "samples"]:
    """Say what a seed stands for: a run of the method, or only samples of a fixed checkpoint."""
    recipes = {run.config.get("recipe") for run in arms.runs}
    return "samples" if recipes == {SAMPLING_RECIPE} else "runs"


def _crossed(contrast: Contrast, scope: str, evidence: Evidence) -> dict[str, Any]:
    """Return the interval for new seeds and new prompts, or why there is none."""
    metric = contrast.endpoint.metric
    if scope == "checkpoint":
        return {"available": False, "reason": "single_run_per_arm"}
    if metric not in ("correct_rate", "mean_reward", "eval/accuracy"):
        return {"available": False, "reason": "no_prompt_level_data"}
    if any(b.failed or c.failed for _, b, c in contrast.pairs):
        return {"available": False, "reason": "failed_runs"}
    over = contrast.endpoint.over

    def by_problem(run: RunRecord) -> dict[str, float] | None:
        if metric == "eval/accuracy":
            return evaluated_by_problem(run, over)
        completions = evidence.logged(run).completions
        return None if completions is None else trained_by_problem(completions, metric, over)

    pairs = [
        (by_problem(b.run), by_problem(c.run))
        for _, b, c in contrast.pairs
        if b.value is not None and c.value is not None
    ]
    return crossed_block(pairs, alpha=contrast.rule.alpha)


def _pooled(
    arms: Arms, contrast: Contrast, recommendation: str, evidence: Evidence
) -> dict[str, Any]:
    """Return the documented pooled tests and how clustered the completions are."""
    metric, settings = contrast.endpoint.metric, evidence.settings
    if metric not in EXPLORATORY:
        return {"design_effect": None, "icc_prompt": None, "icc_seed": None, "legacy": None}
    baseline = [evidence.logged(run) for run in by_seed(arms.baseline_runs)]
    candidate = [evidence.logged(run) for run in by_seed(arms.candidate_runs)]
    how = legacy.Resampling(alpha=settings.alpha, resamples=settings.resamples, seed=settings.seed)
    rewards = metric == "mean_reward"
    test = legacy.reward_block if rewards else legacy.correctness_block
    documented = test(baseline, candidate, how)
    if documented is not None:
        documented["agreement"] = documented["recommendation"] == recommendation
    pairs = [(evidence.logged(b.run), evidence.logged(c.run)) for _, b, c in contrast.pairs]
    return {**legacy.clustering(pairs, rewards=rewards), "legacy": documented}


def _checkpoint(arms: Arms, evidence: Evidence) -> dict[str, Any] | None:
    if len(arms.baseline_runs) != 1 or len(arms.candidate_runs) != 1:
        return None
    return checkpoint_block(
        evidence.logged(arms.baseline_runs[0]).completions,
        evidence.logged(arms.candidate_runs[0]).completions,
        alpha=evidence.settings.alpha,
    )
