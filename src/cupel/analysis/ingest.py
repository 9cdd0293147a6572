"""From the bytes of emergence/generations.jsonl to columns, quickly and strictly.

Knows the rows of Cupel and of earlier systems. Two readers: one decodes only the keys that are
needed and gives up at the first surprise, the other parses every row whole and names the line
that is wrong. Refuses to guess an outcome: what was not logged is unknown.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from cupel.errors import DataError
from cupel.lab.files import parse_json_lines, read_lines

WRONG, RIGHT, UNGRADABLE, UNKNOWN = 0, 1, 2, 3
"""Outcomes: `UNGRADABLE` was looked at without an answer found, `UNKNOWN` was never logged."""
RIGHT_REWARD = 0.99
"""Reward from which a completion of an earlier system counts as right when nothing else says."""
Source = Literal["correct", "metadata.correctness", "reward"]

_CHUNK = 256 << 10
_GRAM = b'"gram_entropy_delta"'
_OUTCOME = {False: WRONG, True: RIGHT, None: UNGRADABLE}


class Digest(Protocol):
    """What hashes bytes as they are read."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """One entry a row, in the order of the file.

    Attributes:
        problem_N: code of the problem, an index into `problems`.
        outcome_N: WRONG, RIGHT, UNGRADABLE or UNKNOWN.
        reward_N: NaN where none was logged.
        gram_pairs, gram_total: number and exact sum of the logged gram entropy differences.
        correct_from: where correctness was read.
    """

    step_N: NDArray[np.int64]
    problem_N: NDArray[np.int64]
    problems: Sequence[str]
    outcome_N: NDArray[np.int8]
    reward_N: NDArray[np.float64]
    gram_pairs: int
    gram_total: float
    correct_from: Source


class _Row(msgspec.Struct, gc=False):
    """What is needed of a row of Cupel."""

    step: int
    problem_id: str
    correct: bool | None
    reward: float | None = None
    gram_entropy_delta: float | None = None


class _Metadata(msgspec.Struct, gc=False):
    """What is needed of an earlier system's metadata."""

    correctness: bool | None


class _EarlierRow(msgspec.Struct, gc=False):
    """What is needed of a row of an earlier system; newer keys must be absent."""

    step: int
    prompt: str
    metadata: _Metadata
    reward: float | None = None
    gram_entropy_delta: float | None = None
    problem_id: msgspec.UnsetType = msgspec.UNSET
    correct: msgspec.UnsetType = msgspec.UNSET


class _Codes(dict[str, int]):
    """Numbers strings in the order in which they are first asked for."""

    def __missing__(self, key: str) -> int:
        self[key] = code = len(self)
        return code


def read_file(path: Path, *, still_written: bool) -> tuple[Columns | None, str]:
    """Return the columns of a file's rows, None when it has none, and the file's SHA-256.

    Args:
        still_written: leave out a last line without its newline, because its writer is at work.

    Raises:
        DataError: names the file and the line of a row that is malformed or truncated, holds
            NaN, or holds what is no outcome; or the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as handle:
            columns = needed_keys(handle, digest, still_written=still_written)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if columns is not None:
        return columns, digest.hexdigest()
    data = read_lines(path)
    whole = data[: data.rfind(b"\n") + 1] if still_written else data
    return whole_rows(path, whole), hashlib.sha256(data).hexdigest()


def needed_keys(
    handle: RawIOBase | BytesIO, digest: Digest, *, still_written: bool = False
) -> Columns | None:
    """Read rows that are all of one kind; None when one is not, or anything else surprises.

    Accepts exactly the bytes that `whole_rows` accepts, but for numbers beyond the range of a
    float in keys that are not read.
    """
    reader: tuple[msgspec.json.Decoder[Any], Source] | None = None
    names = _Codes()
    parts: list[tuple[NDArray[Any], ...]] = []
    try:
        for chunk in _chunks(handle, digest, still_written=still_written):
            if reader is None:
                reader = _reader(chunk)
            rows = reader[0].decode_lines(chunk)
            if len(rows) != chunk.count(b"\n") + (chunk[-1:] != b"\n"):
                return None
            if not chunk.isascii():
                chunk.decode()
            parts.append(_arrays(rows, reader[1], names, grams=_GRAM in chunk))
        if reader is None:
            return None
        columns_N = map(np.concatenate, zip(*parts, strict=True))
        step_N, problem_N, outcome_N, reward_N, gram_N = columns_N
        return _columns(step_N, problem_N, list(names), outcome_N, reward_N, gram_N, reader[1])
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError):
        return None


def _reader(chunk: bytes) -> tuple[msgspec.json.Decoder[Any], Source]:
    """Return the decoder of the kind that the first row is of.

    Raises:
        MsgspecError: it is of none.
    """
    first = chunk[: chunk.find(b"\n")]
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Row)
    try:
        decoder.decode(first)
    except msgspec.MsgspecError:
        decoder = msgspec.json.Decoder(_EarlierRow)
        decoder.decode(first)
        return decoder, "metadata.correctness"
    return decoder, "correct"


def _arrays(
    rows: Sequence[Any], source: Source, names: _Codes, *, grams: bool
) -> tuple[NDArray[Any], ...]:
    """Return step, problem, outcome, reward and gram difference of each row."""
    if source == "correct":
        problems = [names[row.problem_id] for row in rows]
        outcomes = [_OUTCOME[row.correct] for row in rows]
    else:
        problems = [names[row.prompt] for row in rows]
        outcomes = [_OUTCOME[row.metadata.correctness] for row in rows]
    deltas = [row.gram_entropy_delta for row in rows] if grams else []
    return (
        np.array([row.step for row in rows], dtype=np.int64),
        np.array(problems, dtype=np.int64),
        np.array(outcomes, dtype=np.int8),
        np.array([row.reward for row in rows], dtype=np.float64),
        np.array(deltas, dtype=np.float64),
    )


def _chunks(handle: RawIOBase | BytesIO, digest: Digest, *, still_written: bool) -> Iterator[bytes]:
    """Yield chunks of whole lines, small enough for the processor's cache, and hash every byte."""
    rest = b""
    while block := handle.read(_CHUNK):
        digest.update(block)
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
    if rest and not still_written:
        yield rest


def _columns(
    step_N: NDArray[np.int64],
    problem_N: NDArray[np.int64],
    problems: Sequence[str],
    outcome_N: NDArray[np.int8],
    reward_N: NDArray[np.float64],
    gram_N: NDArray[np.float64],
    source: Source,
) -> Columns:
    grams = gram_N[~np.isnan(gram_N)]
    return Columns(
        step_N=step_N,
        problem_N=problem_N,
        problems=problems,
        outcome_N=outcome_N,
        reward_N=reward_N + 0.0,
        gram_pairs=len(grams),
        gram_total=math.fsum(grams.tolist()),
        correct_from=source,
    )


def whole_rows(path: Path, data: bytes) -> Columns | None:
    """Read every row whole: slower, takes mixed rows, and names the line that is wrong.

    Raises:
        DataError: as `read_file`.
    """
    rows = parse_json_lines(path, data)
    if not rows:
        return None
    source: Source = _source(rows)
    names = _Codes()
    step_N = [_step(row, f"{path}:{line}") for line, row in enumerate(rows, start=1)]
    problem_N = [names[_problem(row)] for row in rows]
    outcome_N = [_outcome(row, source, f"{path}:{line}") for line, row in enumerate(rows, start=1)]
    number = {
        key: np.array(
            [_number(row.get(key), key, f"{path}:{n}") for n, row in enumerate(rows, start=1)]
        )
        for key in ("reward", "gram_entropy_delta")
    }
    try:
        return _columns(
            np.array(step_N, dtype=np.int64),
            np.array(problem_N, dtype=np.int64),
            list(names),
            np.array(outcome_N, dtype=np.int8),
            number["reward"],
            number["gram_entropy_delta"],
            source,
        )
    except OverflowError:
        raise DataError(
            f"{path}: the values of gram_entropy_delta add up beyond the range of a float; each is "
            "a difference of entropies, a few nats"
        ) from None


def _source(rows: Sequence[Mapping[str, Any]]) -> Source:
    if any("correct" in row for row in rows):
        return "correct"
    if any("correctness" in _metadata(row) for row in rows):
        return "metadata.correctness"
    return "reward"


def _metadata(row: Mapping[str, Any]) -> Mapping[str, Any]:
    found = row.get("metadata")
    return found if isinstance(found, dict) else {}


def _problem(row: Mapping[str, Any]) -> str:
    given = (row[key] for key in ("problem_id", "prompt", "group") if row.get(key) is not None)
    return str(next(given, ""))


def _step(row: Mapping[str, Any], where: str) -> int:
    step = row.get("step", 0)
    if isinstance(step, bool) or not isinstance(step, int) or abs(step) >= 2**63:
        raise DataError(f"{where}: step is {step!r}; expected a whole number")
    return step


def _outcome(row: Mapping[str, Any], source: Source, where: str) -> int:
    """Return the logged outcome; a logged null is ungradable, an absent key is unknown."""
    if source == "reward":
        reward = _number(row.get("reward"), "reward", where)
        return UNKNOWN if math.isnan(reward) else int(reward >= RIGHT_REWARD)
    holder, key = (row, "correct") if source == "correct" else (_metadata(row), "correctness")
    if key not in holder:
        return UNKNOWN
    value = holder[key]
    if value is not None and (not isinstance(value, bool | int | float) or value not in (0, 1)):
        raise DataError(f"{where}: {source} is {value!r}; expected true, false or null")
    return UNGRADABLE if value is None else int(value)


def _number(value: Any, key: str, where: str) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, bool | int | float):
        raise DataError(f"{where}: {key} is {value!r}; expected a number or null")
    return float(value)
