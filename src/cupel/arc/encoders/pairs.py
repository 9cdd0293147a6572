"""From the tokens of a demonstration pair to what is known about it: token states or one vector.

Knows canvases, padding and pooling. Refuses to know which task a pair belongs to. Input and output
grids share their coordinates: cell (r, c) of both turns alike, and a channel vector tells them
apart.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupel.arc.attention import Rotation, rms_norm, rotation
from cupel.arc.encoder_config import Pooling
from cupel.arc.encoders.contract import Demos
from cupel.arc.encoders.layers import Form, Linear, PairBlock, join_heads, split_heads
from cupel.arc.encoders.packing import Masking, Packing


class PairTransformer(nn.Module):
    """Embed the tokens of each pair and let them attend to one another, pair by pair.

        x = √W (token[t] + channel[input or output]) / √2;  x ← blockₙ(… block₁(x))

    With `summary`, one learned vector stands before the tokens and takes part; it has no cell.
    """

    def __init__(self, form: Form, *, vocab: int, layers: int, summary: bool = False) -> None:
        super().__init__()
        self._form = form
        std = 1 / math.sqrt(form.width)
        self.tokens = form.learned(vocab, form.width, std=std)
        self.channels = form.learned(2, form.width, std=std)
        self.summary = form.learned(form.width, std=std) if summary else None
        self.blocks = nn.ModuleList(PairBlock(form) for _ in range(layers))

    def forward(self, demos: Demos) -> Tensor:
        """Return the states of the tokens [U, L, W], or [U, 1 + L, W] with the summary first."""
        cells = demos.side**2
        scale = math.sqrt(self._form.width)
        channel = F.embedding(demos.place // cells, self.channels)
        x = (F.embedding(demos.tokens, self.tokens) + channel) * (scale / math.sqrt(2))
        keys = demos.visible if demos.ragged else demos.visible | ~demos.real[:, None]
        if self.summary is not None:
            first = (self.summary * scale).expand(x.shape[0], 1, -1)
            x = torch.cat([first, x], dim=1)
            keys = F.pad(keys, (1, 0), value=True)
        x, turn = x.to(self._form.dtype), self._turn(demos)
        if not demos.ragged:
            return self._run(x, turn, Masking(keys=keys))
        rows = Packing.of(keys)
        turn = Rotation(cos=rows.take(turn.cos), sin=rows.take(turn.sin))
        return rows.put(self._run(rows.take(x), turn, rows))

    def _run(self, x: Tensor, turn: Rotation, rows: Packing | Masking) -> Tensor:
        for block in self.blocks:
            x = block(x, turn, rows)
        return rms_norm(x) if self._form.norm == "pre" else x

    def _turn(self, demos: Demos) -> Rotation:
        """Return the angles [U or 1, (1 +) L, 1, 1, d]: of the summary, then of each token."""
        first = 0 if self.summary is None else 1
        tables = rotation(
            "2d",
            n_context=first,
            side=demos.side,
            head_size=self._form.width // self._form.heads,
            device=demos.place.device,
        )
        row = demos.place % demos.side**2 + first
        if first:
            row = F.pad(row, (1, 0), value=0)
        return Rotation(*(table[row][:, :, None, None] for table in tables))


class Pool(nn.Module):
    """The tokens of a pair as one vector, [U, L, W] -> [U, W]; padding takes no part.

    mean: v = mean x; max: v_j = max x_j; weighted: v = Σ softmax(w·x) x, one learned score a token;
    attention: a learned query reads keys and values head by head. Then a linear map.
    """

    def __init__(self, form: Form, pooling: Pooling) -> None:
        super().__init__()
        self._pooling = pooling
        self.score = Linear(form, form.width, 1) if pooling == "weighted" else None
        self.attend = TokenReader(form, 1) if pooling == "attention" else None
        self.out = Linear(form, form.width, form.width)

    def forward(self, x_ULW: Tensor, demos: Demos) -> Tensor:
        """Return one vector a pair; zeros for a pair of padding alone."""
        pooled: Tensor = self.out(self._pool(x_ULW, demos.visible))
        return pooled * demos.real[:, None]

    def _pool(self, x_ULW: Tensor, visible_UL: Tensor) -> Tensor:
        hidden = ~visible_UL[..., None]
        if self.attend is not None:
            read: Tensor = self.attend(x_ULW, visible_UL)
            return read[:, 0]
        if self._pooling == "max":
            floor = torch.finfo(x_ULW.dtype).min
            top = x_ULW.masked_fill(hidden, floor).amax(1)
            return top.masked_fill(hidden.all(1), 0.0)
        if self.score is not None:
            score = self.score(x_ULW).float()
            score = score.masked_fill(hidden, torch.finfo(torch.float32).min)
            weight = score.softmax(1)
        else:
            shown = visible_UL[..., None].float()
            weight = shown / shown.sum(1, keepdim=True).clamp_min(1)
        weighted: Tensor = x_ULW * weight.to(x_ULW.dtype)
        return weighted.sum(1)


class TokenReader(nn.Module):
    """Learned queries read the tokens of each pair: [U, L, W] -> [U, M, W]."""

    def __init__(self, form: Form, queries: int) -> None:
        super().__init__()
        self._heads = form.heads
        self.queries = form.learned(queries, form.width)
        self.query = Linear(form, form.width, form.width)
        self.key_value = Linear(form, form.width, 2 * form.width)

    def forward(self, x_ULW: Tensor, visible_UL: Tensor) -> Tensor:
        """Return what the queries read; a pair of padding alone is read evenly, masked later."""
        keys = visible_UL | ~visible_UL.any(1, keepdim=True)
        query = split_heads(self.query(self.queries.to(x_ULW.dtype))[None], self._heads)
        key, value = (split_heads(x, self._heads) for x in self.key_value(x_ULW).chunk(2, dim=-1))
        read = F.scaled_dot_product_attention(
            query.expand(x_ULW.shape[0], -1, -1, -1), key, value, attn_mask=keys[:, None, None, :]
        )
        return join_heads(read)
