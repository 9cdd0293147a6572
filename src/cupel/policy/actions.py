"""Log-probability of every action of many states, each state's prompt run once.

Knows how a prompt and all its actions fit into one row: the actions stand side by side behind the
prompt, each sees the prompt and itself, and each counts its positions from the prompt's end. A
score is that of the action's tokens and of the end token behind them, in float32, summed in
float64. Rows are run in shapes that depend on the row alone, so that equal requests get equal bits
in any company. Refuses to know what an action does, and to divide by a temperature.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupel.errors import ConfigError, DataError
from cupel.policy.causal_lm import CausalLM
from cupel.policy.tokens import PieceTokenizer

Length = Literal["sum", "mean"]
LogScoresA = NDArray[np.float64]
Aims = tuple[NDArray[np.int64], NDArray[np.int64]]

BUCKET = 32
"""Row lengths are rounded up to a multiple of this."""
HEAD_ROWS = 32
"""Positions of a row that meet the head at once."""
HEAD_BYTES = 64 * 1024 * 1024
"""Logits of several rows exist at once up to this size."""
CPU_ROWS, CPU_TOKENS = 8, 768
"""Most rows and tokens of a CPU batch: more leave the cache and are slower."""
GPU_ROWS, GPU_TOKENS = 64, 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """A prompt, and what may stand behind it: each completion is ended by the end token."""

    prompt: str
    completions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and its actions in tokens."""

    index: int
    prompt: list[int]
    actions: list[list[int]]

    @property
    def length(self) -> int:
        return len(self.prompt) + sum(map(len, self.actions))

    @property
    def bucket(self) -> int:
        return -(-self.length // BUCKET) * BUCKET


class ActionScorer:
    """Scores all completions of many prompts.

    Attributes:
        scored: prompts run so far; `tokens`: their tokens, padding left out.
        unknown_tokens: how many of them were outside the vocabulary.
    """

    def __init__(self, lm: CausalLM, tokenizer: PieceTokenizer, *, length: Length = "sum") -> None:
        """Take a model and its tokenizer.

        Raises:
            ConfigError: the model does not follow masks and positions of one's own.
        """
        self._lm, self._tokenizer, self._length = lm, tokenizer, length
        self._context: int | None = getattr(lm.model.config, "max_position_embeddings", None)
        self._suffixes: dict[tuple[str, str], list[int]] = {}
        self.scored = self.tokens = self.unknown_tokens = 0
        with lm.arithmetic(), torch.no_grad():
            self._check()

    def log_scores(self, requests: Sequence[ActionRequest]) -> list[LogScoresA]:
        """Return, for each request, each completion's log-probability (or its mean over tokens).

        Raises:
            DataError: a request without completions, an empty completion, tokens that do not
                break where the prompt ends, or more tokens than the model reads.
        """
        buckets: defaultdict[int, list[Row]] = defaultdict(list)
        for index, request in enumerate(requests):
            row = self._encode(index, request)
            buckets[row.bucket].append(row)
        found: dict[int, LogScoresA] = {}
        with self._lm.arithmetic(), torch.no_grad():
            for bucket in sorted(buckets):
                for rows in self._batches(bucket, buckets[bucket]):
                    found.update(self._score(rows, bucket))
        return [found[index] for index in range(len(requests))]

    def _encode(self, index: int, request: ActionRequest) -> Row:
        if not request.completions:
            raise DataError(f"score: no actions behind prompt {_tail(request.prompt)}")
        prompt = self._tokenizer.encode(request.prompt)
        line = request.prompt.rpartition("\n")[2]
        actions = []
        for completion in request.completions:
            suffix = self._suffixes.get((line, completion))
            if suffix is None:
                suffix = self._suffix(request.prompt, prompt, completion)
                self._suffixes[line, completion] = suffix
            actions.append(suffix)
        longest = len(prompt) + max(map(len, actions))
        if self._context is not None and longest > self._context:
            raise DataError(
                f"score: prompt of {len(prompt)} tokens and action of {longest - len(prompt)} are "
                f"longer than the model's {self._context} positions; use a model that reads more, "
                f"or an environment that says less. The prompt ends {_tail(request.prompt)}"
            )
        row = Row(index, prompt, actions)
        self.scored += 1
        self.tokens += row.length
        unknown = self._tokenizer.unknown_id
        if unknown is not None and unknown != self._tokenizer.eos_id:
            self.unknown_tokens += sum(ids.count(unknown) for ids in (prompt, *actions))
        return row

    def _suffix(self, text: str, prompt: list[int], completion: str) -> list[int]:
        """Return the completion's tokens as they stand in the joint text.

        Read once for a completion and the prompt's last line: no vocabulary in use joins what a
        line break separates.
        """
        joint = self._tokenizer.encode(text + completion)
        if joint[: len(prompt)] != prompt:
            raise DataError(
                f"score: the tokens of prompt and action '{completion}' do not break where the "
                f"prompt ends ({_tail(text)}); a model with this tokenizer cannot act here"
            )
        if len(joint) == len(prompt):
            raise DataError(f"score: action '{completion}' has no tokens")
        return joint[len(prompt) :]

    def _batches(self, bucket: int, rows: list[Row]) -> Iterator[list[Row]]:
        """Cut rows into batches of one size, a function of the bucket; fill the last up."""
        on_cpu = self._lm.device.type == "cpu"
        most, tokens = (CPU_ROWS, CPU_TOKENS) if on_cpu else (GPU_ROWS, GPU_TOKENS)
        size = max(1, min(most, tokens // bucket))
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            yield batch + batch[:1] * (size - len(batch))

    def _score(self, rows: list[Row], bucket: int) -> dict[int, LogScoresA]:
        hidden_BTD = self._lm.branch(*lay_out(rows, bucket, self._tokenizer.pad_id))
        aims = [targets_of(row, self._tokenizer.eos_id) for row in rows]
        picked = self._picked(hidden_BTD, rows, aims).cpu().numpy().astype(np.float64)
        found, start = {}, 0
        for row, (reads, _) in zip(rows, aims, strict=True):
            counts = np.array([len(action) + 1 for action in row.actions])
            sums = np.add.reduceat(picked[start : start + len(reads)], np.cumsum(counts) - counts)
            found[row.index] = sums if self._length == "sum" else sums / counts
            start += len(reads)
        return found

    def _picked(self, hidden_BTD: Tensor, rows: list[Row], aims: list[Aims]) -> Tensor:
        """Return log-probabilities of all rows' tokens; the head runs on blocks of positions.

        A row's first block runs beside those of as many rows as fit, the others alone: shapes
        that do not depend on the neighbours.
        """
        weight, bias = self._lm.head_weight, self._lm.head_bias
        picked = [torch.empty(len(reads), device=weight.device) for reads, _ in aims]
        together = max(1, HEAD_BYTES // (4 * HEAD_ROWS * weight.shape[0]))
        blocks = [
            (tuple(range(start, min(start + together, len(rows)))), 0)
            for start in range(0, len(rows), together)
        ]
        for at, (reads, _) in enumerate(aims):
            blocks += [((at,), block) for block in range(1, int(reads.max()) // HEAD_ROWS + 1)]
        for members, block in blocks:
            firsts = np.array([len(rows[at].prompt) - 1 for at in members]) + block * HEAD_ROWS
            places = np.minimum(firsts[:, None] + np.arange(HEAD_ROWS), hidden_BTD.shape[1] - 1)
            hidden = hidden_BTD[torch.tensor(members)[:, None], torch.from_numpy(places)]
            logits = torch.nn.functional.linear(hidden.flatten(0, 1), weight, bias)
            logs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
            for number, at in enumerate(members):
                reads, targets = aims[at]
                here = np.flatnonzero(reads // HEAD_ROWS == block)
                lines = reads[here] % HEAD_ROWS + number * HEAD_ROWS
                picked[at][torch.from_numpy(here)] = logs[
                    torch.from_numpy(lines), torch.from_numpy(targets[here])
                ]
        return torch.cat(picked)

    def _check(self) -> None:
        """Compare side-by-side actions with actions on rows of their own, on fixed ids."""
        vocabulary = self._lm.head_weight.shape[0]
        ids = ((np.arange(64) * 7919 + 11) % vocabulary).tolist()
        row = Row(0, ids[:40], [ids[40:43], ids[43:44], ids[44:48]])
        hidden_TD = self._lm.branch(*lay_out([row], row.bucket, self._tokenizer.pad_id))[0]
        prompt = self._lm.prefill([row.prompt])
        start, gap, scale = len(row.prompt), 0.0, 1.0
        for action in row.actions:
            want = self._lm.logits(
                self._lm.extend(prompt, np.array([action]), np.array([0]))[0, 1:]
            )
            got = self._lm.logits(hidden_TD[start : start + len(action)])
            gap = max(gap, float((want - got).abs().max()))
            scale = max(scale, float(want.abs().max()))
            start += len(action)
        tolerance = 1e-3 if self._lm.head_weight.dtype == torch.float32 else 0.25
        if not gap <= tolerance * scale:
            raise ConfigError(
                f"student.model: this {type(self._lm.model).__name__} differs by {gap:.3g} in its "
                "logits when actions stand side by side behind one prompt; only models that "
                "follow given positions and masks can be scored"
            )


def lay_out(
    rows: Sequence[Row], bucket: int, pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Lay rows out: tokens, positions, and who sees whom.

    Part 0 is the prompt, part j the j-th action; a token sees part 0 and its own part up to
    itself. Padding is a part of its own behind them all.
    """
    tokens_BT = np.full((len(rows), bucket), pad, dtype=np.int64)
    positions_BT = np.zeros((len(rows), bucket), dtype=np.int64)
    parts_BT = np.zeros((len(rows), bucket), dtype=np.int32)
    for at, row in enumerate(rows):
        ids = list(row.prompt)
        positions = list(range(len(ids)))
        parts = [0] * len(ids)
        for number, action in enumerate(row.actions, start=1):
            ids += action
            positions += range(len(row.prompt), len(row.prompt) + len(action))
            parts += [number] * len(action)
        tokens_BT[at, : len(ids)] = ids
        positions_BT[at, : len(ids)] = positions
        parts_BT[at] = len(row.actions) + 1
        parts_BT[at, : len(ids)] = parts
    same = parts_BT[:, :, None] == parts_BT[:, None, :]
    same |= (parts_BT == 0)[:, None, :]
    same &= np.tri(bucket, dtype=np.bool_)
    return tokens_BT, positions_BT, same


def targets_of(row: Row, eos: int) -> Aims:
    """Return which position predicts each token, and its id; action by action, end tokens too.

    Position 0 is the prompt's last token.
    """
    reads: list[int] = []
    targets: list[int] = []
    start = 1
    for action in row.actions:
        reads += [0, *range(start, start + len(action))]
        targets += [*action, eos]
        start += len(action)
    return np.array(reads, np.int64), np.array(targets, np.int64)


def _tail(prompt: str) -> str:
    return f"'...{prompt[-60:]}'" if len(prompt) > 60 else f"'{prompt}'"
