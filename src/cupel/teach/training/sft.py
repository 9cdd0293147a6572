"""Supervised fine-tuning of a causal language model: completion tokens carry the loss, only they.

Knows token rows, gradients and AdamW. An optimizer step is the same number to the last few bits
however its examples are split into passes: everything is normalised over the whole batch first.
Refuses to know labels, and to cut an example that is too long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupel.errors import AlgorithmicFailure, DataError
from cupel.policy.logprobs import chunk_tokens, logprobs_and_entropies
from cupel.policy.protocol import Tokenizer
from cupel.policy.torch_policy import TorchPolicy
from cupel.policy.torch_state import load_state, save_state
from cupel.teach.students.prompts import completion_of
from cupel.teach.training.preference import distillation_loss, dpo_loss, two_candidate_loss
from cupel.teach.training.sft_config import SftSettings
from cupel.teach.training.supervision import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An example in tokens.

    Attributes:
        completions: each with its end token; one to write, or the better and the worse one, or
            all valid actions'.
        target: probabilities over `completions` to match; None: they are not all actions'.
        start: log pi(better) - log pi(worse) under the starting model, for DPO.
    """

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    weight: float = 1.0
    target: tuple[float, ...] | None = None
    start: float = 0.0

    @property
    def loss_tokens(self) -> int:
        """Tokens that carry next-token loss; 0 where the loss is over whole completions."""
        return len(self.completions[0]) if len(self.completions) == 1 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """One optimizer step.

    Attributes:
        loss: mean over loss tokens (next-token loss) or over examples (the other losses), in nats.
        grad_norm: before clipping, of both losses together.
        rehearsal_loss: mean over the rehearsed items, unweighted; None without any.
    """

    loss: float
    grad_norm: float
    loss_tokens: int
    rehearsal_loss: float | None = None


class Trainer:
    """A model and its optimizer; all weights, or adapters on a frozen model."""

    def __init__(self, policy: TorchPolicy, settings: SftSettings, *, seed: int) -> None:
        """Prepare a model for training; with `lora_rank`, put adapters into it, in place.

        Raises:
            MissingExtraError: adapters are asked for and `peft` is not installed.
            ConfigError: no matrix of the model has one of `lora_targets`' names.
        """
        self.policy, self.settings = policy, settings
        self._seed = seed
        self._adapters: Any = None
        if settings.lora_rank:
            from cupel.teach.training.adapters import add_adapters

            self._adapters = add_adapters(policy.lm.model, settings, seed=seed)
        model = policy.lm.model
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=0.0,
            betas=(0.9, 0.999),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._chunk = chunk_tokens(policy.lm.head_weight.shape[0], 0)

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """Encode examples; what depends on the starting model (distillation targets, DPO's
        reference) is computed by the model as it is now.

        Raises:
            DataError: an example is longer than `max_length`, or not a prefix in tokens.
        """
        made = [self._item(example) for example in examples]
        dpo = self.settings.preference == "dpo"
        guided = [at for at, example in enumerate(examples) if example.guided_prompt is not None]
        paired = [at for at, each in enumerate(examples) if dpo and each.rejected is not None]
        guides = [self._guide(examples[at]) for at in guided]
        for at, scores_A in zip(guided, self.scores(guides), strict=True):
            weights_A = np.exp(scores_A - scores_A.max())
            made[at] = replace(made[at], target=tuple((weights_A / weights_A.sum()).tolist()))
        for at, scores_2 in zip(paired, self.scores([made[at] for at in paired]), strict=True):
            made[at] = replace(made[at], start=float(scores_2[0] - scores_2[1]))
        return made

    def step(
        self,
        batch: Sequence[Item],
        lr: float,
        *,
        number: int = 0,
        rehearsal: Sequence[Item] = (),
        rehearsal_weight: float = 0.0,
    ) -> StepResult:
        """Take one AdamW step on a batch.

        Args:
            number: of the step; keys the adapters' dropout.
            rehearsal: items whose mean loss is added with `rehearsal_weight`.

        Raises:
            AlgorithmicFailure: the gradient is not finite; the weights are unchanged.
        """
        self._optimizer.zero_grad(set_to_none=True)
        try:
            with self.policy.lm.arithmetic(), self._dropout(number):
                loss = self._backward(batch, 1.0)
                kept = self._backward(rehearsal, rehearsal_weight) if rehearsal else None
            norm = self._apply(lr)
        finally:
            self._optimizer.zero_grad(set_to_none=True)
        tokens = sum(item.loss_tokens for item in batch)
        return StepResult(loss=loss, grad_norm=norm, loss_tokens=tokens, rehearsal_loss=kept)

    def _backward(self, batch: Sequence[Item], weight: float) -> float:
        """Add the gradient of weight x mean loss; return the mean loss."""
        scale, total = _scale(batch), 0.0
        for part in self._passes(batch):
            loss = self._loss(part) / scale
            (loss * weight).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def scores(self, items: Sequence[Item]) -> list[NDArray[np.float64]]:
        """Return the log-probabilities of each item's completions, end tokens included."""
        found: list[NDArray[np.float64]] = []
        with self.policy.lm.arithmetic(), torch.no_grad():
            for part in self._passes(items):
                found += [row.double().cpu().numpy() for row in self._scores(part)]
        return found

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of what is trained."""
        return {name: value.detach().clone() for name, value in self.parameters.items()}

    def reset(self, weights: dict[str, Tensor]) -> None:
        """Put back what `weights` returned, and forget the optimizer's moments."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(weights[name])
        self._optimizer.state.clear()

    def save(self, folder: Path) -> None:
        """Write what is trained and the optimizer's moments."""
        save_state(folder, self._trained_only(), self._optimizer)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote, bit for bit.

        Raises:
            DataError: a file is missing, damaged, or of another training.
        """
        load_state(folder, self._trained_only(), self._optimizer)

    def save_model(self, folder: Path) -> None:
        """Write a model folder that loads like any other; adapters are merged, and also written
        by themselves to `folder`/adapter. The trainer cannot be used afterwards."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._adapters is not None:
            self._adapters.save_pretrained(str(folder / "adapter"))
            self._adapters.merge_and_unload()
        self.policy.save_model(folder)

    def _item(self, example: Example) -> Item:
        texts = [example.completion]
        if example.rejected is not None:
            texts.append(example.rejected)
        if example.guided_prompt is not None:
            texts = [completion_of(action) for action in example.actions]
        return self._encoded(example.prompt, texts, example)

    def _encoded(self, prompt: str, texts: Sequence[str], example: Example) -> Item:
        opening, completions = encode(self.policy.tokenizer, prompt, texts)
        longest = len(opening) + max(len(ids) for ids in completions)
        if longest > self.settings.max_length:
            raise DataError(
                f"sft: the example of moment {example.snapshot_id} has {longest} tokens, more "
                f"than max_length {self.settings.max_length}; raise max_length"
            )
        return Item(prompt=opening, completions=completions, weight=example.weight)

    def _guide(self, example: Example) -> Item:
        """Return the item whose scores are a distillation's target."""
        assert example.guided_prompt is not None
        texts = [completion_of(action) for action in example.actions]
        return self._encoded(example.guided_prompt, texts, example)

    def _passes(self, batch: Sequence[Item]) -> Iterator[list[Item]]:
        """Split a batch into passes of at most `batch_size` items and `microbatch_tokens`."""
        part: list[Item] = []
        for item in batch:
            full = len(part) == self.settings.batch_size
            if part and (full or _cost([*part, item]) > self.settings.microbatch_tokens):
                yield part
                part = []
            part.append(item)
        if part:
            yield part

    def _loss(self, part: Sequence[Item]) -> Tensor:
        """Return the sum of the items' weighted losses."""
        losses = []
        for item, scores in zip(part, self._scores(part), strict=True):
            if item.target is not None:
                loss = distillation_loss(scores, scores.new_tensor(item.target))
            elif len(item.completions) == 1:
                loss = -scores[0]
            elif self.settings.preference == "dpo":
                start = scores.new_tensor(item.start)
                loss = dpo_loss(scores[0], scores[1], start, beta=self.settings.beta)
            else:
                loss = two_candidate_loss(scores[0], scores[1])
            losses.append(item.weight * loss)
        return torch.stack(losses).sum()

    def _scores(self, part: Sequence[Item]) -> list[Tensor]:
        """Return the summed log-probabilities of each item's completions, with gradients."""
        lm = self.policy.lm
        rows = [ids for item in part for ids in item.completions]
        counts = [len(item.completions) for item in part]
        width = max(len(ids) for ids in rows)
        tokens_BT = np.zeros((len(rows), width), dtype=np.int64)
        mask_BT = np.zeros((len(rows), width), dtype=np.bool_)
        for row, ids in enumerate(rows):
            tokens_BT[row, : len(ids)] = ids
            mask_BT[row, : len(ids)] = True
        owners_B = np.repeat(np.arange(len(part)), counts)
        prompt = lm.prefill([item.prompt for item in part])
        hidden = lm.extend(prompt, tokens_BT[:, :-1], owners_B).flatten(0, 1)
        flat = torch.from_numpy(np.flatnonzero(mask_BT)).to(lm.device)
        targets_M = torch.from_numpy(tokens_BT[mask_BT]).to(lm.device)
        logprobs_M, _ = logprobs_and_entropies(
            hidden[flat], lm.head_weight, lm.head_bias, targets_M, chunk=self._chunk
        )
        blank = logprobs_M.new_zeros(mask_BT.size)
        sums_B = blank.index_put((flat,), logprobs_M).view(mask_BT.shape).sum(dim=1)
        return list(torch.split(sums_B, counts))

    def _apply(self, lr: float) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.grad_clip)
        if not bool(torch.isfinite(norm)):
            raise AlgorithmicFailure(
                f"sft: the gradient norm is {float(norm)}; the weights are unchanged"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        return float(norm)

    @contextmanager
    def _dropout(self, number: int) -> Iterator[None]:
        """Switch the adapters' dropout on, with randomness of this step's own."""
        if self._adapters is None or self.settings.lora_dropout == 0:
            yield
            return
        device = self.policy.lm.device
        drops = [m for m in self.policy.lm.model.modules() if isinstance(m, torch.nn.Dropout)]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed((self._seed << 32) + number)
            for module in drops:
                module.train()
            try:
                yield
            finally:
                for module in drops:
                    module.eval()

    def _trained_only(self) -> Any:
        return _Trained(self.parameters, self.policy.lm.model.config)


@dataclass(frozen=True, slots=True)
class _Trained:
    """What a checkpoint holds: the trained parameters, under the names of the whole model."""

    parameters: dict[str, Any]
    config: Any

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        yield from self.parameters.items()


def encode(
    tokenizer: Tokenizer, prompt: str, completions: Sequence[str]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Return the ids of a prompt, and of each completion behind it with the end token.

    Raises:
        DataError: the tokenizer joins the prompt's end with a completion's beginning.
    """
    opening = tokenizer.encode(prompt)
    rows = []
    for text in completions:
        both = tokenizer.encode(prompt + text)
        if both[: len(opening)] != opening:
            raise DataError(
                f"sft: this tokenizer joins the prompt's end with '{text}'; a completion must "
                "begin with a token of its own"
            )
        rows.append((*both[len(opening) :], tokenizer.eos_id))
    return tuple(opening), tuple(rows)


def _scale(batch: Sequence[Item]) -> float:
    """Return what the summed loss is divided by: weighted loss tokens, or weighted examples."""
    tokens = sum(item.weight * item.loss_tokens for item in batch)
    return tokens if tokens > 0 else sum(item.weight for item in batch)


def _cost(part: Sequence[Item]) -> int:
    """Return the tokens of one pass: every completion row sees its prompt's keys."""
    longest = max(len(item.prompt) for item in part)
    width = max(len(ids) for item in part for ids in item.completions)
    return sum(len(item.completions) for item in part) * (longest + width)
