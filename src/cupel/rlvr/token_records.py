"""The rows of emergence/tokens.jsonl: every token of a few groups, with what shaped its credit.

Knows which steps and groups are recorded and how ids become readable pieces. Refuses to decide
any value: it writes down the scores and advantages that the step itself used.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.policy.protocol import Scores
from cupel.rlvr.advantages import mixed_groups
from cupel.rlvr.config import TrainConfig
from cupel.rlvr.credit import BATCH_TRANSFORMS
from cupel.rlvr.records import StepRecord
from cupel.rlvr.shaping import Shaping

TOKENS = "emergence/tokens.jsonl"

Float = NDArray[np.float64]


def is_recorded(step: int, config: TrainConfig) -> bool:
    """Say whether a step's tokens are recorded: every `token_log_every` steps, and the last."""
    every = config.token_log_every
    return every > 0 and (step % every == 0 or step == config.max_steps - 1)


def recorded_groups(rewards_PG: Float, count: int) -> list[int]:
    """Return up to `count` groups, in the batch's order: of mixed rewards first, then the others.

    >>> recorded_groups(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), 2)
    [0, 1]
    """
    mixed_P = mixed_groups(rewards_PG)
    return sorted([*np.flatnonzero(mixed_P).tolist(), *np.flatnonzero(~mixed_P).tolist()][:count])


def token_rows(record: StepRecord, piece_bytes: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return one row a completion of the recorded groups; none where the step is not recorded.

    A row holds the advantage before shaping, and for each token its piece of text, log-prob,
    entropy (null where the backend knows none), place in the planning mask, and the advantage
    after shaping. Both advantages are those of the update; 0 in rows that it left out.
    """
    batch, shaping = record.batch, record.shaping
    if not is_recorded(record.step, shaping.config):
        return []
    group = batch.completions.group_size
    chosen = recorded_groups(batch.rewards_PG, shaping.config.token_log_groups)
    rows_B = np.concatenate([np.arange(place * group, (place + 1) * group) for place in chosen])
    trained_N, credit_BT = shaping.trained_N, credit_of(shaping, record.scores, rows_B)
    entropies_NT = record.scores.entropies_NT
    is_shaped = shaping.config.transform_mode != "none"
    shaped_by = shaping.config.uncertainty_kind if is_shaped else None
    rows = []
    for place, n in enumerate(rows_B.tolist()):
        length = int(batch.completions.lengths_N[n])
        used = float(trained_N[n])
        rows.append(
            {
                "step": record.step,
                "problem_id": batch.problems[n // group].id,
                "group": n // group,
                "sample": n % group,
                "trained": bool(used),
                "uncertainty_kind": shaped_by,
                "advantage": round(float(shaping.advantages_N[n]) * used + 0.0, 5),
                "pieces": pieces_of(batch.completions.tokens_NT[n, :length].tolist(), piece_bytes),
                "logprobs": _rounded(record.scores.logprobs_NT[n, :length]),
                "entropies": None if entropies_NT is None else _rounded(entropies_NT[n, :length]),
                "planning": shaping.planning_NT[n, :length].astype(int).tolist(),
                "advantages": _rounded(credit_BT[place, :length] * used),
            }
        )
    return rows


def credit_of(shaping: Shaping, scores: Scores, rows_B: NDArray[np.intp]) -> Float:
    """Return the token advantages [B, T] of some rows, whatever the transform."""
    if shaping.config.transform_mode in BATCH_TRANSFORMS:
        return shaping.batch_credit(scores)[rows_B]
    entropies = scores.entropies_NT
    return shaping.credit(
        rows_B,
        scores.logprobs_NT[rows_B].astype(np.float64),
        None if entropies is None else entropies[rows_B].astype(np.float64),
    )


def pieces_of(ids: Sequence[int], piece_bytes: Sequence[bytes]) -> list[str]:
    """Return the text that each token adds.

    A character whose bytes are spread over tokens stands at the last of them; bytes that are no
    text become U+FFFD. Special tokens add nothing.

    >>> pieces_of([0, 1, 2], [b"a", b"\\xc3", b"\\xa9"])
    ['a', '', 'é']
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pieces = [decoder.decode(piece_bytes[token]) for token in ids]
    if pieces:
        pieces[-1] += decoder.decode(b"", final=True)
    return pieces


def _rounded(values_T: NDArray[np.floating[Any]]) -> list[float]:
    return [round(value, 5) + 0.0 for value in values_T.tolist()]
