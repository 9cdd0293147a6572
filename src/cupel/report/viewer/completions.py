"""Completions of training and evaluation runs, with every token's values where they were recorded.

Reads emergence/generations.jsonl and emergence/tokens.jsonl: one pass for where the lines stand,
then only the chosen lines. Refuses to fail over one damaged run, and to hide that it left one out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from cupel.analysis.completions import RIGHT_REWARD
from cupel.errors import DataError
from cupel.lab.store import RunRecord
from cupel.report.viewer.content import MORE, Content, Filter, RunContent
from cupel.report.viewer.selection import Cell, Chosen, choose

GENERATIONS = "emergence/generations.jsonl"
TOKENS = "emergence/tokens.jsonl"

FILTERS = (
    Filter(tag="correct", label="correct"),
    Filter(tag="wrong", label="wrong"),
    Filter(tag="truncated", label="truncated"),
    Filter(tag="ungradable", label="ungradable"),
)

_KEY = re.compile(rb'\{"step":(\d+),"problem_id":"(?:[^"\\]|\\.)*","group":(\d+),')
_VALUES = ("entropies", "logprobs", "planning", "advantages")

Key = tuple[int, int, int]


def completions_content(runs: Sequence[RunRecord], *, limit: int) -> Content:
    """Return what the page shows of runs that wrote completions.

    Args:
        limit: most completions shown.
    """
    notes: list[str] = []
    cells: list[list[Cell]] = []
    details: list[dict[Key, Mapping[str, Any]]] = []
    for run in runs:
        try:
            details.append(_details(run))
            cells.append(_cells(run, details[-1]))
        except DataError as error:
            notes.append(f"{run.condition}, seed {run.seed} is left out: {error}")
            details[len(cells) :] = [{}]
            cells.append([])
    chosen = choose(cells, limit=limit)
    present = {one.run for one in chosen}
    total = sum(cell.size for each in cells for cell in each)
    shown = sum(one.cell.size for one in chosen)
    if shown < total:
        notes.insert(0, _left_out(shown, total))
    return Content(
        kind="completions",
        levels=("Step", "Problem", "Completion"),
        filters=FILTERS,
        runs=[
            RunContent(
                condition=run.condition or run.folder.name,
                seed=run.seed,
                groups=_groups(run, _of(chosen, place), details[place]),
            )
            for place, run in enumerate(runs)
            if place in present
        ],
        facts={"recorded": any(details)},
        notes=notes,
    )


def _left_out(shown: int, total: int) -> str:
    return (
        f"Showing {shown:,} of {total:,} completions, in whole groups: of every run the groups "
        "whose tokens were recorded first; the last step, the first, and steps spread between "
        f"them. More: {MORE}"
    )


def _of(chosen: Iterable[Chosen], run: int) -> list[Cell]:
    cells = [one.cell for one in chosen if one.run == run]
    return sorted(cells, key=lambda cell: (cell.step, cell.group))


def _cells(run: RunRecord, details: Mapping[Key, Any]) -> list[Cell]:
    """Find every group of a run's completions without parsing what is not needed."""
    run.refuse_changed(GENERATIONS)
    detailed = {key[:2] for key in details}
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    names: dict[tuple[int, str], int] = {}
    offset = 0
    path = run.folder / GENERATIONS
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.endswith(b"\n") and run.status == "running":
                break
            key = _key_of(line, names, f"{path}:{number}")
            groups.setdefault(key, []).append((offset, len(line)))
            offset += len(line)
    return [
        Cell(step=key[0], group=key[1], size=len(at), detailed=key in detailed, lines=tuple(at))
        for key, at in groups.items()
    ]


def _key_of(line: bytes, names: dict[tuple[int, str], int], where: str) -> tuple[int, int]:
    """Return step and group; files of earlier systems tell groups by problem or prompt only."""
    found = _KEY.match(line)
    if found is not None:
        return int(found[1]), int(found[2])
    row = _parsed(line, where)
    step = row.get("step", 0)
    if isinstance(row.get("group"), int):
        return step, row["group"]
    name = (step, str(row.get("problem_id") or row.get("prompt")))
    known = sum(1 for other in names if other[0] == step)
    return step, names.setdefault(name, known)


def _details(run: RunRecord) -> dict[Key, Mapping[str, Any]]:
    """Return the recorded tokens by step, group and sample; empty where the run has none."""
    if not run.has(TOKENS):
        return {}
    return {(row["step"], row["group"], row["sample"]): row for row in run.rows(TOKENS)}


def _groups(
    run: RunRecord, cells: Sequence[Cell], details: Mapping[Key, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    path = run.folder / GENERATIONS
    groups = []
    with path.open("rb") as handle:
        for cell in cells:
            rows = []
            for offset, length in cell.lines:
                handle.seek(offset)
                rows.append(_parsed(handle.read(length), f"{path}, byte {offset}"))
            groups.append(_group(cell, rows, details))
    return groups


def _group(
    cell: Cell, rows: Sequence[Mapping[str, Any]], details: Mapping[Key, Mapping[str, Any]]
) -> dict[str, Any]:
    first = rows[0]
    keys = [(cell.step, cell.group, row.get("sample", place)) for place, row in enumerate(rows)]
    tokens = [details.get(key) for key in keys]
    kept = {
        "prompt": first.get("prompt"),
        "answer": first.get("answer"),
        "uncertainty": next((one["uncertainty_kind"] for one in tokens if one is not None), None),
    }
    return {
        "step": cell.step,
        "group": cell.group,
        "problem": str(first.get("problem_id") or f"group {cell.group}"),
        **{name: str(value) for name, value in kept.items() if value is not None},
        "rows": [_row(row, key[2], one) for row, key, one in zip(rows, keys, tokens, strict=True)],
    }


def _row(row: Mapping[str, Any], sample: Any, tokens: Mapping[str, Any] | None) -> dict[str, Any]:
    correct = _correct(row)
    outcome = {True: "correct", False: "wrong", None: "ungradable"}[correct]
    cut = row.get("finish_reason") == "length"
    text = row.get("completion", row.get("output", ""))
    shown: dict[str, Any] = {
        "n": sample,
        "tags": [outcome, "truncated"] if cut else [outcome],
        "reward": row.get("reward"),
        "found": row.get("answer_found"),
        "cause": row.get("ungradable_cause"),
        "tokens": row.get("num_tokens"),
        "text": text if isinstance(text, str) else json.dumps(text),
    }
    if tokens is not None:
        del shown["text"]
        shown |= {"pieces": tokens["pieces"], "before": tokens["advantage"]}
        shown |= {name: tokens[name] for name in _VALUES if tokens.get(name) is not None}
        if not tokens["trained"]:
            shown["untrained"] = True
    return {name: value for name, value in shown.items() if value is not None}


def _correct(row: Mapping[str, Any]) -> bool | None:
    """Return the verdict; files of earlier systems keep it in `metadata` or in the reward only."""
    if "correct" in row:
        value = row["correct"]
    elif isinstance(row.get("metadata"), Mapping) and "correctness" in row["metadata"]:
        value = row["metadata"]["correctness"]
    else:
        reward = row.get("reward")
        value = None if reward is None else reward >= RIGHT_REWARD
    return None if value is None else bool(value)


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as strict:
        try:
            row = json.loads(line)  # which takes lone surrogates; the page shows them as such
        except ValueError:
            raise DataError(f"{where}: not strict JSON: {strict}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object")
    return row
