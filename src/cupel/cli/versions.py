"""Whether all runs of a study were made with the same things outside their processes.

Knows what manifest.json keeps of every attempt. Refuses to judge: a study half of which ran
against another version of a server is told, not refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def version_warnings(folder: Path) -> list[str]:
    """Say what differed between the attempts of a study, one sentence a fact."""
    from cupel.lab.study_dir import StudyFolder

    return differences(
        (Path(entry["folder"]).name, facts)
        for entry in StudyFolder(folder).manifest()["runs"]
        for facts in entry.get("made_with", ())
    )


def differences(found: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Compare what attempts found, given as pairs of a run and its facts.

    >>> differences([("a", {"sdk": "0.25"}), ("b", {"sdk": "0.28"})])
    ["runs were made with different sdk: '0.25' (a), '0.28' (b); compare them with care"]
    """
    runs: dict[str, dict[str, list[str]]] = {}
    for run, facts in found:
        for name, value in facts.items():
            owners = runs.setdefault(name, {}).setdefault(repr(value), [])
            if run not in owners:
                owners.append(run)
    return [
        f"runs were made with different {name}: "
        + ", ".join(f"{value} ({', '.join(owners)})" for value, owners in values.items())
        + "; compare them with care"
        for name, values in runs.items()
        if len(values) > 1
    ]
