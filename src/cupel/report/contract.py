"""The plan the study was held to, what departed from it, and where the numbers come from.

Pure but for the lock and manifest it is handed. Shows every declared field; refuses to call a
departure small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cupel.config import canonical_json, to_dict
from cupel.report.evidence import Evidence
from cupel.report.formats import count_text, margin_text
from cupel.report.view import StudyView, unit_of

Pairs = Sequence[tuple[str, str]]


def plan_section(view: StudyView, evidence: Evidence | None) -> str:
    """Return the declared plan and the list of deviations from it."""
    deviations = deviations_of(view, evidence)
    listed = (
        "<ul class=caveats>" + "".join(f"<li>{escape(text)}</li>" for text in deviations) + "</ul>"
        if deviations
        else '<p class="lede">None: all runs are complete and the locked plan was followed.</p>'
    )
    study = json.dumps(to_dict(view.record.study), indent=2, ensure_ascii=False)
    return (
        f'<div class="two"><div>{definitions(_plan_pairs(view))}</div>'
        f"<div><h3>Deviations</h3>{listed}</div></div>"
        f"<details><summary>The study file, in full</summary>{preformatted(study)}</details>"
    )


def provenance_section(view: StudyView, evidence: Evidence | None) -> str:
    """Return code, packages, machine and commands as the manifest recorded them."""
    manifest = view.record.manifest
    recorded = manifest.get("provenance")
    facts: Mapping[str, Any] = recorded if isinstance(recorded, Mapping) else {}
    pairs = [
        (name.replace("_", " ").replace(".", " · "), text)
        for name, text in flat({key: facts[key] for key in facts if key != "packages"})
    ]
    if not facts:
        pairs = [("provenance", "not recorded in manifest.json")]
    packages = facts.get("packages")
    more = ""
    if isinstance(packages, Mapping):
        lines = "\n".join(f"{name}=={version}" for name, version in packages.items())
        more = (
            f"<details><summary>{count_text(len(packages), 'package')}</summary>"
            f"{preformatted(lines)}</details>"
        )
    rest = {key: value for key, value in manifest.items() if key not in {"provenance", "runs"}}
    more += (
        "<details><summary>The manifest, without its runs</summary>"
        f"{preformatted(json.dumps(rest, indent=2, ensure_ascii=False))}</details>"
    )
    return definitions(pairs) + more


def deviations_of(view: StudyView, evidence: Evidence | None) -> list[str]:
    """Say everything that is not as planned."""
    found = []
    lock = view.record.lock
    if lock is None:
        found.append("No plan.lock: nothing was declared before the first outcome.")
    elif evidence is not None and evidence.lock_sha256 not in {None, lock_hash(lock)}:
        found.append("The analysis was made under another plan.lock than the one in this folder.")
    if lock is not None:
        found += _changed_since_lock(view, lock)
        found += [_amendment(item) for item in lock.get("amendments", ())]
    if evidence is not None and evidence.mode == "exploratory":
        found.append("Read as exploratory: the lock is missing or younger than the first outcome.")
    found += [
        f"{run.condition}, seed {run.seed}: {run.status}"
        + (f" ({run.reason})" if run.reason else "")
        for run in view.runs
        if run.status != "done"
    ]
    return found


def lock_hash(lock: Mapping[str, Any]) -> str | None:
    """Return the hash written in the lock."""
    value = lock.get("sha256")
    return value if isinstance(value, str) else None


def definitions(pairs: Pairs) -> str:
    """Return a list of names and values."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs)
    return f'<dl class="kv">{rows}</dl>'


def preformatted(text: str) -> str:
    """Return text with its lines kept, in a box that a keyboard can scroll."""
    return f"<pre tabindex=0>{escape(text)}</pre>"


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested data as dotted names and texts; lists of scalars on one line."""
    if isinstance(value, Mapping):
        return [
            pair
            for key, item in value.items()
            for pair in flat(item, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, list):
        return [(prefix, ", ".join(_words(item) for item in value) or "none")]
    return [(prefix, _words(value))]


def _amendment(item: Any) -> str:
    if not isinstance(item, Mapping):
        return f"Amended: {_words(item)}"
    seen = "after outcomes had been seen" if item.get("outcomes_seen") else "before any outcome"
    changed = item.get("changed")
    what = ", ".join(str(key) for key in changed) if isinstance(changed, list) else "the plan"
    return f"Amended {seen} ({item.get('at', 'time not recorded')}): {what}; {item.get('reason')}"


def _words(value: Any) -> str:
    if value is None:
        return "not recorded"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plan_pairs(view: StudyView) -> Pairs:
    study, lock = view.record.study, view.record.lock
    decision, endpoint = study.decision, study.endpoint
    direction = "higher is better" if endpoint.higher_is_better else "lower is better"
    pairs = [
        ("plan.lock", (lock_hash(lock) or "no hash in it") if lock is not None else "none"),
        ("locked at", _words(lock.get("locked_at")) if lock is not None else "never"),
        ("question", study.question or "not stated"),
        ("recipe", study.recipe),
        ("conditions", ", ".join(study.labels)),
        ("seeds", ", ".join(str(seed) for seed in study.seeds)),
        ("primary endpoint", f"{endpoint.metric}, over {endpoint.over}, {direction}"),
    ]
    if study.primary is not None:
        test = {"sign_flip": "exact sign-flip", "paired_t": "paired t"}[decision.primary_test]
        unit = unit_of(endpoint.metric)
        pairs += [
            ("primary contrast", f"{study.primary[1]} minus {study.primary[0]}"),
            ("test", f"{test} on seed differences, two-sided, alpha {decision.alpha:g}"),
            ("secondary contrasts", _contrast_words(decision.secondary)),
            (
                "equivalence margin",
                "none declared" if decision.margin is None else margin_text(decision.margin, unit),
            ),
            ("a failed run counts as", decision.failure.replace("_", " ")),
        ]
    if study.reserve_seeds:
        pairs.append(("reserve seeds", ", ".join(str(seed) for seed in study.reserve_seeds)))
    return pairs


def _contrast_words(pairs: Sequence[tuple[str, str]]) -> str:
    words = "; ".join(f"{candidate} minus {baseline}" for baseline, candidate in pairs)
    return f"{words} (Holm)" if words else "none"


def _changed_since_lock(view: StudyView, lock: Mapping[str, Any]) -> list[str]:
    plan = lock.get("lock", lock)
    if not isinstance(plan, Mapping):
        return []
    study = to_dict(view.record.study)
    return [
        f"study.toml differs from plan.lock in '{key}'."
        for key in ("question", "recipe", "endpoint", "decision", "seeds", "reserve_seeds")
        if key in plan and canonical_json(plan[key]) != canonical_json(study[key])
    ]
