"""How to do the study again: the exact commands, and what they cannot bring back.

Pure. Takes commands, commit and versions from the manifest; refuses to print a command that was
not recorded.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cupel.report.contract import lock_hash, preformatted
from cupel.report.formats import count_text
from cupel.report.view import StudyView


def reproduce_section(view: StudyView) -> str:
    """Return the commands that repeat the study, a single run, and this page."""
    manifest = view.record.manifest
    recorded = manifest.get("provenance")
    facts: Mapping[str, Any] = recorded if isinstance(recorded, Mapping) else {}
    name = shlex.quote(view.folder.resolve().name)
    lines = [
        *_code_lines(facts),
        "# the study, from its own file",
        f"cupel run {name}/study.toml --out again/{name}",
        *_lock_lines(view),
        "# the verdict and this page, from the rows that are here",
        f"cupel report {name}",
    ]
    argv = manifest.get("argv")
    typed = (
        f"<p>Planned by: <code>{escape(shlex.join(_command(argv)))}</code></p>"
        if isinstance(argv, list) and argv
        else "<p>The command that planned it was not recorded.</p>"
    )
    commands = preformatted("\n".join(lines))
    return f"{typed}{commands}{_notes(facts)}{_single_runs(manifest)}"


def _code_lines(facts: Mapping[str, Any]) -> list[str]:
    git = facts.get("git")
    commit = git.get("commit") if isinstance(git, Mapping) else None
    lines = ["# the code"]
    lines.append(f"git checkout {commit}" if commit else "# its commit was not recorded")
    packages = facts.get("packages")
    if isinstance(packages, Mapping) and packages:
        wanted = [key for key in ("numpy", "scipy", "torch", "transformers") if key in packages]
        pins = " ".join(shlex.quote(f"{key}=={packages[key]}") for key in wanted)
        if pins:
            lines.append(f"pip install -e . {pins}")
    return lines


def _lock_lines(view: StudyView) -> list[str]:
    digest = lock_hash(view.record.lock) if view.record.lock is not None else None
    return [f"# its plan.lock must say sha256 {digest}"] if digest else []


def _notes(facts: Mapping[str, Any]) -> str:
    git = facts.get("git")
    notes = []
    if isinstance(git, Mapping) and git.get("dirty"):
        notes.append("The code had changes that were not committed; the commit alone is not it.")
    where = ", ".join(str(facts[key]) for key in ("cpu", "gpu", "os") if facts.get(key))
    if where:
        notes.append(
            f"Ran on {where}. On other hardware the last digits differ, and with them single "
            "samples; the same bytes are promised for the same machine and versions."
        )
    return "".join(f"<p class=lede>{escape(note)}</p>" for note in notes)


def _single_runs(manifest: Mapping[str, Any]) -> str:
    entries = [entry for entry in manifest.get("runs") or () if isinstance(entry, Mapping)]
    commands = [_command(entry.get("command")) for entry in entries]
    lines = [shlex.join(command) for command in commands if command]
    if not lines:
        return ""
    text = "\n".join(lines)
    return (
        f"<details><summary>{count_text(len(lines), 'run')} one by one (run_commands.sh): each "
        "continues or skips what is there</summary>"
        f"{preformatted(text)}</details>"
    )


def _command(value: Any) -> Sequence[str]:
    return [str(word) for word in value] if isinstance(value, list) else []
