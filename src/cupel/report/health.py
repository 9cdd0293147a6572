"""Is the instrument itself sound: failures, retries, unreadable answers, values out of bounds.

Pure but for the run rows it is handed. Counts what the runs recorded; refuses to call a count
harmless, and to show a zero for what was never logged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cupel.report.declared import Declarations
from cupel.report.formats import count_text, value_text
from cupel.report.tables import Column, Table, total
from cupel.report.view import RunView, StudyView

Check = tuple[str, str, str]


def health_table(view: StudyView, declared: Declarations) -> Table:
    """Return one row a check: what was found, and in which runs."""
    rows: list[Check] = [
        _failures(view.runs),
        _retries(view.runs),
        _skipped(view.runs),
        _share(view.runs, "ungradable completions", "ungradable_count", "total_count"),
        _share(view.runs, "grader failures", "grader_failure_count", "total_count"),
        _holes(view),
        _outside(view, declared),
    ]
    columns = (Column(name="check"), Column(name="found"), Column(name="where"))
    return Table(title="Health", columns=columns, rows=tuple(rows))


def _failures(runs: Sequence[RunView]) -> Check:
    failed = [run for run in runs if run.failed or run.status == "missing"]
    kinds = Counter(str((run.record.failure or {}).get("kind", run.status)) for run in failed)
    words = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    found = f"{len(failed)} of {count_text(len(runs), 'run')}" + (f" ({words})" if words else "")
    return "failed, damaged or missing runs", found, _names(failed)


def _retries(runs: Sequence[RunView]) -> Check:
    known = [run for run in runs if run.attempts is not None]
    again = [run for run in known if (run.attempts or 0) > 1]
    found = f"{len(again)} of {count_text(len(known), 'run')}" if known else "not recorded"
    return "runs begun more than once", found, _names(again)


def _skipped(runs: Sequence[RunView]) -> Check:
    rows = [(run, row) for run in runs for row in run.rows if "status" in row]
    skipped = [run for run, row in rows if row["status"] == "skipped"]
    found = f"{len(skipped):,} of {count_text(len(rows), 'step')}" if rows else "not logged"
    return "steps without an update", found, _names(skipped)


def _share(runs: Sequence[RunView], name: str, key: str, of: str) -> Check:
    counts = {place: total(run, key) for place, run in enumerate(runs)}
    found = [count for count in counts.values() if count is not None]
    if not found:
        return name, "not logged", ""
    everything = sum(value for run in runs if (value := total(run, of)) is not None)
    share = f" ({value_text(sum(found) / everything, 'rate')} of all)" if everything else ""
    concerned = [runs[place] for place, count in counts.items() if count]
    return name, f"{sum(found):,.0f}{share}", _names(concerned)


def _holes(view: StudyView) -> Check:
    metric = view.record.study.endpoint.metric
    curves = [(run, run.curve(metric)) for run in view.runs]
    rows = sum(curve.steps_T.size for _, curve in curves)
    holes = {place: int(np.isnan(curve.values_T).sum()) for place, (_, curve) in enumerate(curves)}
    concerned = [curves[place][0] for place, count in holes.items() if count]
    found = f"{sum(holes.values()):,} of {count_text(rows, 'row')}" if rows else "not logged"
    return f"rows without {metric}", found, _names(concerned)


def _outside(view: StudyView, declared: Declarations) -> Check:
    name = "values outside their declared limits"
    bounded = {key: each.limits for key, each in declared.by_key.items() if each.limits}
    if not bounded:
        return name, "no limits are recorded", ""
    found: Counter[str] = Counter()
    concerned = []
    for run in view.runs:
        for key, (low, high) in bounded.items():
            values_T = run.curve(key).values_T
            count = 0
            count += 0 if low is None else int((values_T < low).sum())
            count += 0 if high is None else int((values_T > high).sum())
            if count:
                found[key] += count
                concerned.append(run)
    words = ", ".join(f"{count} of {key}" for key, count in found.items()) or "none"
    return name, words, _names(concerned)


def _names(runs: Sequence[RunView]) -> str:
    found = list(dict.fromkeys(f"{run.condition} s{run.seed}" for run in runs))
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    return ", ".join(found[:6]) + more
