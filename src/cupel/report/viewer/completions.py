"""Completions of training and evaluation runs, with every token's values where they were recorded.

Reads emergence/generations.jsonl and emergence/tokens.jsonl: one pass for where the lines stand,
then only the chosen lines. Refuses to fail over one damaged run, and to hide that it left one out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO

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
    Filter(tag="recorded", label="tokens recorded"),
)

MOST_BYTES = 12_000_000
"""Rows read from disk for one page; packed, they come to about its 3 MB."""

_KEY = re.compile(rb'\{"step":(\d+),"problem_id":"(?:[^"\\]|\\.)*","group":(\d+),"sample":(\d+),')
_VALUES = ("entropies", "logprobs", "planning", "advantages")

Key = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Where a run's lines stand, by step, group and sample: offset and length in their file."""

    texts: Mapping[Key, tuple[int, int]]
    tokens: Mapping[Key, tuple[int, int]]

    @property
    def cells(self) -> list[Cell]:
        """The run's groups."""
        groups: dict[tuple[int, int], list[int]] = {}
        for key, (_, length) in self.texts.items():
            recorded = self.tokens.get(key)
            groups.setdefault(key[:2], []).append(length + (recorded[1] if recorded else 0))
        detailed = {key[:2] for key in self.tokens}
        return [
            Cell(
                step=step,
                group=group,
                size=len(weights),
                detailed=(step, group) in detailed,
                weight=sum(weights),
            )
            for (step, group), weights in groups.items()
        ]


def completions_content(runs: Sequence[RunRecord], *, limit: int) -> Content:
    """Return what the page shows of runs that wrote completions.

    Args:
        limit: most completions shown.
    """
    notes: list[str] = []
    found: list[tuple[RunRecord, Index]] = []
    for run in runs:
        try:
            found.append((run, _index(run)))
        except DataError as error:
            notes.append(f"{run.condition}, seed {run.seed} is left out: {error}")
    cells = [index.cells for _, index in found]
    chosen = choose(cells, limit=limit, most_weight=MOST_BYTES)
    contents = []
    for place, (run, index) in enumerate(found):
        groups = _groups(run, index, _of(chosen, place))
        if groups:
            name = run.condition or run.folder.name
            contents.append(RunContent(condition=name, seed=run.seed, groups=groups))
    total = sum(cell.size for each in cells for cell in each)
    shown = sum(one.cell.size for one in chosen)
    if shown < total:
        notes.insert(0, _left_out(shown, total))
    return Content(
        kind="completions",
        levels=("Step", "Problem", "Completion"),
        filters=FILTERS,
        runs=contents,
        facts={"recorded": any(index.tokens for _, index in found)},
        notes=notes,
    )


def _left_out(shown: int, total: int) -> str:
    return (
        f"Showing {shown:,} of {total:,} completions, in whole groups: of every run the groups "
        "whose tokens were recorded first; the last step, the first, and steps spread between "
        f"them. More, as far as 3 MB hold it: {MORE}"
    )


def _of(chosen: Iterable[Chosen], run: int) -> list[Cell]:
    cells = [one.cell for one in chosen if one.run == run]
    return sorted(cells, key=lambda cell: (cell.step, cell.group))


def _index(run: RunRecord) -> Index:
    return Index(
        texts=_lines(run, GENERATIONS), tokens=_lines(run, TOKENS) if run.has(TOKENS) else {}
    )


def _lines(run: RunRecord, stream: str) -> dict[Key, tuple[int, int]]:
    """Find every line of a stream without parsing what is not needed."""
    run.refuse_changed(stream)
    found: dict[Key, tuple[int, int]] = {}
    names: dict[tuple[int, str], int] = {}
    sizes: dict[tuple[int, int], int] = {}
    offset = 0
    path = run.folder / stream
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.endswith(b"\n") and run.status == "running":
                break
            key = _key_of(line, names, sizes, f"{path}:{number}")
            found[key] = (offset, len(line))
            offset += len(line)
    return found


def _key_of(
    line: bytes,
    names: dict[tuple[int, str], int],
    sizes: dict[tuple[int, int], int],
    where: str,
) -> Key:
    """Return step, group and sample; files of earlier systems tell groups by their prompts only."""
    matched = _KEY.match(line)
    if matched is not None and line.endswith(b"}\n"):
        return int(matched[1]), int(matched[2]), int(matched[3])
    row = _parsed(line, where)
    step, group = row.get("step", 0), row.get("group")
    if not isinstance(group, int):
        name = (step, str(row.get("problem_id") or row.get("prompt")))
        known = sum(1 for other in names if other[0] == step)
        group = names.setdefault(name, known)
    sample = sizes.get((step, group), 0)
    sizes[step, group] = sample + 1
    return step, group, row.get("sample", sample)


def _groups(run: RunRecord, index: Index, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Read the chosen groups; `cells` are in reading order."""
    wanted: dict[tuple[int, int], list[Key]] = {(cell.step, cell.group): [] for cell in cells}
    for key in index.texts:
        if key[:2] in wanted:
            wanted[key[:2]].append(key)
    tokens = {key: at for key, at in index.tokens.items() if key[:2] in wanted}
    with ExitStack() as stack:
        texts = stack.enter_context((run.folder / GENERATIONS).open("rb"))
        details = stack.enter_context((run.folder / TOKENS).open("rb")) if tokens else None
        groups = []
        for keys in wanted.values():
            rows = [_read(texts, index.texts[key]) for key in keys]
            recorded = [
                _read(details, tokens[key]) if details is not None and key in tokens else None
                for key in keys
            ]
            groups.append(_group(keys, rows, recorded))
    return groups


def _read(handle: BinaryIO, at: tuple[int, int]) -> dict[str, Any]:
    handle.seek(at[0])
    return _parsed(handle.read(at[1]), f"{handle.name}, byte {at[0]}")


def _group(
    keys: Sequence[Key],
    rows: Sequence[Mapping[str, Any]],
    tokens: Sequence[Mapping[str, Any] | None],
) -> dict[str, Any]:
    first, (step, group, _) = rows[0], keys[0]
    kept = {
        "prompt": first.get("prompt"),
        "answer": first.get("answer"),
        "uncertainty": next((one["uncertainty_kind"] for one in tokens if one is not None), None),
    }
    return {
        "step": step,
        "group": group,
        "problem": str(first.get("problem_id") or f"group {group}"),
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
        shown["tags"].append("recorded")
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
