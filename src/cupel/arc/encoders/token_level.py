"""Kinds whose context reads the tokens of all pairs, not one vector a pair: cross_attention, set.

Knows token states and slots. Refuses to know positions across pairs: pairs are a set.
"""

from __future__ import annotations

from torch import Tensor, nn

from cupel.arc.attention import rms_norm
from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.encoders.contract import Body, Demos, Encoder, Extras
from cupel.arc.encoders.layers import Form, Linear, ReadLayer, SwiGLU, join_heads, split_heads
from cupel.arc.encoders.pairs import PairTransformer


class CrossAttentionEncoder(Encoder):
    """Context queries attend to every token of every pair of their slot, then to one another."""

    def __init__(
        self, config: EncoderConfig, form: Form, *, hidden_size: int, n_context: int, vocab: int
    ) -> None:
        super().__init__(config, form, hidden_size=hidden_size, n_context=n_context)
        self.pairs = PairTransformer(form, vocab=vocab, layers=config.num_layers)
        self.queries = form.learned(self.written, form.width)
        self.layers = nn.ModuleList(ReadLayer(form, among=True) for _ in range(config.set_layers))

    def body(self, demos: Demos, extras: Extras) -> Body:
        """Compute the context of every slot."""
        tokens_ULW = self.pairs(demos)
        x = self.queries.to(tokens_ULW.dtype).expand(demos.n_slots, -1, -1)
        for layer in self.layers:
            assert isinstance(layer, ReadLayer)
            x = layer(x, layer.read.remember(tokens_ULW, demos.visible, demos.slot, demos.pair))
        return Body(context=x)


class SetEncoder(Encoder):
    """Set transformer over the tokens of a slot: induced attention across pairs, then pooling.

        I' = read(I, X), X ← norm(X + attend(X, I')), X ← norm(X + SwiGLU(X))     (ISAB)
        context = read(queries, X), among one another                              (PMA, SAB)

    Tokens of different pairs meet through the M inducing points of their slot, at a cost linear in
    their number.

    Source: Lee et al., arXiv:1810.00825, equations 9-12. Departure: post-norm RMS without gain and
    SwiGLU, as everywhere here.
    """

    def __init__(
        self, config: EncoderConfig, form: Form, *, hidden_size: int, n_context: int, vocab: int
    ) -> None:
        super().__init__(config, form, hidden_size=hidden_size, n_context=n_context)
        self.pairs = PairTransformer(form, vocab=vocab, layers=config.num_layers)
        points = config.inducing_points
        self.layers = nn.ModuleList(InducedBlock(form, points) for _ in range(config.set_layers))
        self.queries = form.learned(self.written, form.width)
        self.pool = ReadLayer(form, among=True)

    def body(self, demos: Demos, extras: Extras) -> Body:
        """Compute the context of every slot."""
        tokens_RLW, visible_RL = demos.show(self.pairs(demos)), demos.show(demos.visible)
        for layer in self.layers:
            tokens_RLW = layer(tokens_RLW, visible_RL, demos)
        queries = self.queries.to(tokens_RLW.dtype).expand(demos.n_slots, -1, -1)
        memory = self.pool.read.remember(tokens_RLW, visible_RL, demos.slot)
        return Body(context=self.pool(queries, memory))


class InducedBlock(nn.Module):
    """All tokens of a slot exchange through M learned points: [R, L, W] -> [R, L, W]."""

    def __init__(self, form: Form, points: int) -> None:
        super().__init__()
        self._heads = form.heads
        self.points = form.learned(points, form.width)
        self.gather = ReadLayer(form, among=False)
        self.query = Linear(form, form.width, form.width)
        self.key_value = Linear(form, form.width, 2 * form.width)
        self.out = Linear(form, form.width, form.width)
        self.mlp = SwiGLU(form)

    def forward(self, x_RLW: Tensor, visible_RL: Tensor, demos: Demos) -> Tensor:
        """Return the tokens, each knowing of the other pairs of its slot."""
        points = self.points.to(x_RLW.dtype).expand(demos.n_slots, -1, -1)
        memory = self.gather.read.remember(x_RLW, visible_RL, demos.slot)
        points_RMW = self.gather(points, memory).index_select(0, demos.slot)
        key, value = (
            split_heads(part, self._heads) for part in self.key_value(points_RMW).chunk(2, dim=-1)
        )
        query = split_heads(self.query(x_RLW), self._heads)
        read = nn.functional.scaled_dot_product_attention(query, key, value)
        x_RLW = rms_norm(x_RLW + self.out(join_heads(read)))
        return rms_norm(x_RLW + self.mlp(x_RLW))
