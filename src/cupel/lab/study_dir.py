"""The study folder: the plan and its lock written before anything runs, the manifest kept true.

Knows study.toml, plan.lock, manifest.json and run_commands.sh. Refuses to change what was
declared once outcomes exist, unless the change is written down with its reason.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from cupel.config import canonical_json, to_dict
from cupel.errors import PlanError, UsageError
from cupel.lab.files import read_json, write_atomically, write_json
from cupel.lab.metrics import Metric
from cupel.lab.provenance import capture, redact
from cupel.lab.run_dir import RunFolder, now
from cupel.lab.study import StudyConfig

if TYPE_CHECKING:
    from cupel.lab.plan import Plan, RunSpec

SCHEMA = 1


def write_plan(
    plan: Plan,
    folder: Path | str,
    argv: Sequence[str] | None = None,
    *,
    amend: str | None = None,
) -> StudyFolder:
    """Write a study folder, ready to run; writing the same plan again changes nothing measured.

    Args:
        argv: the command as typed, for the record.
        amend: reason for changing a plan whose runs have already measured something; the old
            lock, the reason and that outcomes had been seen are kept in the new one.

    Raises:
        UsageError: the folder cannot be written, or holds the outcome of another run.
        PlanError: outcomes exist under another plan, and no reason to amend it was given.
    """
    study = StudyFolder(Path(folder))
    study.next_lock(plan.lock, amend=amend)
    for spec in plan.runs:  # whatever refuses the plan does so before anything is written
        study.run(spec.folder).holds(spec)
    try:
        (study.path / "runs").mkdir(parents=True, exist_ok=True)
        study.write_lock(plan.lock, amend=amend)
        write_atomically(study.path / "study.toml", study_toml(plan.study))
        for spec in plan.runs:
            study.run(spec.folder).create(spec)
        study.write_manifest(plan, argv)
        script = study.path / "run_commands.sh"
        write_atomically(script, _script(plan.runs))
        script.chmod(0o755)
    except OSError as error:
        raise UsageError(f"{study.path}: cannot be written ({error.strerror})") from None
    return study


def study_toml(study: StudyConfig) -> bytes:
    """Return the study file of a study, every default spelled out.

    Raises:
        PlanError: a setting cannot be written in TOML (an explicit None).
    """
    data = study.model_dump(mode="json")
    if study.tuning is None:
        del data["tuning"]
    if study.follow.tracker == "none":
        del data["follow"]
    for table in ("endpoint", "decision"):  # None is the default of every optional field there
        data[table] = {key: value for key, value in data[table].items() if value is not None}
    try:
        return tomli_w.dumps(data).encode()
    except TypeError:
        raise PlanError(
            "the study's config holds an explicit None, which TOML cannot say; "
            "leave that setting out"
        ) from None


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """One study folder, by its path."""

    path: Path

    def run(self, folder: str) -> RunFolder:
        """Return the run folder of this name."""
        return RunFolder(self.path / "runs" / folder)

    def manifest(self) -> dict[str, Any]:
        """Read manifest.json.

        Raises:
            DataError: it is missing or damaged.
        """
        return read_json(self.path / "manifest.json")

    def save_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace manifest.json atomically."""
        write_json(self.path / "manifest.json", manifest)

    @property
    def has_outcomes(self) -> bool:
        """Whether any run has measured anything."""
        folders = (path for path in (self.path / "runs").glob("*/"))
        return any(RunFolder(folder).has_outcome for folder in folders)

    def write_lock(self, content: Mapping[str, Any], *, amend: str | None = None) -> None:
        """Write plan.lock; an equal one stays as it is, a different one needs leave.

        Raises:
            PlanError: outcomes exist under a different lock and no reason was given.
        """
        lock = self.next_lock(content, amend=amend)
        if lock is not None:
            text = canonical_json(lock) + "\n"
            write_atomically(self.path / "plan.lock", text.encode(), fsync=True)

    def next_lock(
        self, content: Mapping[str, Any], *, amend: str | None = None
    ) -> dict[str, Any] | None:
        """Return what plan.lock must say; None where it says so already. Writes nothing.

        Raises:
            PlanError: outcomes exist under a different lock and no reason was given.
        """
        path = self.path / "plan.lock"
        digest = lock_sha256(content)
        old = read_json(path) if path.is_file() else None
        if old is not None and old["sha256"] == digest:
            return None
        amendments: list[Any] = list(old["amendments"]) if old is not None else []
        if old is not None and self.has_outcomes:
            changed = ", ".join(_changed(old["lock"], content)) or "its form"
            if amend is None:
                raise PlanError(
                    f"{self.path}: this plan differs from plan.lock in {changed}, and runs have "
                    "already measured something. Use another folder, or amend the plan with a "
                    "reason (the amendment is shown with every result)"
                )
            amendments.append(
                {
                    "at": now(),
                    "reason": amend,
                    "changed": _changed(old["lock"], content),
                    "outcomes_seen": True,
                    "replaced_sha256": old["sha256"],
                    "replaced_lock": old["lock"],
                }
            )
        return {
            "lock": content,
            "sha256": digest,
            "locked_at": now(),
            "amendments": amendments,
        }

    def write_manifest(self, plan: Plan, argv: Sequence[str] | None) -> None:
        """Write the manifest of a plan, keeping what earlier attempts left in it."""
        path = self.path / "manifest.json"
        old = read_json(path) if path.is_file() else {}
        known = {entry["id"] + entry["folder"]: entry for entry in old.get("runs", ())}
        provenance = capture(argv)
        manifest = {
            "schema": SCHEMA,
            "name": plan.study.name,
            "created_at": old.get("created_at", now()),
            "updated_at": now(),
            "argv": provenance["argv"],
            "lock_sha256": lock_sha256(plan.lock),
            "config": to_dict(plan.study),
            "conditions": _conditions(plan),
            "costs": dict(plan.costs),
            "metrics": {
                stream: [_declaration(metric) for metric in metrics]
                for stream, metrics in plan.metrics.items()
            },
            "provenance": provenance,
            "runs": [
                known.get(f"{spec.id}runs/{spec.folder}") or _entry(spec) for spec in plan.runs
            ],
        }
        self.save_manifest(manifest)


def lock_sha256(content: Mapping[str, Any]) -> str:
    """Return the identity of a plan: the SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _conditions(plan: Plan) -> dict[str, Any]:
    """Say of every condition what it takes to repeat it: each setting, and what else counts."""
    roles = dict(zip(plan.study.primary or (), ("baseline", "candidate"), strict=False))
    return {
        label: {
            "role": roles.get(label),
            "settings": settings,
            "depends_on": plan.depends_on[label],
        }
        for label, settings in plan.lock["conditions"].items()
    }


def _entry(spec: RunSpec) -> dict[str, Any]:
    return {
        "id": spec.id,
        "condition": spec.condition,
        "seed": spec.seed,
        "folder": f"runs/{spec.folder}",
        "command": redact(spec.command),
        "steps": spec.costs.get("steps"),
        "status": "planned",
        "attempts": 0,
        "failure": None,
        "started_at": None,
        "ended_at": None,
    }


def _declaration(metric: Metric) -> dict[str, Any]:
    """Return what a reader needs to show a metric without the recipe that wrote it."""
    limits = metric.limits
    return {
        "name": metric.name,
        "meaning": metric.meaning,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "limits": limits and [end if math.isfinite(end) else None for end in limits],
    }


def _script(runs: Sequence[RunSpec]) -> bytes:
    lines = [
        "#!/usr/bin/env bash",
        "# Runs the whole study, one run after the other; complete runs are skipped.",
        "set -euo pipefail",
        'cd "$(dirname "$0")"',
        *(shlex.join(run.command) for run in runs),
    ]
    return ("\n".join(lines) + "\n").encode()


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = dict.fromkeys([*old, *new])
    return [key for key in keys if canonical_json(old.get(key)) != canonical_json(new.get(key))]
