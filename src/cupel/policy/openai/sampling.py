"""Many completions from a server: one request each, some in flight, all or none.

Knows seeds, threads and how answers become padded arrays. Refuses to go on without a completion:
a group with a hole in it would be another experiment.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from cupel.errors import InfrastructureFailure
from cupel.policy.openai.server import Server
from cupel.policy.openai.wire import Asked, Dialect, Drawn, read_drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """N completions as arrays: log-probabilities are what the server returned, 0 padded."""

    tokens_NT: NDArray[np.int32]
    lengths_N: NDArray[np.int32]
    finished_N: NDArray[np.bool_]
    logprobs_NT: NDArray[np.float32]


def seeds_of(uniforms_NT: NDArray[np.float64]) -> list[int]:
    """Return one seed in [0, 2**31) a row, from the row's first uniform.

    The row's own counters are behind that number, so a completion's seed depends neither on its
    batch nor on how often a request was repeated.

    >>> seeds_of(np.array([[0.0, 0.3], [0.5, 0.1]]))
    [0, 1073741824]
    """
    return [int(u * 2.0**31) for u in uniforms_NT[:, 0]] if uniforms_NT.size else []


def ask_all(
    server: Server,
    dialect: Dialect,
    adapter: str,
    asked: Sequence[Asked],
    *,
    vocabulary: int,
    in_flight: int,
) -> list[Drawn]:
    """Return every completion, in order; one that fails ends all.

    Raises:
        InfrastructureFailure: a completion is missing or unusable; says which and why.
    """
    stop, left = threading.Event(), SimpleQueue[int]()
    for number in range(len(asked)):
        left.put(number)
    found: list[Drawn | None] = [None] * len(asked)
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def ask(number: int) -> Drawn:
        one = asked[number]
        try:
            path, body = dialect.sampling(adapter, one)
            answer = server.call(path, body, seed=one.seed, stop=stop)
            return read_drawn(dialect, answer, one, vocabulary=vocabulary)
        except InfrastructureFailure as error:
            raise InfrastructureFailure(
                f"completion {number + 1} of {len(asked)} by {adapter}: {error}"
            ) from None

    def work() -> None:
        try:
            while not stop.is_set():
                number = left.get_nowait()
                found[number] = ask(number)
            ended.put(None)
        except Empty:
            ended.put(None)
        except BaseException as error:  # noqa: BLE001 - handed on to the calling thread
            ended.put(error)

    # daemons: an answer that is still awaited after a failure must not hold up the end
    threads = [
        threading.Thread(target=work, daemon=True) for _ in range(min(in_flight, len(asked)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            error = ended.get()
            if error is not None:
                raise error
    finally:
        stop.set()
    return [one for one in found if one is not None]


def sheet_of(drawn: Sequence[Drawn], *, width: int, pad_id: int) -> Sheet:
    """Lay completions out as padded arrays."""
    tokens_NT = np.full((len(drawn), width), pad_id, dtype=np.int32)
    logprobs_NT = np.zeros((len(drawn), width), dtype=np.float32)
    for row, one in enumerate(drawn):
        tokens_NT[row, : len(one.tokens)] = one.tokens
        logprobs_NT[row, : len(one.tokens)] = one.logprobs
    return Sheet(
        tokens_NT=tokens_NT,
        lengths_N=np.array([len(one.tokens) for one in drawn], dtype=np.int32),
        finished_N=np.array([one.finished for one in drawn], dtype=np.bool_),
        logprobs_NT=logprobs_NT,
    )
