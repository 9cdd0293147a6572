"""What an analysis has before it: arms, settings, and every run's files, each read once.

Knows how outcomes and completions are looked up, and what a reader must be told about the data.
Refuses to compare anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cupel.analysis import legacy
from cupel.analysis.completions import read_completions, tally
from cupel.analysis.decision import PrimaryTest, Rule
from cupel.analysis.endpoint import Outcome, outcomes
from cupel.analysis.looks import LookRule
from cupel.analysis.pairing import read_arm, seed_of
from cupel.lab.store import RunRecord
from cupel.lab.study import Endpoint

INPUTS = (
    "metrics.jsonl",
    "evaluations.jsonl",
    "emergence/steps.jsonl",
    "emergence/generations.jsonl",
)
Vocabulary = Literal["retrain", "textpolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Two arms to compare: labels, runs, and the family the contrast belongs to."""

    baseline: str
    candidate: str
    baseline_runs: tuple[RunRecord, ...]
    candidate_runs: tuple[RunRecord, ...]
    family: Literal["primary", "secondary", "exploratory"] = "primary"

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        """All runs, baseline first."""
        return (*self.baseline_runs, *self.candidate_runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The decision rule and how the documented tests resample.

    Attributes:
        root: folder names in the report are relative to it; None leaves them as given.
        looks: how often the study is looked at; None for one look at every seed.
        exploratory: more outcomes of the primary contrast; they never decide.
        family: how the secondary contrasts are corrected.
        lock_sha256, mode: how the result stands to a plan lock.
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    alpha: float = 0.05
    primary_test: PrimaryTest = "sign_flip"
    effect: float | None = None
    margin: float | None = None
    exploratory: tuple[Endpoint, ...] = ()
    looks: LookRule | None = None
    family: Literal["holm", "max_t"] = "holm"
    failure: Literal["carry_forward", "worst"] = "carry_forward"
    failure_value: float = 0.0
    resamples: int = 20_000
    seed: int = 0
    vocabulary: Vocabulary = "retrain"
    root: Path | None = None
    lock_sha256: str | None = None
    mode: Literal["confirmatory", "exploratory"] = "exploratory"

    def rule(self, endpoint: Endpoint) -> Rule:
        """Return the rule for an endpoint; declared effect and margin are the primary's alone."""
        return Rule(
            alpha=self.alpha,
            primary_test=self.primary_test,
            higher_is_better=endpoint.higher_is_better,
            effect=self.effect if endpoint == self.endpoint else None,
            margin=self.margin if endpoint == self.endpoint else None,
        )

    def shown(self, run: RunRecord) -> str:
        """Return a run's folder as it stands in the report."""
        if self.root is not None and run.folder.is_relative_to(self.root):
            return run.folder.relative_to(self.root).as_posix()
        return str(run.folder)


class Evidence:
    """Everything read from the runs, each file once."""

    def __init__(self, runs: Sequence[RunRecord], settings: Settings) -> None:
        self.runs = list({id(run): run for run in runs}.values())
        self.settings = settings
        self._logged: dict[int, legacy.Logged] = {}
        self._outcomes: dict[Endpoint, dict[int, Outcome]] = {}

    def logged(self, run: RunRecord) -> legacy.Logged:
        """Return a run's completions and counts."""
        if id(run) not in self._logged:
            completions = read_completions(run)
            self._logged[id(run)] = legacy.Logged(
                completions=completions, tally=tally(run, completions)
            )
        return self._logged[id(run)]

    def outcome(self, run: RunRecord, endpoint: Endpoint) -> Outcome:
        """Return a run's endpoint under the failure policy."""
        if endpoint not in self._outcomes:
            found = outcomes(
                self.runs,
                endpoint,
                failure=self.settings.failure,
                failure_value=self.settings.failure_value,
            )
            self._outcomes[endpoint] = {id(one.run): one for one in found}
        return self._outcomes[endpoint][id(run)]


def read_arms(baseline: Sequence[Path | str], candidate: Sequence[Path | str]) -> Arms:
    """Read two arms and name them after the condition their runs share.

    Raises:
        DataError: a folder is mistyped, named twice, or damaged.
    """
    baseline_runs = read_arm(baseline, name="baseline")
    candidate_runs = read_arm(candidate, name="candidate")
    labels = label_of(baseline_runs, "baseline"), label_of(candidate_runs, "candidate")
    if labels[0] == labels[1]:
        labels = ("baseline", "candidate")
    return Arms(
        baseline=labels[0],
        candidate=labels[1],
        baseline_runs=tuple(by_seed(baseline_runs)),
        candidate_runs=tuple(by_seed(candidate_runs)),
    )


def label_of(runs: Sequence[RunRecord], otherwise: str) -> str:
    """Return the condition all runs share, or the other word."""
    labels = {run.condition for run in runs}
    label = labels.pop() if len(labels) == 1 else None
    return label or otherwise


def by_seed(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return runs by ascending seed, so that the order of the arguments changes nothing."""
    seeds = [seed_of(run) for run in runs]
    if None in seeds:
        return list(runs)
    return [run for _, run in sorted(zip(seeds, runs, strict=True), key=lambda pair: pair[0] or 0)]


def run_row(run: RunRecord, evidence: Evidence) -> dict[str, Any]:
    """Return one run as a row of the report; a failed run is a row too."""
    outcome = evidence.outcome(run, evidence.settings.endpoint)
    return {
        "folder": evidence.settings.shown(run),
        "condition": run.condition,
        "seed": seed_of(run),
        "status": run.status,
        "failure": dict(run.failure) if run.failure is not None else None,
        "value": outcome.value,
        "origin": outcome.origin,
        "steps": outcome.steps,
        "missing": outcome.missing,
        "last_step": outcome.last_step,
        "source": outcome.source,
    }


def data_notes(evidence: Evidence) -> list[str]:
    """Say what a reader must know about the data: gaps, lengths, ungradable answers."""
    found = []
    every = [evidence.outcome(run, evidence.settings.endpoint) for run in evidence.runs]
    without = [evidence.settings.shown(o.run) for o in every if o.origin == "none"]
    if without:
        found.append(f"{len(without)} run(s) have no outcome yet: {', '.join(without)}.")
    lengths = sorted({o.last_step or 0 for o in every if o.origin == "observed"})
    if len(lengths) > 1:
        found.append(
            f"Finished runs end at different steps ({', '.join(map(str, lengths))}); "
            "each is judged over its own window."
        )
    gaps = sum(o.missing for o in every if o.origin == "observed")
    if gaps:
        found.append(f"{gaps} step(s) inside the window hold no value and were left out.")
    tallies = [(run, evidence.logged(run).tally) for run in evidence.runs]
    ungradable = sum(t.ungradable for _, t in tallies if t is not None)
    if ungradable:
        found.append(
            f"{ungradable} ungradable completion(s), without a readable answer: not solved."
        )
    subsets = [(run, t) for run, t in tallies if t is not None and t.is_subset]
    if subsets:
        parts = [f"{evidence.settings.shown(run)} {t.logged} of {t.total}" for run, t in subsets]
        found.append(
            f"{len(subsets)} run(s) wrote down fewer completions than their steps counted, and not "
            "at random: rates are those of the steps, tests on single completions see a biased "
            f"rest ({'; '.join(parts)})."
        )
    unrewarded = sum(
        columns.unrewarded
        for run in evidence.runs
        if (columns := evidence.logged(run).completions) is not None
    )
    if unrewarded:
        found.append(f"{unrewarded} completion(s) hold no reward and were left out of its means.")
    by_reward = [
        run
        for run in evidence.runs
        if (columns := evidence.logged(run).completions) is not None
        and columns.correct_from == "reward"
    ]
    if by_reward:
        found.append(
            f"{len(by_reward)} run(s) log no correctness; a reward of 0.99 or more counts as right."
        )
    return found


def input_hashes(evidence: Evidence) -> Mapping[str, str]:
    """Return the SHA-256 of every stream read, by its name in the report."""
    return {
        f"{evidence.settings.shown(run)}/{name}": run.sha256(name)
        for run in evidence.runs
        for name in INPUTS
        if run.has(name)
    }
