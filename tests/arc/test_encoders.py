"""What every kind of encoder promises: gradient everywhere, pairs as a set, padding unseen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from cupel.arc.decoder import TRMCore
from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.encoders import Encoded, Encoder, build_encoder
from cupel.arc.encoders.contract import Extras, compact, pack
from cupel.arc.model_config import CoreConfig

SIDE, WIDTH, CONTEXT, VOCAB = 4, 16, 4, 12

KINDS: dict[str, dict[str, Any]] = {
    "standard": {"kind": "standard"},
    "standard_attention": {"kind": "standard", "pooling": "attention"},
    "standard_weighted": {"kind": "standard", "pooling": "weighted"},
    "standard_max": {"kind": "standard", "pooling": "max"},
    "standard_pre": {"kind": "standard", "norm": "pre", "qk_norm": True, "layer_scale_init": 0.1},
    "variational": {"kind": "variational"},
    "lpn": {"kind": "lpn", "latent_dim": 6},
    "lpn_variational": {"kind": "lpn", "variational": True},
    "hybrid": {"kind": "hybrid", "set_layers": 2},
    "hybrid_variational": {"kind": "hybrid", "variational": True, "latent_dim": 6},
    "cross_attention": {"kind": "cross_attention"},
    "set": {"kind": "set", "inducing_points": 3},
    "recurrent": {"kind": "recurrent", "h_cycles": 2, "l_cycles": 2, "pair_tokens": 3},
    "embedding": {"kind": "embedding", "num_puzzles": 5},
    "narrow": {"kind": "standard", "width": 8, "context_tokens": 3},
    "raw": {"kind": "cross_attention", "context_scale": "raw"},
}
READING = [name for name in KINDS if name != "embedding"]
every_kind = pytest.mark.parametrize("name", KINDS)
reading_kind = pytest.mark.parametrize("name", READING)


@dataclass(frozen=True)
class Rows:
    """Packed pairs for the tests."""

    tokens: Tensor
    slot: Tensor
    n_slots: int
    side: int = SIDE


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(name: str, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Encoder:
    config = EncoderConfig(**{**KINDS[name], **changes})
    return build_encoder(
        config,
        hidden_size=WIDTH,
        n_context=CONTEXT,
        vocab=VOCAB,
        generator=seeded(0),
        dtype=dtype,
    )


def grids(rows: int, seed: int = 1) -> Tensor:
    """Return pairs with padding of different extent in every grid."""
    tokens = torch.randint(1, VOCAB, (rows, 2, SIDE, SIDE), generator=seeded(seed))
    for row in range(rows):
        tokens[row, 0, 2 + row % 3 :] = 0
        tokens[row, 1, :, 1 + row % 4 :] = 0
    return tokens.flatten(2)


def example() -> Rows:
    return Rows(tokens=grids(6), slot=torch.tensor([0, 0, 1, 2, 2, 2]), n_slots=3)


def encode(encoder: Encoder, rows: Rows, **more: Any) -> Encoded:
    ids = torch.arange(rows.n_slots)
    encoded = encoder(rows.tokens, rows.slot, rows.n_slots, rows.side, puzzle_ids=ids, **more)
    assert isinstance(encoded, Encoded)
    return encoded


def largest(difference: Tensor) -> float:
    return float(difference.detach().abs().max())


@every_kind
def test_every_tensor_gets_a_gradient_through_the_decoder(name: str) -> None:
    encoder = build(name).train()
    config = CoreConfig(hidden_size=WIDTH, num_heads=2, H_cycles=1, L_cycles=1, n_context=CONTEXT)
    core = TRMCore(config, generator=seeded(3))
    rows = example()
    encoded = encode(encoder, rows, generator=seeded(2))
    query = grids(3, seed=4)[:, 0]
    out = core(*core.initial_states(3, SIDE), encoded.context, query)
    loss = out.logits.square().mean() + sum(term.mean() for term in encoded.losses.values())
    loss.backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@every_kind
def test_context_has_the_contracted_form(name: str) -> None:
    encoder = build(name).eval()
    context = encode(encoder, example()).context
    assert context.shape == (3, CONTEXT, WIDTH)
    written = encoder.written
    assert torch.count_nonzero(context[:, written:]) == 0
    if encoder.config.context_scale == "matched":
        rms = context[:, :written].square().mean(-1).sqrt()
        assert largest(rms - 1) < 1e-2
    assert set(encode(encoder.eval(), example()).losses) == set(encoder.config.loss_weights())


def test_context_starts_at_the_scale_of_the_token_embedding() -> None:
    config = CoreConfig(hidden_size=64, num_heads=4, n_context=CONTEXT)
    core = TRMCore(config, generator=seeded(0))
    tokens = core.embed_tokens.detach() * config.hidden_size**0.5
    encoder = build_encoder(
        EncoderConfig(), hidden_size=64, n_context=CONTEXT, vocab=VOCAB, generator=seeded(1)
    )
    context = encode(encoder, example()).context.detach()
    ratio = context.square().mean().sqrt() / tokens.square().mean().sqrt()
    assert 0.8 < float(ratio) < 1.25


@reading_kind
def test_order_of_pairs_does_not_matter(name: str) -> None:
    encoder = build(name).eval()
    rows = example()
    order = torch.tensor([5, 2, 1, 3, 0, 4])
    shuffled = Rows(tokens=rows.tokens[order], slot=rows.slot[order], n_slots=3)
    difference = encode(encoder, rows).context - encode(encoder, shuffled).context
    assert largest(difference) <= 1e-5


@reading_kind
def test_swapping_the_pairs_of_two_tasks_swaps_their_contexts(name: str) -> None:
    encoder = build(name).eval()
    rows = Rows(tokens=grids(4), slot=torch.tensor([0, 0, 1, 1]), n_slots=2)
    swapped = Rows(tokens=rows.tokens, slot=1 - rows.slot, n_slots=2)
    before, after = encode(encoder, rows).context, encode(encoder, swapped).context
    assert largest(before - after.flip(0)) <= 1e-5
    assert largest(before[0] - after[0]) > 1e-3


@reading_kind
def test_every_pair_counts_and_so_does_which_grid_is_the_output(name: str) -> None:
    encoder = build(name).eval()
    rows = example()
    before = encode(encoder, rows).context
    changed = rows.tokens.clone()
    changed[3, 1, 0] = changed[3, 1, 0] % 11 + 1
    after = encode(encoder, Rows(tokens=changed, slot=rows.slot, n_slots=3)).context
    assert largest(before[2] - after[2]) > 1e-5
    assert largest(before[:2] - after[:2]) <= 1e-6
    turned = encode(encoder, Rows(tokens=rows.tokens.flip(1), slot=rows.slot, n_slots=3)).context
    assert all(largest(before[b] - turned[b]) > 1e-4 for b in range(3))


@reading_kind
def test_packed_rows_equal_slots_padded_with_empty_pairs(name: str) -> None:
    encoder = build(name).eval()
    rows = example()
    padded_BK2S = torch.zeros(3, 5, 2, SIDE * SIDE, dtype=torch.long)
    for b in range(3):
        own = rows.tokens[rows.slot == b]
        padded_BK2S[b, : len(own)] = own
    padded = Rows(
        tokens=padded_BK2S.flatten(0, 1), slot=torch.arange(3).repeat_interleave(5), n_slots=3
    )
    packed, dense = encode(encoder, rows), encode(encoder, padded)
    assert largest(packed.context - dense.context) <= 1e-5
    for key, value in packed.losses.items():
        torch.testing.assert_close(value, dense.losses[key])


@reading_kind
def test_slots_do_not_see_one_another(name: str) -> None:
    encoder = build(name).eval()
    rows = example()
    together = encode(encoder, rows)
    for b in range(3):
        own = rows.tokens[rows.slot == b]
        alone = encode(encoder, Rows(own, torch.zeros(len(own), dtype=torch.long), 1))
        assert largest(together.context[b] - alone.context[0]) <= 1e-5
        for key, value in alone.losses.items():
            torch.testing.assert_close(value[0], together.losses[key][b])


@reading_kind
def test_a_larger_canvas_changes_nothing(name: str) -> None:
    encoder = build(name).eval()
    rows = example()
    large = torch.zeros(6, 2, 6, 6, dtype=torch.long)
    large[:, :, :SIDE, :SIDE] = rows.tokens.reshape(6, 2, SIDE, SIDE)
    wide = Rows(tokens=large.flatten(2), slot=rows.slot, n_slots=3, side=6)
    assert largest(encode(encoder, rows).context - encode(encoder, wide).context) <= 1e-5


def outcome(encoder: Encoder, seed: int, *given: Any, **more: Any) -> list[Tensor]:
    """Return contexts, losses and carry of a call, and every gradient of a function of them."""
    encoder.zero_grad()
    encoded = encoder(*given, puzzle_ids=torch.arange(4), generator=seeded(seed), **more)
    values = [encoded.context, *encoded.losses.values()]
    values += [] if encoded.carry is None else [encoded.carry]
    weights = [torch.randn(value.shape, generator=seeded(seed)) for value in values]
    sum((w * v).sum() for w, v in zip(weights, values, strict=True)).backward()
    return [*(value.detach() for value in values), *(p.grad.clone() for p in encoder.parameters())]


@every_kind
@pytest.mark.parametrize("seed", [1, 2])
def test_encoding_a_pair_once_is_encoding_it_for_every_slot(name: str, seed: int) -> None:
    """Values and gradients, with noise; slots 0 and 1 leave one out, slot 2 shows a pair twice."""
    encoder = build(name).train()
    pairs = grids(6, seed=seed)
    pair = torch.tensor([0, 1, 2, 1, 3, 3, 4, 0])  # none shows pair 5
    slot = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3])
    every = outcome(encoder, seed, pairs[pair], slot, 4, SIDE)
    once = outcome(encoder, seed, pairs, slot, 4, SIDE, demo_pair=pair)
    for found, wanted in zip(once, every, strict=True):
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=2e-5)


@reading_kind
def test_the_pair_transformer_sees_every_pair_once(name: str) -> None:
    encoder = build(name).eval()
    seen: list[int] = []
    encoder.pairs.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    pair = torch.tensor([0, 1, 0, 1, 1])
    encoder(grids(2), torch.tensor([0, 0, 1, 1, 2]), 3, SIDE, demo_pair=pair)
    assert seen == [2]


@reading_kind
def test_pairs_may_be_padded_to_a_fixed_number(name: str) -> None:
    """With static shapes too: pairs of padding that no row shows change nothing."""
    encoder = build(name).eval()
    pairs, pair = grids(3), torch.tensor([0, 1, 1, 2])
    padded = torch.cat([pairs, torch.zeros_like(pairs)])
    slot = torch.tensor([0, 0, 1, 1])
    demos = [pack(tokens, slot, 2, SIDE, pair) for tokens in (pairs, padded)]
    wanted = encoder.body(demos[0], Extras()).context
    for other in (demos[1], compact(demos[1])):
        found = encoder.body(other, Extras()).context
        assert largest(found - wanted) <= 1e-5
        encoder.zero_grad()
        found.square().mean().backward()
        grads = [p.grad for p in encoder.pairs.parameters()]
        assert all(torch.isfinite(grad).all() for grad in grads if grad is not None)


@reading_kind
def test_leaving_padding_out_changes_nothing(name: str) -> None:
    encoder = build(name).eval()
    rows = example()
    whole = pack(rows.tokens, rows.slot, 3, SIDE)
    short = compact(whole)
    assert short.tokens.shape[1] < whole.tokens.shape[1]
    assert torch.equal(short.visible.sum(1), whole.visible.sum(1))
    contexts = [encoder.body(demos, Extras()).context for demos in (whole, short)]
    assert largest(contexts[0] - contexts[1]) <= 1e-5


@reading_kind
def test_a_slot_without_pairs_has_a_finite_context_and_gradient(name: str) -> None:
    encoder = build(name).eval()
    rows = Rows(tokens=grids(2), slot=torch.tensor([0, 0]), n_slots=2)
    context = encode(encoder, rows).context
    context.square().mean().backward()
    assert torch.isfinite(context).all()
    grads = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert grads
    assert all(torch.isfinite(grad).all() for grad in grads)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_everything_comes_in_the_dtype_that_was_asked_for(name: str, dtype: torch.dtype) -> None:
    encoder = build(name, dtype=dtype).train()
    encoded = encode(encoder, example(), generator=seeded(2))
    assert encoded.context.dtype == dtype
    assert encoded.carry is None or encoded.carry.dtype == dtype
    assert all(term.dtype == torch.float32 for term in encoded.losses.values())
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())
    assert torch.isfinite(encoded.context).all()


@every_kind
def test_the_same_generator_state_builds_the_same_weights(name: str) -> None:
    before = torch.get_rng_state()
    first, second = build(name).state_dict(), build(name).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
