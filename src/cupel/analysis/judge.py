"""Judging a study: its declared contrasts decided and written down beside its runs.

The only part of the analysis that writes. Knows the study folder; refuses to judge a study none
of whose runs is finished, and to call a result confirmatory that was not declared in time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from cupel.analysis.compare import comparison_report
from cupel.analysis.evidence import Arms, Evidence, Settings
from cupel.analysis.litmus import litmus_report
from cupel.analysis.looks import LookRule
from cupel.analysis.markdown import comparison_markdown, litmus_markdown, significance_markdown
from cupel.analysis.significance import significance_report
from cupel.config import canonical_json, to_dict, validate
from cupel.errors import ConfigError
from cupel.lab.files import write_atomically, write_json
from cupel.lab.store import RunRecord, StudyRecord, read_study
from cupel.lab.study import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What was found and written.

    Attributes:
        significance, litmus: None for a study with a single condition.
        sentence: the one to read first.
        verdict: improvement, degradation, equivalent or inconclusive; None without a contrast.
        files: what was written, by name.
    """

    folder: Path
    comparison: Mapping[str, Any]
    significance: Mapping[str, Any] | None
    litmus: Mapping[str, Any] | None
    sentence: str
    verdict: str | None
    files: tuple[Path, ...]


def judge(study_folder: Path | str) -> Judgement:
    """Decide the primary and secondary contrasts of a study and write its analysis folder.

    Raises:
        DataError: the folder holds no study, no run is finished, or a file is damaged.
    """
    record = read_study(study_folder)
    evidence = Evidence(record.runs, _settings(record))
    conditions = {label: _runs_of(record, label) for label in record.study.labels}
    primary = record.study.primary
    baseline, candidate = primary if primary is not None else (None, None)
    comparison = comparison_report(conditions, evidence, baseline=baseline, candidate=candidate)
    reports = {"comparison": (comparison, comparison_markdown(comparison))}
    significance = litmus = None
    if primary is not None:
        arms = _all_arms(record, conditions)
        significance = significance_report(arms, evidence)
        reports["significance"] = (significance, significance_markdown(significance))
        litmus = litmus_report(arms[0], evidence)
        reports["litmus"] = (litmus, litmus_markdown(litmus))
    return Judgement(
        folder=record.folder,
        comparison=comparison,
        significance=significance,
        litmus=litmus,
        sentence=significance["sentence"]
        if significance is not None
        else f"One condition, nothing to compare: {record.study.labels[0]}.",
        verdict=significance["verdict"] if significance is not None else None,
        files=_write(record.folder / "analysis", reports),
    )


def _settings(record: StudyRecord) -> Settings:
    decision = record.study.decision
    return Settings(
        endpoint=record.study.endpoint,
        alpha=decision.alpha,
        primary_test=decision.primary_test,
        effect=decision.effect,
        margin=decision.margin,
        exploratory=tuple(decision.exploratory),
        looks=_look_rule(record),
        family=decision.family,
        failure=decision.failure,
        failure_value=decision.failure_value,
        resamples=decision.resamples,
        root=record.folder,
        lock_sha256=str(record.lock["sha256"]) if record.lock and "sha256" in record.lock else None,
        mode=reading_mode(record),
    )


def _look_rule(record: StudyRecord) -> LookRule | None:
    study, decision = record.study, record.study.decision
    if not decision.looks:
        return None
    return LookRule(
        sizes=tuple(decision.looks),
        spending=decision.spending,
        combination=decision.combination,
        order=(*study.seeds, *study.reserve_seeds),
        planned=len(study.seeds),
    )


def _runs_of(record: StudyRecord, label: str) -> tuple[RunRecord, ...]:
    return tuple(run for run in record.runs if run.condition == label)


def _all_arms(record: StudyRecord, conditions: Mapping[str, tuple[RunRecord, ...]]) -> list[Arms]:
    assert record.study.primary is not None
    contrasts = [record.study.primary, *record.study.decision.secondary]
    return [
        Arms(
            baseline=baseline,
            candidate=candidate,
            baseline_runs=conditions[baseline],
            candidate_runs=conditions[candidate],
            family="primary" if index == 0 else "secondary",
        )
        for index, (baseline, candidate) in enumerate(contrasts)
    ]


def reading_mode(record: StudyRecord) -> Literal["confirmatory", "exploratory"]:
    """Say how a study may be read.

    Confirmatory: its lock is intact, declares this endpoint, decision and these seeds, was never
    amended after outcomes were seen, and is older than the start of every run.
    """
    lock = record.lock
    if lock is None or not isinstance(lock.get("lock"), Mapping):
        return "exploratory"
    declared = lock["lock"]
    intact = hashlib.sha256(canonical_json(declared).encode()).hexdigest() == lock.get("sha256")
    study = to_dict(record.study)
    same = all(
        canonical_json(_declared(declared, key)) == canonical_json(study[key])
        for key in ("endpoint", "decision", "seeds")
    )
    amended = any(
        item.get("outcomes_seen") and not _adds_declared_seeds(item, study)
        for item in lock.get("amendments", ())
    )
    in_time = _is_older(str(lock.get("locked_at")), record.manifest)
    return "confirmatory" if intact and same and not amended and in_time else "exploratory"


def _declared(lock: Mapping[str, Any], key: str) -> Any:
    """Return what a lock declares; a setting it does not know yet has its default."""
    found = lock.get(key)
    if key != "decision" or not isinstance(found, Mapping):
        return found
    try:
        return to_dict(validate(Decision, found, where="plan.lock"))
    except ConfigError:
        return None


def _adds_declared_seeds(amendment: Mapping[str, Any], study: Mapping[str, Any]) -> bool:
    """Say whether an amendment only took reserve seeds into use, in order, under declared looks."""
    old = amendment.get("replaced_lock")
    if not isinstance(old, Mapping) or not study["decision"]["looks"]:
        return False
    only_seeds = set(amendment.get("changed", ())) <= {"seeds", "reserve_seeds", "looks"}
    before, after = list(old.get("seeds", ())), list(study["seeds"])
    order = [*before, *old.get("reserve_seeds", ())]
    unchanged = order == [*after, *study["reserve_seeds"]] and after[: len(before)] == before
    same_rule = canonical_json(_declared(old, "decision")) == canonical_json(study["decision"])
    return only_seeds and unchanged and same_rule


def _is_older(locked_at: str, manifest: Mapping[str, Any]) -> bool:
    """Say whether the lock is older than the first start of a run."""
    starts = [entry["started_at"] for entry in manifest["runs"] if entry.get("started_at")]
    try:
        locked = datetime.fromisoformat(locked_at)
        return all(locked <= datetime.fromisoformat(str(start)) for start in starts)
    except (ValueError, TypeError):
        return False


def _write(folder: Path, reports: Mapping[str, tuple[Mapping[str, Any], str]]) -> tuple[Path, ...]:
    folder.mkdir(exist_ok=True)
    files = []
    for name, (data, text) in reports.items():
        write_json(folder / f"{name}.json", data)
        write_atomically(folder / f"{name}.md", text.encode())
        files += [folder / f"{name}.json", folder / f"{name}.md"]
    return tuple(files)
