"""The file of a teacher's answers: what was asked, what came back, and what it cost.

Knows two tables: `hint`, one row a reply, and `call`, one row a call, written before the call is
made, so that a process killed in the middle of one has counted it. Refuses to judge a reply, and
to forget one: nothing is ever overwritten but the outcome of a call under way.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cupel.errors import DataError

Outcome = Literal["asked", "answered", "unanswered", "turned_away"]
"""asked: under way, or its process was killed; unanswered: timed out, perhaps billed; turned_away:
refused by the API or never connected, so not billed and not counted."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS hint (
    request_hash TEXT NOT NULL, attempt INTEGER NOT NULL, provider TEXT NOT NULL,
    model TEXT NOT NULL, prompt TEXT NOT NULL, raw TEXT NOT NULL, parsed TEXT,
    valid INTEGER NOT NULL, problem TEXT NOT NULL, leak_flags TEXT NOT NULL,
    tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, cost REAL,
    created TEXT NOT NULL, PRIMARY KEY (request_hash, attempt));
CREATE TABLE IF NOT EXISTS call (
    id INTEGER PRIMARY KEY, request_hash TEXT NOT NULL, outcome TEXT NOT NULL,
    tokens_in INTEGER, tokens_out INTEGER, cost REAL, created TEXT NOT NULL);
"""
_COLUMNS = (
    "request_hash", "attempt", "provider", "model", "prompt", "raw", "parsed", "valid", "problem",
    "leak_flags", "tokens_in", "tokens_out", "cost",
)  # fmt: skip
_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"


@dataclass(frozen=True, slots=True, kw_only=True)
class HintRow:
    """One reply to one request.

    Attributes:
        attempt: 0 for the first reply to this request, then 1, 2, ...
        prompt: the messages as JSON; raw: the reply's text; parsed: the answer as JSON.
        leak_flags: which fields contain the suggested action's text, separated by commas.
        cost: US dollars, None where the price is not known.
    """

    request_hash: str
    attempt: int
    provider: str
    model: str
    prompt: str
    raw: str
    parsed: str | None
    valid: bool
    problem: str
    leak_flags: str
    tokens_in: int
    tokens_out: int
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Calls counted so far, and their cost; those under way at the most they can cost."""

    calls: int
    cost: float


class HintCache:
    """Answers in an sqlite file, shared by threads and by processes; None: in memory."""

    def __init__(self, path: Path | None) -> None:
        """Open the file, or make it.

        Raises:
            DataError: it cannot be made, or is no such file.
        """
        self.path = path
        self._lock = threading.RLock()
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path if path is not None else ":memory:",
                check_same_thread=False,
                isolation_level=None,
                timeout=30.0,
            )
            weakref.finalize(self, self._connection.close)
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"{path}: cannot be used as a file of answers ({error}); give another, or move "
                "this one away"
            ) from None

    def replies(self, request_hash: str) -> list[HintRow]:
        """Return the replies to a request, first attempt first."""
        found = self._rows(
            f"SELECT {', '.join(_COLUMNS)} FROM hint WHERE request_hash = ? ORDER BY attempt",
            (request_hash,),
        )
        rows = [dict(zip(_COLUMNS, values, strict=True)) for values in found]
        return [HintRow(**row | {"valid": bool(row["valid"])}) for row in rows]

    def keep(self, row: HintRow) -> None:
        """Write a reply."""
        values = [getattr(row, name) for name in _COLUMNS]
        marks = ", ".join("?" * len(_COLUMNS))
        self._rows(
            f"INSERT OR IGNORE INTO hint ({', '.join(_COLUMNS)}, created) VALUES ({marks}, {_NOW})",
            values,
        )

    def spent(self) -> Spent:
        """Return what has been spent, calls under way included."""
        (calls, cost), *_ = self._rows(
            "SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM call WHERE outcome != 'turned_away'", ()
        )
        return Spent(calls=int(calls), cost=float(cost))

    def begin_call(
        self,
        request_hash: str,
        *,
        cost_at_most: float | None,
        max_calls: int | None,
        max_cost: float | None,
    ) -> int | None:
        """Write that a call begins and return its number; None: the budget does not allow it.

        Checked and written in one transaction: processes that share the file share the budget.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                spent = self.spent()
                cost = spent.cost + (cost_at_most or 0.0)
                within = (max_calls is None or spent.calls < max_calls) and (
                    max_cost is None or cost <= max_cost
                )
                number = None
                if within:
                    number = self._connection.execute(
                        "INSERT INTO call (request_hash, outcome, cost, created) "
                        f"VALUES (?, 'asked', ?, {_NOW})",
                        (request_hash, cost_at_most),
                    ).lastrowid
            finally:
                self._connection.execute("COMMIT")
        return number

    def end_call(
        self,
        number: int,
        outcome: Outcome,
        *,
        tokens_in: int | None = None,
        tokens_out: int | None = None,
        cost: float | None = None,
    ) -> None:
        """Write what became of a call."""
        self._rows(
            "UPDATE call SET outcome = ?, tokens_in = ?, tokens_out = ?, cost = ? WHERE id = ?",
            (outcome, tokens_in, tokens_out, cost, number),
        )

    def _rows(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()
