"""A policy over any causal language model of the transformers library: all weights, or adapters.

Knows one scoring path, used by `score`, `update` and the reference alike. One update is one
forward pass. Refuses to know rewards and algorithms: token credit comes from a callback.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from cupel.errors import ConfigError
from cupel.policy.config import PolicyConfig
from cupel.policy.lora import (
    load_adapters,
    merged_weights,
    read_adapter_folder,
    save_adapters,
    target_names,
)
from cupel.policy.microbatch import Microbatch
from cupel.policy.model_files import Adapters, load_model
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
from cupel.policy.reference import AdaptersOff, FrozenCopy, Reference, StartAdapters
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
        self._reference = self._reference_of(load_start)
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
        if self._reference is None:
            raise ConfigError(
                "score_reference: this policy was made of a model in memory; load it from a "
                "folder, or train adapters"
            )
        return self._reference.score(completions).logprobs_NT

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
            AlgorithmicFailure: a log-probability, an advantage or the loss is not finite.
        """
        with self.lm.arithmetic():
            for batch in self._scorer.plan(completions, chosen_N):
                self._backward(batch, completions, scores, record)

    def score_rows(
        self, scores: Scores, completions: Completions, chosen_N: NDArray[np.bool_]
    ) -> None:
        """Write the chosen rows' scores, without gradient."""
        self._scorer.score_into(scores, completions, chosen_N)

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
        save_model(folder, self.lm.model, weights)
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
            load_weights(folder, self.lm.model)
        self._optimizer.restore(tensors, where=str(folder / OPTIMIZER))
        if self._reference is not None and (folder / START).is_file():
            self._reference.expect(json.loads((folder / START).read_text())["sha256"])

    def weights_sha256(self) -> str:
        """Hash all weights; with adapters, those and the base's hash."""
        if self._adapters is None:
            return weights_sha256(self.lm.model)
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
            self._made_optimizer = MasterAdamW(self._trained, self.config)
        return self._made_optimizer

    def _reference_of(self, load_start: Callable[[], Any] | None) -> Reference | None:
        if self._adapters is not None and self._adapters.continued:
            return StartAdapters(self._scorer, self._trained, sha256=self.weights_sha256())
        if self._adapters is not None:
            return AdaptersOff(self._scorer, self._adapters.handle)
        if load_start is None:
            return None

        def load() -> Scorer:
            return scorer_of(load_start(), self.config, trained=False)

        held = sum(p.numel() * p.element_size() for p in self.lm.model.parameters())
        return FrozenCopy(load, memory_bytes=held)

    def _backward(
        self, batch: Microbatch, completions: Completions, scores: Scores, record: UpdateRecord
    ) -> None:
        """Add one microbatch's gradient; its scores are the forward pass of that gradient."""
        logprobs_BT = self._scorer.forward(batch, completions, scores)
        assert scores.entropies_NT is not None
        found = record.add(
            batch.rows_B,
            scores.logprobs_NT[batch.rows_B].astype(np.float64),
            scores.entropies_NT[batch.rows_B].astype(np.float64),
        )
        slope_BT = torch.from_numpy(found.gradient_BT[:, : batch.length].copy())
        logprobs_BT.backward(slope_BT.to(logprobs_BT))  # type: ignore[no-untyped-call]


def load_torch_policy(
    config: PolicyConfig, *, device: str, threads: int, seed: int = 0
) -> TorchPolicy:
    """Load model and tokenizer from `config.model`: a model folder, adapter folder or hub id.

    Args:
        seed: of the run; new adapters are drawn by it, loaded weights ignore it.

    Raises:
        DataError: no such folder or model, or adapters whose base is missing or another.
        ConfigError: an unknown device, contradictory adapter settings, or a model that cannot be
            scored correctly.
        MissingExtraError: adapters without `peft`.
    """
    torch.set_num_threads(threads)
    loaded = load_model(config, device=device, seed=seed)
    return TorchPolicy(
        loaded.model,
        loaded.tokenizer,
        config,
        threads=threads,
        adapters=loaded.adapters,
        load_start=lambda: load_model(config, device=device, seed=seed).model,
    )


def _stop_ids(model: Any, eos_id: int) -> list[int]:
    """Return every id that ends a completion: the tokenizer's and the model's own."""
    known = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = known if isinstance(known, list) else [known]
    return sorted({eos_id, *(int(value) for value in ids if value is not None)})
