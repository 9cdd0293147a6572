"""What analysis/significance.json established, as named numbers for showing.

Reads that file's shape only. Refuses to compute a statistic: what the analysis did not write is
None here and is said to be missing on the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cupel.errors import DataError
from cupel.lab.files import read_json
from cupel.lab.study import StudyConfig
from cupel.report.formats import count_text, difference_text, interval_text, p_text
from cupel.report.view import unit_of

REASONS: Mapping[str, str] = {
    "resolution_floor": "with this many seeds the exact test cannot reach alpha, whatever the data",
    "single_run_per_arm": "one run per arm speaks of two checkpoints, not of two methods",
    "sensitive_to_failures": "the answer changes with how the failed runs are counted",
    "multiplicity": "it does not survive the correction for its family of contrasts",
    "more_looks_planned": "this look did not decide, and the plan has another one",
    "look_not_reached": "the first planned look has not been reached",
    "no_variation": "the seed differences do not vary at all",
    "too_few_pairs": "the declared paired t-test needs at least 4 seed pairs",
    "p_not_below_alpha": "p is not below alpha",
    "no_pairs": "no seed has a finished run in both arms",
}
"""The analysis' reasons for not deciding, in words."""

HEADLINES: Mapping[str, str] = {
    "improvement": "Improvement",
    "degradation": "Degradation",
    "equivalent": "Equivalent",
    "inconclusive": "Not established",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPair:
    """The endpoint of both runs of one seed; None where a run has none."""

    seed: int | None
    baseline: float | None
    candidate: float | None

    @property
    def difference(self) -> float | None:
        """Candidate minus baseline, or None when either is missing."""
        if self.baseline is None or self.candidate is None:
            return None
        return self.candidate - self.baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One comparison of a candidate with a baseline on one endpoint, as the analysis wrote it.

    Attributes:
        family: primary, secondary or exploratory.
        low, high: interval of the primary test; None where it has no bound, or was not computed.
        t_low, t_high: the t-interval, which assumes normal differences.
        over: the window of the endpoint.
    """

    metric: str
    baseline: str
    candidate: str
    family: str
    verdict: str
    reasons: tuple[str, ...] = ()
    sentence: str | None = None
    n_seeds: int | None = None
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    t_low: float | None = None
    t_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_floor: float | None = None
    alpha: float | None = None
    mde80: float | None = None
    seeds_needed: int | None = None
    margin: float | None = None
    over: str | None = None
    level: float = 0.95
    coverage: float | None = None
    ci_method: str | None = None
    p_method: str | None = None
    scope: str | None = None
    pairs: tuple[SeedPair, ...] = ()
    disagreement: str | None = None

    @property
    def bounded(self) -> bool:
        """Whether the primary test gave an interval with two ends."""
        return self.low is not None and self.high is not None

    @property
    def primary(self) -> bool:
        """Whether this is the contrast the study is judged by."""
        return self.family == "primary"

    @property
    def unit(self) -> str:
        """Unit of the endpoint."""
        return unit_of(self.metric)

    @property
    def headline(self) -> str:
        """The verdict in one or two words."""
        return HEADLINES.get(self.verdict, self.verdict.replace("_", " ").capitalize())


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The whole file: its contrasts, primary first, and how it stands to the plan's lock."""

    contrasts: tuple[Contrast, ...]
    mode: str | None
    lock_sha256: str | None
    recommendation: str | None
    notes: tuple[str, ...] = ()

    @property
    def primary(self) -> Contrast | None:
        """The primary contrast, or None."""
        return next((contrast for contrast in self.contrasts if contrast.primary), None)


def read_evidence(study_folder: Path) -> Evidence | None:
    """Read analysis/significance.json, or return None when the study was not judged yet.

    Raises:
        DataError: the file is there and damaged.
    """
    path = study_folder / "analysis" / "significance.json"
    if not path.is_file():
        return None
    return parse_evidence(read_json(path), where=str(path))


def with_margin(evidence: Evidence, study: StudyConfig) -> Evidence:
    """Return the evidence with the study's equivalence margin on every contrast it applies to."""
    return replace(
        evidence,
        contrasts=tuple(
            replace(contrast, margin=study.decision.margin)
            if contrast.margin is None and contrast.metric == study.endpoint.metric
            else contrast
            for contrast in evidence.contrasts
        ),
    )


def parse_evidence(data: Mapping[str, Any], *, where: str) -> Evidence:
    """Turn the analysis' JSON into an Evidence.

    Raises:
        DataError: `metrics` is not what the analysis writes.
    """
    contrasts = [_contrast(entry) for entry in _entries(data, where)]
    order = {"primary": 0, "secondary": 1}
    contrasts.sort(key=lambda contrast: order.get(contrast.family, 2))
    return Evidence(
        contrasts=tuple(contrasts),
        mode=_text(data.get("mode")),
        lock_sha256=_text(data.get("lock_sha256")),
        recommendation=_text(data.get("recommendation")),
        notes=tuple(str(note) for note in data.get("notes") or ()),
    )


def verdict_sentence(contrast: Contrast) -> str:
    """Return the one sentence a reader should take away from a contrast."""
    if contrast.sentence:
        return contrast.sentence
    if contrast.n_seeds is None or contrast.delta is None:
        return f"{contrast.candidate} and {contrast.baseline} could not be compared."
    seeds = count_text(contrast.n_seeds, "training seed")
    interval = interval_text(contrast.low, contrast.high, contrast.unit)
    facts = [f"95 % CI {interval}"] if contrast.low is not None else ["no interval"]
    if contrast.p is not None:
        facts.append(f"exact sign-flip p = {p_text(contrast.p)}")
    if contrast.p_floor is not None:
        facts.append(f"floor {p_text(contrast.p_floor)}")
    return (
        f"Over {seeds}, {contrast.candidate} minus {contrast.baseline} = "
        f"{difference_text(contrast.delta, contrast.unit)} ({', '.join(facts)})."
    )


def _entries(data: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    """Return one block a contrast, with what the head of the file says of all of them."""
    shared = {key: data[key] for key in ("baseline", "candidate") if isinstance(data.get(key), str)}
    metrics = data.get("metrics", {})
    if not isinstance(metrics, dict):
        raise DataError(f"{where}: 'metrics' must be an object; judge the study again")
    entries: list[Mapping[str, Any]] = []
    for name, block in metrics.items():
        if not isinstance(block, dict):
            raise DataError(f"{where}: '{name}' must be an object; judge the study again")
        multiplicity = block.get("multiplicity")
        told = multiplicity.get("family") if isinstance(multiplicity, dict) else None
        family = "primary" if name == data.get("primary") else told or "exploratory"
        entries.append({"metric": name, **shared, **block, "family": family})
    return entries


def _contrast(entry: Mapping[str, Any]) -> Contrast:
    low, high = _ends(entry.get("ci95"))
    student = entry.get("t")
    t_low, t_high = _ends(student.get("ci95")) if isinstance(student, dict) else (None, None)
    multiplicity = entry.get("multiplicity")
    p_holm = multiplicity.get("p_holm") if isinstance(multiplicity, dict) else None
    return Contrast(
        metric=str(entry["metric"]),
        baseline=str(entry.get("baseline", "baseline")),
        candidate=str(entry.get("candidate", "candidate")),
        family=str(entry["family"]),
        verdict=str(entry.get("verdict", "inconclusive")),
        reasons=tuple(str(reason) for reason in entry.get("reasons") or ()),
        sentence=_text(entry.get("sentence")),
        n_seeds=_integer(entry.get("n_seeds")),
        delta=_float(entry.get("delta")),
        low=low,
        high=high,
        t_low=t_low,
        t_high=t_high,
        p=_float(entry.get("p")),
        p_holm=_float(p_holm),
        p_floor=_float(entry.get("p_floor")),
        alpha=_float(entry.get("alpha")),
        mde80=_float(entry.get("mde80")),
        seeds_needed=_integer(entry.get("seeds_needed")),
        margin=_float(entry.get("margin")),
        over=_text(entry.get("over")),
        level=_float(entry.get("ci_level")) or 0.95,
        coverage=_float(entry.get("ci_coverage")),
        ci_method=_text(entry.get("ci_method")),
        p_method=_text(entry.get("p_method")),
        scope=_text(entry.get("scope")),
        pairs=_pairs(entry.get("pairs", ())),
        disagreement=_text(entry.get("disagreement")),
    )


def _pairs(rows: Sequence[Any]) -> tuple[SeedPair, ...]:
    return tuple(
        SeedPair(seed=_integer(row[0]), baseline=_float(row[1]), candidate=_float(row[2]))
        for row in rows
        if isinstance(row, list) and len(row) == 3
    )


def _ends(value: Any) -> tuple[float | None, float | None]:
    if isinstance(value, list) and len(value) == 2:
        return _float(value[0]), _float(value[1])
    return None, None


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
