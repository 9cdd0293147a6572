"""What a page of the viewer holds, whatever the domain: runs of groups of rows, and its words.

Pure. Knows the shape of the page's data and how it becomes one inert block of text. Refuses to
know where a row comes from.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["completions", "snapshots", "puzzles"]


MORE = "cupel report STUDY --completions N"
"""What a reader types to see more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A button that shows only the rows with one tag."""

    tag: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContent:
    """One run's groups; `seed` is None where it has none.

    A group holds `step, problem, rows`, and what all its rows share; a row holds its `tags`.
    """

    condition: str
    seed: int | None
    groups: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Everything on the page.

    Attributes:
        levels: what a step, a problem and a row are called here; an empty name hides the level.
        facts: what the page must know besides, e.g. a palette.
        notes: what was left out and why, in sentences.
    """

    kind: Kind
    levels: tuple[str, str, str]
    filters: Sequence[Filter]
    runs: Sequence[RunContent]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def encoded(content: Content) -> str:
    """Return the content as base64 of gzipped JSON: no character of it means anything in HTML.

    The same content gives the same text: gzip's clock is left out.
    """
    data = {
        "kind": content.kind,
        "levels": list(content.levels),
        "filters": [{"tag": one.tag, "label": one.label} for one in content.filters],
        "facts": dict(content.facts),
        "runs": [
            {"condition": run.condition, "seed": run.seed, "groups": list(run.groups)}
            for run in content.runs
        ],
    }
    # ASCII, because a lone surrogate of an earlier system's file has no UTF-8
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0)).decode()
