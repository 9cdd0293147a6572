"""The litmus test as a table: each threshold, what was measured, and which evidence was short.

Reads analysis/litmus.json only. Refuses to turn missing evidence into a failed check.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from cupel.errors import DataError
from cupel.lab.files import read_json
from cupel.report.formats import count_text, difference_text, interval_text, value_text
from cupel.report.view import unit_of

_HEADS = ("check", "baseline", "candidate", "difference", "95 % interval", "needed", "seeds")


def litmus_section(study_folder: Path) -> str:
    """Return the litmus test as HTML, or nothing where none was made."""
    path = study_folder / "analysis" / "litmus.json"
    if not path.is_file():
        return ""
    try:
        data = read_json(path)
    except DataError as error:
        return f'<h3>Litmus</h3><p class="empty">{escape(str(error))}</p>'
    status = str(data.get("status", "not recorded"))
    failures = [str(text) for text in data.get("evidence_failures") or ()]
    checks = [check for check in data.get("checks") or () if isinstance(check, Mapping)]
    what = f"profile {data.get('profile', 'not recorded')}, {data.get('mode', 'unknown')} mode"
    rows = "".join(_row(check) for check in checks)
    heads = "".join(f'<th scope="col"{_right(name)}>{name}</th>' for name in _HEADS)
    table = (
        f'<table class="cards"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        if rows
        else ""
    )
    short = (
        f"<details><summary>{count_text(len(failures), 'gap')} in the evidence</summary>"
        f"<ul class=caveats>{''.join(f'<li>{escape(text)}</li>' for text in failures)}</ul>"
        "</details>"
        if failures
        else ""
    )
    return (
        f"<h3>Litmus: {escape(status.lower())}</h3>"
        f'<p class="lede">A quick gate with fixed thresholds ({escape(what)}), beside the verdict '
        f"and never instead of it.</p>{table}{short}"
    )


def _right(name: str) -> str:
    return "" if name == "check" else ' class="r"'


def _row(check: Mapping[str, Any]) -> str:
    metric = str(check.get("metric", "not recorded"))
    unit = "nats" if "entropy" in metric else unit_of(metric)
    ends = check.get("ci95") or (None, None)
    values = (
        metric,
        value_text(check.get("baseline"), unit),
        value_text(check.get("candidate"), unit),
        difference_text(check.get("delta"), unit),
        interval_text(ends[0], ends[1], unit),
        f"≥ {difference_text(check.get('threshold'), unit)}",
        str(check.get("n_seeds", "–")),
    )
    cells = "".join(
        f'<td{_right(name)} data-name="{name}">{escape(value)}</td>'
        for name, value in zip(_HEADS, values, strict=True)
    )
    return f"<tr>{cells}</tr>"
