"""A policy over any causal language model of the transformers library: all weights, or adapters.

Knows one scoring path, used by `score`, `update` and the reference alike. One update is one
forward pass. Refuses to know rewards and algorithms: token credit comes from a callback.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from cupel.errors import AlgorithmicFailure, ConfigError
from cupel.policy.causal_lm import CausalLM
from cupel.policy.config import PolicyConfig
from cupel.policy.layout import Layout
from cupel.policy.lora import (
    load_adapters,
    merged_weights,
    read_adapter_folder,
    save_adapters,
    target_names,
)
from cupel.policy.microbatch import Microbatch
from cupel.policy.model_files import Adapters
from cupel.policy.optimizer import MasterAdamW
from cupel.policy.protocol import (
    Capabilities,
    Completions,
    Credit,
    FloatNT,
    LossConfig,
    Scores,
    Tokenizer,
    UpdateResult,
)
from cupel.policy.reference import FrozenCopy, reference_of
from cupel.policy.sampling import sample_completions
from cupel.policy.scoring import Scorer, blank_scores, scorer_of
from cupel.policy.tokens import PieceTokenizer
from cupel.policy.torch_state import (
    OPTIMIZER,
    load_weights,
    read_optimizer,
    save_model,
    tensors_sha256,
    weights_sha256,
)
from cupel.policy.update_record import UpdateRecord

START = "start.json"


class TorchPolicy:
    """Samples, scores and trains a causal language model."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: PolicyConfig,
        *,
        threads: int,
        adapters: Adapters | None = None,
        load_start: Callable[[], Any] | None = None,
    ) -> None:
        """Wrap a loaded model and its tokenizer.

        Args:
            adapters: those that are in the model; only they are trained.
            load_start: loads the model as this run starts from it, once more; without it and
                without adapters there is no reference.

        Raises:
            ConfigError: the model is of a kind this code does not score correctly.
        """
        self.config = config
        self._threads = threads
        self._adapters = adapters
        self._scorer = scorer_of(model, config, trained=True)
        self.lm = self._scorer.lm
        self._pieces = PieceTokenizer(tokenizer, size=self.lm.head_weight.shape[0])
        self.tokenizer: Tokenizer = self._pieces
        self.stop_ids = _stop_ids(model, self.tokenizer.eos_id)
        """Ids that end a completion."""
        self._made_optimizer: MasterAdamW | None = None
        self._reference = reference_of(
            self._scorer, self._trained, config, adapters, load_start, self.weights_sha256
        )
        self.capabilities = Capabilities(
            token_advantages=True,
            entropies=True,
            exact_resume=True,
            reference=self._reference is not None,
        )

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        group_size: int,
        max_tokens: int,
        temperature: float,
        top_p: float,
        uniforms_NT: NDArray[np.float64],
    ) -> Completions:
        """Sample by inverse CDF (see the protocol); arrays are `max_tokens` wide.

        Raises:
            AlgorithmicFailure: the model's distribution is not finite.
        """
        return sample_completions(
            self.lm,
            prompts,
            group_size=group_size,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            uniforms_NT=uniforms_NT,
            stop_ids=self.stop_ids,
            pad_id=self.tokenizer.pad_id,
            max_rows=self.config.sample_rows,
        )

    def score(self, completions: Completions) -> Scores:
        """Score every row at T = 1 under the current weights."""
        return self._scorer.score(completions)

    def score_reference(self, completions: Completions) -> FloatNT:
        """Return log pi of every sampled token under the weights this run started from.

        New adapters are switched off for that, continued ones are swapped for those they began as;
        without adapters, a frozen copy of the start is loaded at the first call.

        Raises:
            ConfigError: this policy was made of a model in memory and cannot load it again.
            DataError: the start's folder has changed since the run began.
        """
        scores = blank_scores(completions)
        self.score_reference_rows(scores, completions, completions.lengths_N > 0)
        return scores.logprobs_NT

    def update(
        self,
        completions: Completions,
        *,
        trained_N: NDArray[np.bool_],
        credit: Credit,
        loss: LossConfig,
        lr: float,
        old_logprobs_NT: FloatNT | None = None,
        reference_logprobs_NT: FloatNT | None = None,
    ) -> UpdateResult:
        """Take one AdamW step on the trained rows; with none of them, only score.

        Raises:
            AlgorithmicFailure: a loss or gradient is not finite; parameters are unchanged.
        """
        scores = blank_scores(completions)
        record = UpdateRecord(
            completions, trained_N, credit, loss, old_logprobs_NT, reference_logprobs_NT
        )
        self._scorer.score_into(scores, completions, ~trained_N)
        if not trained_N.any():
            return record.result(scores, grad_norm=0.0)
        with self.gradient():
            self.accumulate(completions, trained_N, scores, record)
            norm = self.step(lr)
        return record.result(scores, grad_norm=norm)

    @contextmanager
    def gradient(self) -> Iterator[None]:
        """Begin with no gradient, and leave none behind."""
        self._optimizer.zero_grad()
        try:
            yield
        finally:
            self._optimizer.zero_grad()

    def accumulate(
        self,
        completions: Completions,
        chosen_N: NDArray[np.bool_],
        scores: Scores,
        record: UpdateRecord,
    ) -> None:
        """Add the gradient of the chosen rows; write their scores, and their loss to the record.

        Raises:
            AlgorithmicFailure: a log-probability, an advantage or the loss is not finite; where
                processes make their passes together, after the last of them.
        """
        failure: AlgorithmicFailure | None = None
        with self.lm.arithmetic():
            for batch, own in self._scorer.passes(completions, chosen_N):
                counts = own and failure is None
                kept = scores if counts else blank_scores(completions)
                known_BT = record.known_slope(batch.rows_B, batch.length) if counts else None
                logprobs_BT = self._scorer.forward(batch, completions, kept, known_BT)
                slope_BT = np.zeros(logprobs_BT.shape) if known_BT is None else known_BT
                if counts:
                    try:
                        slope_BT = _slope(batch, scores, record)
                    except AlgorithmicFailure as error:
                        if not self._scorer.layout.together:
                            raise
                        failure = error
                self._scorer.backward(logprobs_BT, slope_BT)
        if failure is not None:
            raise failure

    def score_rows(
        self, scores: Scores, completions: Completions, chosen_N: NDArray[np.bool_]
    ) -> None:
        """Write the chosen rows' scores, without gradient."""
        self._scorer.score_into(scores, completions, chosen_N)

    def score_reference_rows(
        self, scores: Scores, completions: Completions, chosen_N: NDArray[np.bool_]
    ) -> None:
        """Write the chosen rows' scores under the weights this run started from.

        Raises:
            ConfigError, DataError: as `score_reference`.
        """
        if self._reference is None:
            raise ConfigError(
                "score_reference: this policy was made of a model in memory; load it from a "
                "folder, or train adapters"
            )
        self._reference.score_into(scores, completions, chosen_N)

    def lay_out(self, over: Callable[[CausalLM], Layout]) -> None:
        """Divide the model over processes, and the frozen copy of its start when it is loaded."""

        def place(scorer: Scorer) -> None:
            scorer.layout = over(scorer.lm)

        place(self._scorer)
        if isinstance(self._reference, FrozenCopy):
            held = sum(self._scorer.layout.own(p).numel() for p in self.lm.model.parameters())
            self._reference.memory_bytes = held * self.lm.head_weight.element_size()
            self._reference.place = place

    def gathered(self) -> AbstractContextManager[None]:
        """Hold all weights inside the block, so that sampling needs no other process."""
        return self._scorer.layout.gathered()

    def step(self, lr: float, sum_over_ranks: Callable[[Tensor], None] | None = None) -> float:
        """Sum the gradient over processes, clip it, step; return its norm before clipping.

        Raises:
            AlgorithmicFailure: the norm is not finite; parameters are unchanged.
        """
        if sum_over_ranks is not None:
            self._optimizer.reduce(sum_over_ranks)
        return self._optimizer.step(lr)

    def set_concurrency(self, setting: str, value: int) -> None:
        """Set `sample_rows` or `microbatch_tokens` from the next call on."""
        self.config = self.config.model_copy(update={setting: value})
        self._scorer.token_budget = self.config.microbatch_tokens

    def save(self, folder: Path) -> None:
        """Write what is trained, and the optimizer's state: a folder that `load` and other runs
        read; with adapters, the base's weights are not in it, only their hash."""
        self.save_model(folder)
        save_file(self._optimizer.tensors(), folder / OPTIMIZER)
        if self._reference is not None and self._reference.sha256 is not None:
            (folder / START).write_text(json.dumps({"sha256": self._reference.sha256}) + "\n")

    def attend_save(self) -> None:
        """Hand this process's parts to the one that saves."""
        layout = self._scorer.layout
        if self._adapters is None:
            for parameter in self.lm.model.parameters():
                layout.weight(parameter)
        for _ in self._optimizer.whole_tensors():
            pass

    def save_model(self, folder: Path, *, merge: bool = False) -> None:
        """Write a folder to start other runs from.

        Args:
            merge: with adapters, write a whole model that has them added in, instead of a folder
                of adapters; it needs the model's memory once more.
        """
        if self._adapters is not None and not merge:
            save_adapters(
                folder,
                self._adapters.handle,
                base=self._adapters.base,
                base_sha256=self._adapters.base_sha256,
                dtype=self.config.dtype,
            )
            return
        weights = None if self._adapters is None else merged_weights(self._adapters.handle)
        save_model(folder, self.lm.model, weights, self._scorer.layout)
        self._pieces.save(folder)

    def load(self, folder: Path) -> None:
        """Restore what is trained and the optimizer's state exactly.

        Raises:
            DataError: a file is missing, damaged, or of another model, or the adapters' base has
                other weights than when they were saved.
        """
        tensors = read_optimizer(folder)
        if self._adapters is not None:
            found = read_adapter_folder(folder)
            found.check_base(self._adapters.base_sha256, self.config.dtype)
            load_adapters(folder, self._adapters.handle)
        else:
            load_weights(folder, self.lm.model, self._scorer.layout)
        self._optimizer.restore(tensors, where=str(folder / OPTIMIZER))
        if self._reference is not None and (folder / START).is_file():
            self._reference.expect(json.loads((folder / START).read_text())["sha256"])

    def weights_sha256(self) -> str:
        """Hash all weights; with adapters, those and the base's hash."""
        if self._adapters is None:
            return weights_sha256(self.lm.model, self._scorer.layout)
        return tensors_sha256(self._trained, over=self._adapters.base_sha256)

    def describe(self) -> dict[str, Any]:
        """Return what a record must say about this policy and its arithmetic."""
        return {
            "backend": self.config.backend,
            "model": self.config.model,
            "model_type": str(self.lm.model.config.model_type),
            "weights_sha256": self.weights_sha256(),
            "parameters": sum(p.numel() for p in self.lm.model.parameters()),
            "trainable_parameters": sum(p.numel() for p in self._trained.values()),
            "lora": self._describe_adapters(),
            "reference": None if self._reference is None else self._reference.describe(),
            "dtype": self.config.dtype,
            "attention": self.lm.attention,
            "decode_attention": self.lm.decode_attention,
            "matmul_precision": self.lm.precision,
            "activation_checkpointing": self.config.activation_checkpointing,
            "compile": self.config.compile,
            "device": str(self.lm.device),
            "threads": self._threads,
            "torch": torch.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "optimizer": "adamw",
            "optimizer_dtype": "float32",
        }

    def _describe_adapters(self) -> dict[str, Any] | None:
        if self._adapters is None:
            return None
        settings = self._adapters.handle.peft_config["default"]
        return {
            "rank": settings.r,
            "alpha": settings.lora_alpha,
            "rslora": settings.use_rslora,
            "targets": target_names(self._adapters.handle),
            "base": self._adapters.base,
            "base_sha256": self._adapters.base_sha256,
        }

    @property
    def _trained(self) -> dict[str, Tensor]:
        named = self.lm.model.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    @property
    def _optimizer(self) -> MasterAdamW:
        """Made at the first need: whoever only samples and scores holds no float32 copies."""
        if self._made_optimizer is None:
            layout = self._scorer.layout
            self._made_optimizer = MasterAdamW(self._trained, self.config, layout)
        return self._made_optimizer


def _slope(batch: Microbatch, scores: Scores, record: UpdateRecord) -> NDArray[np.float64]:
    """Return the loss's derivative by one microbatch's log-probabilities, from its scores."""
    assert scores.entropies_NT is not None
    found = record.add(
        batch.rows_B,
        scores.logprobs_NT[batch.rows_B].astype(np.float64),
        scores.entropies_NT[batch.rows_B].astype(np.float64),
    )
    return found.gradient_BT[:, : batch.length]


def _stop_ids(model: Any, eos_id: int) -> list[int]:
    """Return every id that ends a completion: the tokenizer's and the model's own."""
    known = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = known if isinstance(known, list) else [known]
    return sorted({eos_id, *(int(value) for value in ids if value is not None)})
