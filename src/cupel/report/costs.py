"""What a study spent: time, completions, tokens and money, by condition.

Pure but for the run rows it is handed. Adds up what the steps logged; refuses to estimate what was
not logged.
"""

from __future__ import annotations

from cupel.report.tables import Cell, Column, Table, run_time, total, without_empty
from cupel.report.view import RunView, StudyView

_SPENT = (
    ("completions", "total_count", "number"),
    ("sampled tokens", "sampled_tokens", "number"),
    ("trained tokens", "trained_tokens", "number"),
    ("evaluation time", "eval/eval_time_s", "duration"),
)
_MONEY = "_usd"


def cost_table(view: StudyView) -> Table:
    """Return one row a condition and one over all; a key that no run logged is left out."""
    keys = dict.fromkeys(key for run in view.runs for key in run.keys if key.endswith(_MONEY))
    spent = [*_SPENT, *((key, key, "") for key in keys)]
    columns = (
        Column(name="condition"),
        Column(name="runs", unit="count"),
        Column(name="time", unit="duration"),
        *(Column(name=name, unit="" if unit == "number" else unit) for name, _, unit in spent),
        Column(name="tokens per second", unit="tokens/s"),
    )
    rows = [_row(label, view.of(label), spent) for label in view.labels]
    if len(view.labels) > 1:
        rows.append(_row("all together", list(view.runs), spent))
    table = Table(title="Cost", columns=columns, rows=tuple(rows))
    return without_empty(table, {column.name for column in columns[2:]})


def _row(label: str, runs: list[RunView], spent: list[tuple[str, str, str]]) -> tuple[Cell, ...]:
    sums = [_sum([total(run, key) for run in runs]) for _, key, _ in spent]
    sampled = [(total(run, "sampled_tokens"), total(run, "step_time_s")) for run in runs]
    both = [(tokens, time) for tokens, time in sampled if tokens is not None and time]
    speed = sum(tokens for tokens, _ in both) / sum(time for _, time in both) if both else None
    return (label, len(runs), _sum([run_time(run) for run in runs]), *sums, speed)


def _sum(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) if present else None
