"""Reading what runs and studies wrote: rows, results, plans and locks, refused when damaged.

Reads only. Knows the folder formats, those of earlier systems included. Refuses to repair, to
skip a bad line, or to guess a missing number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from cupel.config import did_you_mean, load_toml, nearest, validate
from cupel.errors import DataError
from cupel.lab.files import (
    file_sha256,
    parse_json_lines,
    read_json,
    read_json_lines,
    read_lines,
)
from cupel.lab.metrics import RunStatus
from cupel.lab.study import StudyConfig

T = TypeVar("T")
RecordStatus = RunStatus | Literal["unknown", "missing"]

METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
ONE_ROW_PER_STEP = (METRICS, "emergence/steps.jsonl")
_NOT_ITS_OWN = ("checkpoints", "evaluations")
"""Folders in a run folder whose rows are not the run's: evaluations are runs of their own."""
_STATUSES = ("planned", "running", "done", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What one run left behind.

    Attributes:
        status: as run.json says; `unknown` for a folder of an earlier system (no run.json),
            `missing` for a run of a study whose folder is gone.
        failure: `{"kind", "message"}` of a failed run, else None.
        config: config.json (`recipe, condition, seed, resolved, passed`), empty when absent.
        result: result.json, or None when the run is not complete.
        events: what happened beside the plan: to the run's execution (`at`, `message`), then in
            the run itself (`step`, `message`).
        attempts: how often the run was begun; None where its folder does not say.
        started_at, ended_at: ISO 8601, of the first attempt's begin and the last one's end.
    """

    folder: Path
    condition: str | None
    seed: int | None
    status: RecordStatus
    failure: Mapping[str, Any] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    events: Sequence[Mapping[str, Any]] = ()
    attempts: int | None = None
    started_at: str | None = None
    ended_at: str | None = None
    _kept: dict[tuple[str, str], tuple[Any, Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def has(self, stream: str) -> bool:
        """Say whether the run has a stream such as `evaluations.jsonl`."""
        return (self.folder / stream).is_file()

    def rows(self, stream: str) -> list[dict[str, Any]]:
        """Read a stream, e.g. `metrics.jsonl` or `emergence/steps.jsonl`.

        While the run is `running`, a last line without newline is still being written and is
        left out; in every other state it is an error.

        Raises:
            DataError: the stream is missing (names those there are), damaged, or not as long as
                it was when the run ended.
        """
        path = self.folder / stream
        return list(self.once(stream, "rows", lambda: self._parse(path, stream)))

    def lines(self, stream: str) -> bytes:
        """Read a stream's bytes, whole lines only while the run is `running`; raises as `rows`."""
        if not self.has(stream):
            there = self.streams
            hint = did_you_mean(stream, there) if there else "the run has written no rows yet"
            raise DataError(f"{self.folder}: no stream '{stream}'; {hint}")
        path = self.folder / stream
        self.refuse_changed(stream)
        data = read_lines(path)
        self.once(stream, "sha256", lambda: hashlib.sha256(data).hexdigest())
        return data[: data.rfind(b"\n") + 1] if self.status == "running" else data

    def sha256(self, stream: str) -> str:
        """Return the SHA-256 of a stream's bytes, read at most once."""
        return self.once(stream, "sha256", lambda: file_sha256(self.folder / stream))

    def once(self, stream: str, name: str, make: Callable[[], T]) -> T:
        """Return what was made of a stream, made anew only after the file changed."""
        found = self.folder / stream
        state = found.stat() if found.is_file() else None
        mark = state and (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
        kept = self._kept.get((stream, name))
        if kept is None or kept[0] != mark:
            kept = self._kept[stream, name] = (mark, make())
        return cast(T, kept[1])

    def _parse(self, path: Path, stream: str) -> list[dict[str, Any]]:
        rows = parse_json_lines(path, self.lines(stream))
        if stream in ONE_ROW_PER_STEP:
            _refuse_repeated_steps(path, rows)
        return rows

    def refuse_changed(self, stream: str) -> None:
        """Refuse a stream that is not as long as it was when the run ended.

        Raises:
            DataError: rows were lost or added.
        """
        path = self.folder / stream
        ended_at = (self.result or {}).get("streams", {}).get(stream)
        size = path.stat().st_size
        if ended_at is not None and size != ended_at:
            raise DataError(
                f"{path}: {size} bytes, but {ended_at} when the run ended; "
                "rows were lost or added since, so this is not the run's record any more"
            )

    @property
    def streams(self) -> list[str]:
        """Names of the streams the run has."""
        found = self.folder.rglob("*.jsonl") if self.folder.is_dir() else ()
        names = (path.relative_to(self.folder) for path in found)
        return sorted(name.as_posix() for name in names if name.parts[0] not in _NOT_ITS_OWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """What a study folder holds: the plan it was held to, and its runs in the plan's order."""

    folder: Path
    study: StudyConfig
    manifest: Mapping[str, Any]
    lock: Mapping[str, Any] | None
    runs: tuple[RunRecord, ...]

    def run(self, condition: str, seed: int) -> RunRecord:
        """Return one run.

        Raises:
            DataError: the study has no such run.
        """
        for run in self.runs:
            if run.condition == condition and run.seed == seed:
                return run
        labels = self.study.labels
        hint = did_you_mean(condition, labels) if condition not in labels else "no such seed"
        raise DataError(f"{self.folder}: no run of '{condition}' with seed {seed}; {hint}")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line, strictly.

    Raises:
        DataError: names the file and the line that is malformed, truncated, holds NaN, or is no
            object; in metrics.jsonl and emergence/steps.jsonl also a step that comes twice.
    """
    rows = read_json_lines(path)
    if any(path.as_posix().endswith(stream) for stream in ONE_ROW_PER_STEP):
        _refuse_repeated_steps(path, rows)
    return rows


def is_run_folder(folder: Path) -> bool:
    """Say whether a folder holds a run, of Cupel or of an earlier system."""
    marks = ("run.json", METRICS, "emergence/generations.jsonl", "emergence/steps.jsonl")
    return any((folder / mark).is_file() for mark in marks)


def is_study_folder(folder: Path) -> bool:
    """Say whether a folder holds a study of Cupel."""
    return (folder / "study.toml").is_file() and (folder / "manifest.json").is_file()


def read_run(folder: Path | str) -> RunRecord:
    """Read a run folder.

    Raises:
        DataError: the folder is missing or holds no run, or one of its files is damaged.
    """
    folder = Path(folder)
    if not is_run_folder(folder):
        raise DataError(_not_here(folder, "a run folder (no run.json, no metrics.jsonl)"))
    if not (folder / "run.json").is_file():
        return _read_foreign_run(folder)
    state = read_json(folder / "run.json")
    status = state.get("status")
    if status not in _STATUSES:
        raise DataError(
            f"{folder / 'run.json'}: status {status!r}; expected one of {', '.join(_STATUSES)}"
        )
    result = _read_if_there(folder / "result.json")
    return RunRecord(
        folder=folder,
        condition=state.get("condition"),
        seed=state.get("seed"),
        status=_status(status, result),
        failure=state.get("failure"),
        config=_read_if_there(folder / "config.json") or {},
        result=result,
        events=(*state.get("events", ()), *_recorded_events(folder, status)),
        attempts=state.get("attempts"),
        started_at=state.get("started_at"),
        ended_at=state.get("ended_at"),
    )


def read_study(folder: Path | str) -> StudyRecord:
    """Read a study folder with all its runs.

    Raises:
        DataError: the folder holds no study, or one of its files is damaged.
        ConfigError: study.toml is not a valid study.
    """
    folder = Path(folder)
    if not is_study_folder(folder):
        raise DataError(_not_here(folder, "a study folder (needs study.toml and manifest.json)"))
    study_file = folder / "study.toml"
    study = validate(StudyConfig, load_toml(study_file), where=str(study_file))
    manifest = read_json(folder / "manifest.json")
    entries = manifest.get("runs")
    if not isinstance(entries, list):
        raise DataError(f"{folder / 'manifest.json'}: 'runs' must be a list; plan the study again")
    return StudyRecord(
        folder=folder,
        study=study,
        manifest=manifest,
        lock=_read_if_there(folder / "plan.lock"),
        runs=tuple(_read_planned_run(folder, entry) for entry in entries),
    )


def find_runs(root: Path | str) -> list[RunRecord]:
    """Read every run folder at, or up to two levels below, a folder, in order of name.

    Raises:
        DataError: there is none, or one is damaged.
    """
    root = Path(root)
    if is_run_folder(root):
        return [read_run(root)]
    below = sorted([*root.glob("*/"), *root.glob("*/*/")])
    runs = [read_run(folder) for folder in below if is_run_folder(folder)]
    if not runs:
        raise DataError(_not_here(root, "a folder with runs in it"))
    return runs


def _read_planned_run(study_folder: Path, entry: Mapping[str, Any]) -> RunRecord:
    folder = study_folder / str(entry.get("folder"))
    if is_run_folder(folder):
        return read_run(folder)
    return RunRecord(
        folder=folder,
        condition=entry.get("condition"),
        seed=entry.get("seed"),
        status="missing",
    )


def _read_foreign_run(folder: Path) -> RunRecord:
    """Read a folder without run.json: condition and seed stand in its rows, or nowhere."""
    first: Mapping[str, Any] = {}
    for stream in ONE_ROW_PER_STEP:
        if (folder / stream).is_file():
            rows = read_json_lines(folder / stream)
            first = rows[0] if rows else {}
            break
    condition, seed = first.get("condition"), first.get("seed")
    return RunRecord(
        folder=folder,
        condition=condition if isinstance(condition, str) else None,
        seed=seed if isinstance(seed, int) else None,
        status="unknown",
    )


def _recorded_events(folder: Path, status: RunStatus) -> list[dict[str, Any]]:
    path = folder / EVENTS
    return read_json_lines(path, still_written=status == "running") if path.is_file() else []


def _status(written: RunStatus, result: Mapping[str, Any] | None) -> RunStatus:
    """Let result.json decide: with it a run is done, without it it is not."""
    if result is not None:
        return "done"
    return "planned" if written == "done" else written


def _read_if_there(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _refuse_repeated_steps(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    seen: dict[Any, int] = {}
    for number, row in enumerate(rows, start=1):
        if "step" not in row:
            raise DataError(f"{path}:{number}: no 'step'; every row of this file needs one")
        step = row["step"]
        if step in seen:
            raise DataError(
                f"{path}:{number}: step {step} was already written on line {seen[step]}; "
                "two processes wrote here, or a run was continued without truncating"
            )
        seen[step] = number


def _not_here(folder: Path, expected: str) -> str:
    if folder.is_dir():
        return f"{folder}: not {expected}"
    what = "not a folder" if folder.exists() else "no such folder"
    siblings = [path.name for path in folder.parent.glob("*/")] if folder.parent.is_dir() else []
    match = nearest(folder.name, siblings)
    hint = f"; did you mean '{folder.parent / match}'?" if match is not None else ""
    return f"{folder}: {what}; expected {expected.split(' (')[0]}{hint}"
