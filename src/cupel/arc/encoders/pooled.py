"""Kinds that make one vector of each pair: standard, variational, lpn, hybrid.

Knows how pair vectors of a task become its context. Refuses to know tokens' layout and scale. A
context of these kinds mixes at most as many vectors as the task has pairs.
"""

from __future__ import annotations

from torch import Tensor, nn

from cupel.arc.attention import rms_norm
from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.encoders.contract import Body, Demos, Encoder, Extras
from cupel.arc.encoders.latent import Gaussian
from cupel.arc.encoders.layers import Form, Linear, ReadLayer
from cupel.arc.encoders.pairs import PairTransformer, Pool
from cupel.arc.encoders.segments import segment_mean


class SetStage(nn.Module):
    """Learned queries read the pair vectors of their slot: [U, W] -> [B, C, W]."""

    def __init__(self, form: Form, *, queries: int, layers: int) -> None:
        super().__init__()
        self.queries = form.learned(queries, form.width)
        self.layers = nn.ModuleList(ReadLayer(form, among=False) for _ in range(layers))

    def forward(self, vector_UW: Tensor, demos: Demos) -> Tensor:
        """Return the context before scaling; the order of pairs does not matter."""
        x = self.queries.to(vector_UW.dtype).expand(demos.n_slots, -1, -1)
        pairs, visible = vector_UW[:, None], demos.real[:, None]
        for layer in self.layers:
            assert isinstance(layer, ReadLayer)
            x = layer(x, layer.read.remember(pairs, visible, demos.slot, demos.pair))
        return x


class Program(nn.Module):
    """A latent vector a slot, spread to C context positions: [B, Z] -> [B, C, W]."""

    def __init__(self, form: Form, *, latent_dim: int, positions: int) -> None:
        super().__init__()
        self._positions = positions
        self.spread = Linear(form, latent_dim, positions * form.width, bias=True)

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return one vector a position."""
        spread: Tensor = self.spread(latent_BZ)
        return spread.reshape(spread.shape[0], self._positions, -1)


class StandardEncoder(Encoder):
    """Transformer over each pair, pooled to a vector; learned queries read the vectors.

    With `variational`: the mean of the C vectors is a Gaussian latent, spread to C positions.
    """

    def __init__(
        self, config: EncoderConfig, form: Form, *, hidden_size: int, n_context: int, vocab: int
    ) -> None:
        super().__init__(config, form, hidden_size=hidden_size, n_context=n_context)
        self.pairs = PairTransformer(form, vocab=vocab, layers=config.num_layers)
        self.pool = Pool(form, config.pooling)
        self.set_stage = SetStage(form, queries=self.written, layers=config.set_layers)
        self.latent = (
            LatentStage(config, form, positions=self.written)
            if config.kind == "variational"
            else None
        )

    def body(self, demos: Demos, extras: Extras) -> Body:
        """Compute the context of every slot."""
        context = self.set_stage(self.pool(self.pairs(demos), demos), demos)
        return Body(context=context) if self.latent is None else self.latent(context, extras)


class LatentStage(nn.Module):
    """One Gaussian latent a slot, from the mean of its context: [B, C, W] -> [B, C, W]."""

    def __init__(self, config: EncoderConfig, form: Form, *, positions: int) -> None:
        super().__init__()
        latent_dim = config.latent_dim or form.width
        self.gaussian = Gaussian(form, latent_dim)
        self.program = Program(form, latent_dim=latent_dim, positions=positions)

    def forward(self, context_BCW: Tensor, extras: Extras) -> Body:
        """Return the context the latent stands for, and its divergence a slot."""
        latent = self.gaussian(rms_norm(context_BCW.mean(1)), extras)
        return Body(context=self.program(latent.value), losses={"kl": latent.kl})


class HybridEncoder(Encoder):
    """The grid encoder of lpn (a summary vector reads the pair), then the set stage of standard."""

    def __init__(
        self, config: EncoderConfig, form: Form, *, hidden_size: int, n_context: int, vocab: int
    ) -> None:
        super().__init__(config, form, hidden_size=hidden_size, n_context=n_context)
        self.pairs = PairTransformer(form, vocab=vocab, layers=config.num_layers, summary=True)
        self.set_stage = SetStage(form, queries=self.written, layers=config.set_layers)
        self.latent = (
            LatentStage(config, form, positions=self.written) if config.variational else None
        )

    def body(self, demos: Demos, extras: Extras) -> Body:
        """Compute the context of every slot."""
        context = self.set_stage(self.pairs(demos)[:, 0], demos)
        return Body(context=context) if self.latent is None else self.latent(context, extras)


class LPNEncoder(Encoder):
    """Latent program: a summary vector a pair, a latent a pair, their mean, spread to C positions.

    Source: Bonnet and Macfarlane, "Searching Latent Program Spaces", arXiv:2411.08706.
    """

    def __init__(
        self, config: EncoderConfig, form: Form, *, hidden_size: int, n_context: int, vocab: int
    ) -> None:
        super().__init__(config, form, hidden_size=hidden_size, n_context=n_context)
        latent_dim = config.latent_dim or form.width
        self.pairs = PairTransformer(form, vocab=vocab, layers=config.num_layers, summary=True)
        self.gaussian = Gaussian(form, latent_dim) if config.variational else None
        self.latent = None if config.variational else Linear(form, form.width, latent_dim)
        self.program = Program(form, latent_dim=latent_dim, positions=self.written)

    def body(self, demos: Demos, extras: Extras) -> Body:
        """Compute the context of every slot; the divergence is a mean over the slot's pairs.

        Noise is drawn a row: slots that show one pair sample it apart, as if it were encoded twice.
        """
        vector_RW = demos.show(self.pairs(demos)[:, 0])
        real_R = demos.show(demos.real)
        losses = {}
        if self.gaussian is not None:
            latent = self.gaussian(vector_RW, extras)
            latent_RZ = latent.value
            kl_R1 = latent.kl[:, None]
            losses["kl"] = segment_mean(kl_R1, demos.slot, real_R, demos.n_slots)[:, 0]
        else:
            assert self.latent is not None
            latent_RZ = self.latent(vector_RW)
        latent_BZ = segment_mean(latent_RZ, demos.slot, real_R, demos.n_slots)
        return Body(context=self.program(latent_BZ), losses=losses)
