"""A policy over any causal language model of the transformers library, fully fine-tuned.

Knows one scoring path, used by `score` and `update` alike: prompts once a microbatch, completions
behind them, the head on completion positions only. One update is one forward pass. Refuses to
know rewards and algorithms: token credit comes from a callback.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupel.errors import AlgorithmicFailure, ConfigError, DataError
from cupel.policy.causal_lm import CausalLM
from cupel.policy.config import Attention, PolicyConfig, Precision
from cupel.policy.logprobs import chunk_tokens, logprobs_and_entropies
from cupel.policy.microbatch import Microbatch, plan_microbatches
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
from cupel.policy.sampling import sample_completions
from cupel.policy.tokens import PieceTokenizer
from cupel.policy.torch_state import load_state, save_model, save_state, weights_sha256
from cupel.policy.update_record import UpdateRecord


class TorchPolicy:
    """Samples, scores and trains a causal language model."""

    capabilities = Capabilities(token_advantages=True, entropies=True, exact_resume=True)

    def __init__(self, model: Any, tokenizer: Any, config: PolicyConfig, *, threads: int) -> None:
        """Wrap a loaded model and its tokenizer.

        Raises:
            ConfigError: the model is of a kind this code does not score correctly.
        """
        self.config = config
        self._threads = threads
        device = next(model.parameters()).device
        self.lm = CausalLM(
            model,
            attention=resolve_attention(config, device.type),
            precision=resolve_precision(config, device.type),
        )
        vocabulary = self.lm.head_weight.shape[0]
        self._pieces = PieceTokenizer(tokenizer, size=vocabulary)
        self.tokenizer: Tokenizer = self._pieces
        self._chunk = chunk_tokens(vocabulary, config.logprob_chunk)
        self.stop_ids = _stop_ids(model, self.tokenizer.eos_id)
        """Ids that end a completion."""
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=0.0,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
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
        scores = _blank_scores(completions)
        everyone = np.ones(len(completions.lengths_N), dtype=np.bool_)
        with self.lm.arithmetic():
            self._score_into(scores, completions, everyone)
        return scores

    def update(
        self,
        completions: Completions,
        *,
        trained_N: NDArray[np.bool_],
        credit: Credit,
        loss: LossConfig,
        lr: float,
        old_logprobs_NT: FloatNT | None = None,
    ) -> UpdateResult:
        """Take one AdamW step on the trained rows; with none of them, only score.

        Raises:
            AlgorithmicFailure: a loss or gradient is not finite; parameters are unchanged.
        """
        scores = _blank_scores(completions)
        record = UpdateRecord(completions, trained_N, credit, loss, old_logprobs_NT)
        self._optimizer.zero_grad(set_to_none=True)
        with self.lm.arithmetic():
            self._score_into(scores, completions, ~trained_N)
            if not trained_N.any():
                return record.result(scores, grad_norm=0.0)
            try:
                for batch in self._plan(completions, trained_N):
                    self._backward(batch, completions, scores, record)
                norm = self._step(lr)
            finally:
                self._optimizer.zero_grad(set_to_none=True)
        return record.result(scores, grad_norm=norm)

    def save(self, folder: Path) -> None:
        """Write weights, config, tokenizer and optimizer state."""
        save_state(folder, self.lm.model, self._optimizer)
        self._pieces.save(folder)

    def save_model(self, folder: Path) -> None:
        """Write weights, config and tokenizer only: a folder to start other runs from."""
        save_model(folder, self.lm.model)
        self._pieces.save(folder)

    def load(self, folder: Path) -> None:
        """Restore weights and optimizer state exactly.

        Raises:
            DataError: a file is missing, damaged, or of another model.
        """
        load_state(folder, self.lm.model, self._optimizer)

    def weights_sha256(self) -> str:
        """Hash all weights."""
        return weights_sha256(self.lm.model)

    def describe(self) -> dict[str, Any]:
        """Return what a record must say about this policy and its arithmetic."""
        return {
            "backend": self.config.backend,
            "model": self.config.model,
            "model_type": str(self.lm.model.config.model_type),
            "weights_sha256": self.weights_sha256(),
            "parameters": sum(p.numel() for p in self.lm.model.parameters()),
            "trainable_parameters": sum(p.numel() for p in self._parameters),
            "dtype": self.config.dtype,
            "attention": self.lm.attention,
            "decode_attention": self.lm.decode_attention,
            "matmul_precision": self.lm.precision,
            "device": str(self.lm.device),
            "threads": self._threads,
            "torch": torch.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "optimizer": "adamw",
        }

    def _plan(self, completions: Completions, chosen_N: NDArray[np.bool_]) -> list[Microbatch]:
        budget = self.config.microbatch_tokens
        return plan_microbatches(completions, chosen_N, token_budget=budget)

    def _score_into(
        self, scores: Scores, completions: Completions, chosen_N: NDArray[np.bool_]
    ) -> None:
        with torch.no_grad():
            for batch in self._plan(completions, chosen_N):
                self._record(scores, batch, *self._forward(batch, completions))

    def _forward(self, batch: Microbatch, completions: Completions) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies [B, length], 0 on padding."""
        tokens_BT = completions.tokens_NT[batch.rows_B, : batch.length]
        mask_BT = completions.mask_NT[batch.rows_B, : batch.length]
        prompt = self.lm.prefill(batch.prompts)
        hidden = self.lm.extend(prompt, tokens_BT[:, :-1], batch.row_prompt_B)
        hidden_MD = hidden.flatten(0, 1)
        flat = torch.from_numpy(np.flatnonzero(mask_BT)).to(self.lm.device)
        if len(flat) < len(hidden_MD):
            hidden_MD = hidden_MD[flat]
        targets_M = torch.from_numpy(tokens_BT[mask_BT].astype(np.int64)).to(self.lm.device)
        logprobs_M, entropies_M = logprobs_and_entropies(
            hidden_MD, self.lm.head_weight, self.lm.head_bias, targets_M, chunk=self._chunk
        )
        blank = logprobs_M.new_zeros(mask_BT.size)
        return (
            blank.index_put((flat,), logprobs_M).view(mask_BT.shape),
            blank.index_put((flat,), entropies_M).view(mask_BT.shape),
        )

    def _record(
        self, scores: Scores, batch: Microbatch, logprobs_BT: Tensor, entropies_BT: Tensor
    ) -> None:
        assert scores.entropies_NT is not None
        scores.logprobs_NT[batch.rows_B, : batch.length] = logprobs_BT.detach().cpu().numpy()
        scores.entropies_NT[batch.rows_B, : batch.length] = entropies_BT.detach().cpu().numpy()

    def _backward(
        self, batch: Microbatch, completions: Completions, scores: Scores, record: UpdateRecord
    ) -> None:
        """Add one microbatch's gradient; its scores are the forward pass of that gradient."""
        logprobs_BT, entropies_BT = self._forward(batch, completions)
        self._record(scores, batch, logprobs_BT, entropies_BT)
        assert scores.entropies_NT is not None
        found = record.add(
            batch.rows_B,
            scores.logprobs_NT[batch.rows_B].astype(np.float64),
            scores.entropies_NT[batch.rows_B].astype(np.float64),
        )
        slope_BT = torch.from_numpy(found.gradient_BT[:, : batch.length].copy())
        logprobs_BT.backward(slope_BT.to(logprobs_BT))  # type: ignore[no-untyped-call]

    def _step(self, lr: float) -> float:
        """Clip and step; return the gradient norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.config.grad_clip)
        if not bool(torch.isfinite(norm)):
            raise AlgorithmicFailure(
                f"update: the gradient norm is {float(norm)}; parameters are unchanged"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        return float(norm)


def load_torch_policy(config: PolicyConfig, *, device: str, threads: int) -> TorchPolicy:
    """Load model and tokenizer from `config.model`, a folder or a hub id.

    Raises:
        DataError: no such folder or model.
        ConfigError: an unknown device, or a model that cannot be scored correctly.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as library_logging

    torch.set_num_threads(threads)
    name = str(config.model)
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not Path(name).is_dir():
        raise DataError(f"policy.model: no such folder: {name}")
    bars = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, config.dtype))
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise DataError(f"policy.model: '{name}' cannot be loaded: {first}") from None
    finally:
        if bars:
            library_logging.enable_progress_bar()
    try:
        model = model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{device}': {str(error).splitlines()[0]}") from None
    return TorchPolicy(model, tokenizer, config, threads=threads)


def resolve_attention(config: PolicyConfig, device_type: str) -> Attention:
    """Return the attention of the scored forward: on CPUs eager beats sdpa at short lengths."""
    if config.attention != "auto":
        return config.attention
    return "eager" if device_type == "cpu" else "sdpa"


def resolve_precision(config: PolicyConfig, device_type: str) -> Precision:
    """Return the matmul precision: 'medium' only where it keeps float32 arithmetic."""
    if config.matmul_precision != "auto":
        return config.matmul_precision
    x86 = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    plain = x86 and not torch.cpu._is_amx_tile_supported()
    return "medium" if device_type == "cpu" and plain else "highest"


def _blank_scores(completions: Completions) -> Scores:
    shape = completions.tokens_NT.shape
    return Scores(
        logprobs_NT=np.zeros(shape, dtype=np.float32),
        entropies_NT=np.zeros(shape, dtype=np.float32),
    )


def _stop_ids(model: Any, eos_id: int) -> list[int]:
    """Return every id that ends a completion: the tokenizer's and the model's own."""
    known = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = known if isinstance(known, list) else [known]
    return sorted({eos_id, *(int(value) for value in ids if value is not None)})
