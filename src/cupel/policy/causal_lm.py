"""A causal language model of the transformers library as four calls: prefill, extend, step, branch.

Knows padding, positions, masks and caches, so that nobody else has to. Prompts are left-padded
and run once; completions are appended to their prompt's keys. The head is applied by the caller,
on the positions that need it. Refuses models whose logits are not a plain linear head of the
decoder's last hidden state, and sliding-window attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from cupel.errors import ConfigError
from cupel.policy.attention import NAME, SHARE_FROM, DecodeState, attention
from cupel.policy.config import Attention, Precision
from cupel.policy.recompute import recompute_layers

AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, eager_mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPass:
    """P prompts after one forward pass.

    Attributes:
        last_PD: hidden state of each prompt's last token; it predicts the first sampled token.
        keys, values: per layer [P, H, L, D], left-padded.
        lengths_P: tokens of each prompt.
        pad_mask_PL: additive mask of the padding, None where no prompt is padded.
    """

    last_PD: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    lengths_P: Tensor
    pad_mask_PL: Tensor | None

    @property
    def computed(self) -> list[Tensor]:
        """What the pass computed: hidden states, keys and values."""
        return [self.last_PD, *self.keys, *self.values]

    def cut(self) -> PromptPass:
        """Return the same numbers as leaves, at which a backward pass stops."""
        return replace(
            self,
            last_PD=self.last_PD.detach().requires_grad_(),
            keys=[key.detach().requires_grad_() for key in self.keys],
            values=[value.detach().requires_grad_() for value in self.values],
        )


class _LayerStore:
    """The cache of one pass: shows each layer its prompt's keys, keeps what the layer made."""

    is_compileable = False

    def __init__(
        self, layers: int, prompt: PromptPass | None = None, rows_B: Tensor | None = None
    ) -> None:
        self._made: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self._prompt, self._rows_B = prompt, rows_B

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> Any:
        if self._prompt is None:
            if self._made[layer] is None:  # else the layer is computed again for its gradient
                self._made[layer] = (key, value)
            return key, value
        return (
            self._behind(self._prompt.keys[layer], key),
            self._behind(self._prompt.values[layer], value),
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0 if self._prompt is None else self._prompt.keys[layer_idx].shape[2]

    @property
    def keys(self) -> list[Tensor]:
        """Keys of every layer."""
        return [made[0] for made in self._made if made is not None]

    @property
    def values(self) -> list[Tensor]:
        """Values of every layer."""
        return [made[1] for made in self._made if made is not None]

    def _behind(self, prompt: Tensor, own: Tensor) -> Tensor:
        """Put each row's own keys behind its prompt's."""
        prompts, heads, length, width = prompt.shape
        if self._rows_B is not None:
            return torch.cat([prompt[self._rows_B], own], dim=2)
        group = own.shape[0] // prompts
        wide = prompt[:, None].expand(prompts, group, heads, length, width)
        joined = torch.cat([wide, own.view(prompts, group, heads, -1, width)], dim=3)
        return joined.flatten(0, 1)


class CausalLM:
    """prefill(prompts), extend(completions), step(one token), branch(whole rows), and the head."""

    def __init__(
        self,
        model: Any,
        *,
        attention: Attention,
        precision: Precision,
        recompute: bool = False,
        compiled: bool = False,
    ) -> None:
        """Wrap a loaded model.

        Args:
            recompute: keep only layer inputs for the backward pass, and compute the rest again.
            compiled: run the scored passes through torch.compile.

        Raises:
            ConfigError: the model's attention or head is not one this code scores correctly.
        """
        self.model = model.eval()
        self.decoder = model.get_decoder()
        self.precision = precision
        self.attention = attention
        self._pluggable = bool(getattr(model, "_supports_attention_backend", False))
        _refuse_sliding_windows(model.config)
        self._stock = "sdpa" if attention == "sdpa" else (NAME if self._pluggable else "eager")
        self._layers = int(model.config.num_hidden_layers)
        if recompute:
            recompute_layers(self.decoder)
        self._compiled = torch.compile(self.decoder, dynamic=True) if compiled else None
        with self.arithmetic(), torch.no_grad():
            self._check()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        weight: Tensor = self.head_weight
        return weight.device

    @property
    def head_weight(self) -> Tensor:
        """The head's matrix [V, D]; often the embedding's."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    @property
    def head_bias(self) -> Tensor | None:
        """The head's bias [V], where it has one."""
        bias: Tensor | None = getattr(self.model.get_output_embeddings(), "bias", None)
        return bias

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the head; float32 out."""
        return torch.nn.functional.linear(hidden, self.head_weight, self.head_bias).float()

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Use this model's matmul precision inside the block, and restore the caller's after."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.precision)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> PromptPass:
        """Run each prompt once."""
        length = max(len(prompt) for prompt in prompts)
        ids = np.zeros((len(prompts), length), dtype=np.int64)
        for row, prompt in zip(ids, prompts, strict=True):
            row[length - len(prompt) :] = prompt
        lengths = np.array([len(prompt) for prompt in prompts])
        pads = length - lengths
        at = np.arange(length)
        seen = (at[None, None, :] <= at[None, :, None]) & (at >= pads[:, None])[:, None, :]
        positions = np.maximum(at[None, :] - pads[:, None], 0)
        store = _LayerStore(self._layers)
        hidden = self._forward(ids, positions, self._additive(seen)[:, None], store, self._stock)
        padded = bool(pads.any())
        return PromptPass(
            last_PD=hidden[:, -1],
            keys=store.keys,
            values=store.values,
            lengths_P=self._on_device(lengths),
            pad_mask_PL=self._additive(at >= pads[:, None]) if padded else None,
        )

    def extend(
        self, prompt: PromptPass, tokens_BT: NDArray[np.integer[Any]], row_prompt_B: NDArray[Any]
    ) -> Tensor:
        """Run completions behind their prompts; return hidden states [B, T + 1, D].

        Position t predicts completion token t: position 0 is the prompt's last token, position
        t > 0 has read tokens 0 .. t - 1.
        """
        prompts, length = prompt.keys[0].shape[0], prompt.keys[0].shape[2]
        rows, count = tokens_BT.shape
        even = rows % prompts == 0 and np.array_equal(
            row_prompt_B, np.repeat(np.arange(prompts), rows // prompts)
        )
        rows_B = self._on_device(row_prompt_B)
        first_BD = prompt.last_PD[rows_B]
        if count == 0:
            return first_BD[:, None]
        lengths_B = prompt.lengths_P[rows_B]
        positions = lengths_B[:, None] + torch.arange(count, device=self.device)
        causal = self._additive(np.tri(count, dtype=np.bool_))
        if prompt.pad_mask_PL is None:
            mask = torch.nn.functional.pad(causal, (length, 0))[None]
        else:
            before = prompt.pad_mask_PL[rows_B][:, None].expand(rows, count, length)
            mask = torch.cat([before, causal.expand(rows, count, count)], dim=-1)
        store = _LayerStore(self._layers, prompt, None if even else rows_B)
        hidden = self._forward(tokens_BT, positions, mask[:, None], store, self._stock)
        return torch.cat([first_BD[:, None], hidden], dim=1)

    def branch(
        self,
        tokens_BT: NDArray[np.integer[Any]],
        positions_BT: NDArray[np.integer[Any]],
        allowed_BTT: NDArray[np.bool_],
    ) -> Tensor:
        """Run rows whose tokens see what `allowed_BTT[b, reader, read]` says; return [B, T, D].

        With positions and mask of its own, one row holds a prompt and many continuations that do
        not see one another.
        """
        mask = self._additive(allowed_BTT)[:, None]
        store = _LayerStore(self._layers)
        return self._forward(tokens_BT, positions_BT, mask, store, self._stock)

    def start(self, prompt: PromptPass, row_prompt_N: NDArray[np.intp]) -> DecodeState:
        """Open a decode state of N rows behind their prompts."""
        length = prompt.keys[0].shape[2]
        groups = len(row_prompt_N) > prompt.keys[0].shape[0]
        return DecodeState(
            prompt.keys,
            prompt.values,
            prompt.pad_mask_PL,
            row_prompt_N,
            shared=self._pluggable and groups and length >= SHARE_FROM,
        )

    def step(self, state: DecodeState, tokens_N: Tensor, positions_N: Tensor) -> Tensor:
        """Append one token to each row; return its hidden state [N, D]."""
        if self._pluggable:
            mask: Tensor | None = self._no_mask
            name, extra = NAME, {"decode": state}
        else:
            mask, name, extra = state.mask(), self._stock, {}
            if mask is None:
                mask = torch.zeros(
                    (1, 1, 1, state.get_seq_length() + 1), dtype=self._dtype, device=self.device
                )
        hidden = self._forward(
            tokens_N[:, None], positions_N[:, None], mask, state, name, decoding=True, **extra
        )
        return hidden[:, 0]

    @property
    def decode_attention(self) -> str:
        """How decoding attends: with the group's prompt shared, or with the stock kernel."""
        return "shared prefix" if self._pluggable else self._stock

    @property
    def _dtype(self) -> torch.dtype:
        return self.head_weight.dtype

    @property
    def _no_mask(self) -> Tensor:
        """Stand in where the decode state masks by itself: 4-D masks are taken as they are."""
        return torch.zeros((1, 1, 1, 1), dtype=self._dtype, device=self.device)

    def _forward(
        self,
        ids: Any,
        positions: Any,
        mask: Any,
        cache: Any,
        name: str,
        *,
        decoding: bool = False,
        **extra: Any,
    ) -> Tensor:
        self.model.config._attn_implementation = name
        sampling = decoding or torch.is_inference_mode_enabled()
        decoder = self.decoder if sampling or self._compiled is None else self._compiled
        output = decoder(
            input_ids=self._on_device(ids),
            position_ids=self._on_device(positions),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **extra,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _on_device(self, values: Any) -> Tensor:
        if isinstance(values, Tensor):
            return values
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(self.device)

    def _additive(self, allowed: NDArray[np.bool_]) -> Tensor:
        """Return 0 where allowed and the dtype's lowest number elsewhere."""
        mask = torch.zeros(allowed.shape, dtype=self._dtype)
        mask.masked_fill_(torch.from_numpy(~allowed), torch.finfo(self._dtype).min)
        return mask.to(self.device)

    def _check(self) -> None:
        """Compare this code's logits with the model's own, on fixed ids of several prompts."""
        vocabulary = self.head_weight.shape[0]
        rows = (np.arange(3 * 60).reshape(3, 60) * 7919 + 11) % vocabulary
        prompts = [rows[0, :50].tolist(), rows[1, :48].tolist()]
        prompt = self.prefill(prompts)
        hidden = self.extend(prompt, rows[[2, 0, 1], :3], np.array([0, 0, 1]))
        state = self.start(prompt, np.array([0, 0, 1]))
        tokens = self._on_device(rows[[2, 0, 1], :3])
        positions = prompt.lengths_P[self._on_device(np.array([0, 0, 1]))]
        stepped = [self.step(state, tokens[:, t], positions + t) for t in range(3)]
        tolerance = 1e-3 if self._dtype == torch.float32 else 0.25
        for row, owner in enumerate([0, 0, 1]):
            ids = [*prompts[owner], *tokens[row].tolist()]
            self.model.config._attn_implementation = self._stock
            want = self.model(input_ids=self._on_device([ids]), use_cache=False).logits[0, -3:]
            for what, got in (
                ("scoring", hidden[row, 1:]),
                ("decoding", torch.stack([state_t[row] for state_t in stepped])),
            ):
                gap = float((self.logits(got) - want.float()).abs().max())
                scale = float(want.float().abs().max()) + 1.0
                if not gap <= tolerance * scale:
                    raise ConfigError(
                        f"policy.model: this {type(self.model).__name__} differs from Cupel's "
                        f"{what} pass by {gap:.3g} in its logits; only decoders with full causal "
                        "attention and a plain linear head are supported"
                    )


def _refuse_sliding_windows(config: Any) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    used = getattr(config, "use_sliding_window", window is not None)
    if kinds != {"full_attention"} or (window is not None and used):
        raise ConfigError(
            f"policy.model: {config.model_type} with attention {sorted(kinds)} and sliding window "
            f"{window} is not supported; use a model with full attention in every layer"
        )
