"""Many groups of completions from a Tinker server: some requests in flight, all or none.

Knows seeds, threads, the shared slots, and how answers become padded arrays. Refuses to go on
without a completion: a group with a hole in it would be another experiment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cupel.errors import InfrastructureFailure
from cupel.policy.protocol import Completions, Tokenizer
from cupel.policy.tinker.client import Sampler
from cupel.policy.tinker.slots import Slots
from cupel.policy.tinker.wire import Drawn, checked_group, seed_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How completions are asked for."""

    group_size: int
    max_tokens: int
    temperature: float
    top_p: float


def sample_groups(
    sampler: Sampler,
    slots: Slots,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    wanted: Wanted,
    uniforms_NT: NDArray[np.float64],
) -> Completions:
    """Return a group a prompt; both log-probabilities are what the server told.

    Raises:
        InfrastructureFailure: a completion is missing or unusable; says which and why.
    """
    seeds = [seed_of(float(u)) for u in uniforms_NT[:: wanted.group_size, 0]]
    stop = threading.Event()

    def group(number: int) -> list[Drawn]:
        with slots.held(stop) as free:
            if not free:
                return []
            try:
                drawn = sampler.sample(
                    prompts[number],
                    group_size=wanted.group_size,
                    max_tokens=wanted.max_tokens,
                    temperature=wanted.temperature,
                    top_p=wanted.top_p,
                    seed=seeds[number],
                    stop_ids=[tokenizer.eos_id],
                    stop=stop,
                )
                return checked_group(
                    drawn,
                    group_size=wanted.group_size,
                    max_tokens=wanted.max_tokens,
                    vocabulary=len(tokenizer.piece_bytes),
                )
            except InfrastructureFailure as error:
                raise InfrastructureFailure(
                    f"group {number + 1} of {len(prompts)}: {error}"
                ) from None

    drawn = in_parallel(group, len(prompts), most=slots.count, stop=stop)
    return _laid_out(prompts, drawn, wanted, tokenizer.pad_id)


def in_parallel(
    work: Callable[[int], list[Drawn]], count: int, *, most: int, stop: threading.Event
) -> list[Drawn]:
    """Return the results of `work` on 0 .. count - 1, in order; one failure stops all."""
    with ThreadPoolExecutor(max_workers=max(1, min(most, count))) as pool:
        futures = [pool.submit(work, number) for number in range(count)]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise
    return [one for future in futures for one in future.result()]


def first_groups(completions: Completions, rows: int) -> Completions:
    """Return the first whole groups, at least one, of about this many rows."""
    groups = max(1, rows // completions.group_size)
    kept = slice(0, groups * completions.group_size)
    told_NT = completions.sampler_logprobs_NT
    return replace(
        completions,
        prompts=completions.prompts[:groups],
        tokens_NT=completions.tokens_NT[kept],
        lengths_N=completions.lengths_N[kept],
        finished_N=completions.finished_N[kept],
        sampler_logprobs_NT=None if told_NT is None else told_NT[kept],
        policy_logprobs_NT=completions.policy_logprobs_NT[kept],
    )


def _laid_out(
    prompts: Sequence[Sequence[int]], drawn: Sequence[Drawn], wanted: Wanted, pad_id: int
) -> Completions:
    tokens_NT = np.full((len(drawn), wanted.max_tokens), pad_id, dtype=np.int32)
    logprobs_NT = np.zeros(tokens_NT.shape, dtype=np.float32)
    for n, one in enumerate(drawn):
        tokens_NT[n, : len(one.tokens)] = one.tokens
        logprobs_NT[n, : len(one.tokens)] = one.logprobs
    return Completions(
        prompts=tuple(tuple(prompt) for prompt in prompts),
        group_size=wanted.group_size,
        tokens_NT=tokens_NT,
        lengths_N=np.array([len(one.tokens) for one in drawn], dtype=np.int32),
        finished_N=np.array([one.finished for one in drawn], dtype=np.bool_),
        sampler_logprobs_NT=logprobs_NT,
        policy_logprobs_NT=logprobs_NT,
    )
