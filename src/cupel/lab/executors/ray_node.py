"""A run as a Ray task: in the study folder where the node sees it, in a folder of its own else.

Knows Ray's tasks, its object store and the board on which rows are posted. Refuses to decide
what a run is worth repeating: it runs one order once.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from cupel.errors import InfrastructureFailure
from cupel.lab.executors.node import Order, Told, refusal, run_order
from cupel.lab.executors.parcel import Parcel, pack, unpack
from cupel.lab.executors.tail import Tail
from cupel.lab.run_dir import RunFolder

POST_S = 1.0
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """A run folder in Ray's object store: what was packed, and the chunks in order."""

    parcel: Parcel
    chunks: tuple[Any, ...]


class Board:
    """An actor that holds the last row of every run, and whether all shall stop."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, Any] | None] = {}
        self._stopping = False

    def post(self, number: int, row: dict[str, Any] | None) -> bool:
        """Keep a run's last row, and say whether it may go on."""
        if row is not None or number not in self._rows:
            self._rows[number] = row
        return not self._stopping

    def take(self) -> dict[int, dict[str, Any] | None]:
        """Return what was posted since the last call."""
        rows, self._rows = self._rows, {}
        return rows

    def stop(self) -> None:
        """Ask every run to end and to come home."""
        self._stopping = True


def device() -> str:
    """Return the accelerator that Ray granted to this task."""
    return "cuda" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"


def execute(
    order: Order, shipment: Shipment | None, board: Any, number: int, limit_bytes: int
) -> tuple[Told, Shipment | None]:
    """Run an order; with a shipment, in a folder of this node, and send that folder back."""
    if shipment is None:
        return run_order(order, device=device()), None
    reason = refusal(order)
    if reason is not None:
        return Told(refused=reason), None
    with tempfile.TemporaryDirectory(prefix="cupel-run-") as home:
        folder = Path(home) / Path(order["folder"]).name
        folder.mkdir()
        unpack(shipment.parcel, fetched(shipment.chunks), folder)
        poster = _Poster(board, number, folder)
        told = run_order(order, device=device(), folder=folder, report=poster.report)
        return told, ship(folder, limit_bytes=limit_bytes)


def ship(folder: Path, *, limit_bytes: int) -> Shipment:
    """Put a run folder into Ray's object store, chunk by chunk.

    Raises:
        InfrastructureFailure: it is too large to be shipped.
    """
    chunks: list[Any] = []
    parcel = pack(folder, lambda chunk: chunks.append(ray.put(chunk)), limit_bytes=limit_bytes)
    return Shipment(parcel=parcel, chunks=tuple(chunks))


def fetched(chunks: Sequence[Any]) -> Iterator[bytes]:
    """Yield the bytes of a shipment, one chunk in memory at a time.

    Raises:
        InfrastructureFailure: the node that held them is gone.
    """
    for chunk in chunks:
        try:
            yield ray.get(chunk)
        except ray.exceptions.RayError as error:
            raise InfrastructureFailure(
                f"the run folder was lost on its way ({type(error).__name__})"
            ) from None


class _Poster:
    """Posts a run's last row every second; a board that is gone stops nothing."""

    def __init__(self, board: Any, number: int, folder: Path) -> None:
        self._board = board
        self._number = number
        self._tail = Tail(RunFolder(folder))
        self._next = 0.0

    def report(self) -> bool:
        """Post, and return whether the run may go on."""
        if time.monotonic() < self._next:
            return True
        self._next = time.monotonic() + POST_S
        with suppress(ray.exceptions.RayError):
            answer = self._board.post.remote(self._number, self._tail.last_row())
            return bool(ray.get(answer, timeout=ANSWER_S))
        return True
