"""What single kinds promise: noise from outside, a carry with gradient, a strict table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.encoders import Encoded, Encoder, build_encoder
from cupel.errors import ConfigError, DataError

SIDE, WIDTH, CONTEXT = 4, 16, 4
VARIATIONAL = [
    {"kind": "variational"},
    {"kind": "lpn", "variational": True},
    {"kind": "hybrid", "variational": True},
]
SLOT = torch.tensor([0, 0, 1])
variational = pytest.mark.parametrize("settings", VARIATIONAL, ids=lambda s: s["kind"])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(**settings: Any) -> Encoder:
    return build_encoder(
        EncoderConfig(**settings),
        hidden_size=WIDTH,
        n_context=CONTEXT,
        vocab=12,
        generator=seeded(0),
    )


def grids(rows: int) -> Tensor:
    return torch.randint(1, 12, (rows, 2, SIDE * SIDE), generator=seeded(1))


def encode(encoder: Encoder, **more: Any) -> Encoded:
    encoded = encoder(grids(3), SLOT, 2, SIDE, **more)
    assert isinstance(encoded, Encoded)
    return encoded


def noise_for(settings: dict[str, Any]) -> Tensor:
    return torch.randn((3 if settings["kind"] == "lpn" else 2), WIDTH, generator=seeded(5))


@variational
def test_noise_acts_in_training_only(settings: dict[str, Any]) -> None:
    encoder = build(**settings)
    noise = noise_for(settings)
    with_noise = encode(encoder.train(), noise=noise).context
    without = encode(encoder.train(), noise=torch.zeros_like(noise)).context
    mean = encode(encoder.eval()).context
    assert not torch.allclose(with_noise, without)
    torch.testing.assert_close(without, mean)
    torch.testing.assert_close(encode(encoder.eval(), noise=noise).context, mean)


@variational
def test_a_generator_draws_the_noise_and_nothing_global_does(settings: dict[str, Any]) -> None:
    encoder = build(**settings).train()
    state = torch.get_rng_state()
    first = encode(encoder, generator=seeded(7)).context
    again = encode(encoder, generator=seeded(7)).context
    other = encode(encoder, generator=seeded(8)).context
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert torch.equal(state, torch.get_rng_state())


@variational
def test_training_without_a_source_of_noise_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="generator="):
        encode(build(**settings).train())
    with pytest.raises(ConfigError, match=r"noise \(9, 9\)"):
        encode(build(**settings).train(), noise=torch.zeros(9, 9))


@variational
def test_divergence_of_a_slot_does_not_depend_on_the_batch(settings: dict[str, Any]) -> None:
    encoder = build(**settings).eval()
    tokens = grids(3)
    once = encoder(tokens, SLOT, 2, SIDE).losses["kl"]
    twice = encoder(tokens.repeat(2, 1, 1), torch.cat([SLOT, SLOT + 2]), 4, SIDE).losses["kl"]
    assert once.shape == (2,)
    assert (once > 0).all()
    torch.testing.assert_close(twice, once.repeat(2))
    torch.testing.assert_close(twice.mean(), once.mean())


@variational
def test_divergence_is_that_of_torch_distributions(settings: dict[str, Any]) -> None:
    encoder = build(**settings).eval()
    gaussian = next(m for n, m in encoder.named_modules() if n.endswith("gaussian"))
    with torch.no_grad():
        gaussian.log_variance.bias.copy_(torch.linspace(-12, 2, WIDTH))
    seen: list[Tensor] = []
    gaussian.mean.register_forward_hook(lambda module, given, out: seen.append(out))
    kl = encode(encoder).losses["kl"]
    deviation = (0.5 * torch.linspace(-12, 2, WIDTH).clamp(-10, 10)).exp()
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(seen[0], deviation.expand_as(seen[0])),
        torch.distributions.Normal(torch.zeros(()), torch.ones(())),
    ).sum(-1)
    if settings["kind"] == "lpn":
        expected = torch.stack([expected[:2].mean(), expected[2]])
    torch.testing.assert_close(kl, expected)


def test_the_latent_has_the_size_that_was_asked_for() -> None:
    encoder = build(kind="lpn", latent_dim=6)
    latent = dict(encoder.named_parameters())["latent.weight"]
    assert latent.shape == (6, WIDTH)
    raw = build(kind="lpn", latent_dim=6, context_scale="raw")
    spread = raw(grids(40), torch.arange(40), 40, SIDE).context.flatten(1)
    assert int(torch.linalg.matrix_rank(spread - spread.mean(0), rtol=1e-4)) == 6


def test_token_level_context_is_richer_than_one_vector_a_pair() -> None:
    """With a single pair, pooled kinds read one vector; cross_attention reads its tokens."""

    def spread(kind: str) -> float:
        encoder = build(kind=kind, context_scale="raw").eval()
        stage = encoder.set_stage if kind == "standard" else encoder
        layer = stage.layers[0]
        seen: list[Tensor] = []
        layer.read.register_forward_hook(lambda module, given, out: seen.append(out))
        encoder(grids(1), torch.tensor([0]), 1, SIDE)
        return float(seen[0].detach().std(1).max())

    assert spread("standard") < 1e-5
    assert spread("cross_attention") > 1e-2


def test_the_carry_has_gradient_and_the_next_call_reads_it() -> None:
    encoder = build(kind="recurrent", h_cycles=2, l_cycles=1)
    first = encode(encoder)
    assert first.carry is not None
    assert first.carry.shape == (2, 2, CONTEXT, WIDTH)
    assert first.carry.requires_grad
    start = encoder.initial_carry(2)
    torch.testing.assert_close(encode(encoder, carry=start).context, first.context)
    second = encode(encoder, carry=first.carry.detach())
    assert not torch.allclose(second.context, first.context)
    second.context.square().mean().add(second.context.sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_gradient_of_the_refinement_is_that_of_the_whole_call() -> None:
    """The directional derivative by finite differences: nothing inside is detached or smoothed."""
    encoder = build(kind="recurrent", h_cycles=2, l_cycles=2).double()
    weight = torch.randn(2, CONTEXT, WIDTH, generator=seeded(3), dtype=torch.float64)
    parameters = [encoder.positions, encoder.reader.queries]

    def value() -> Tensor:
        return (encode(encoder).context.double() * weight).sum()

    grads = torch.autograd.grad(value(), parameters)
    with torch.no_grad():
        step = 1e-2
        for parameter, grad in zip(parameters, grads, strict=True):
            direction = torch.sign(grad) / grad.numel() ** 0.5
            parameter += step * direction
            above = value()
            parameter -= 2 * step * direction
            below = value()
            parameter += step * direction
            measured = float((above - below) / (2 * step))
            assert measured == pytest.approx(float((grad * direction).sum()), rel=0.05)


def test_the_state_is_replaced_not_smoothed() -> None:
    """The context is the last refinement itself, a normalised vector, also on the first call."""
    encoder = build(kind="recurrent", h_cycles=1, l_cycles=1, context_scale="raw")
    rms = encode(encoder).context.square().mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.ones_like(rms), rtol=1e-3, atol=0.0)


def test_a_fresh_slot_beside_a_carried_one_starts_afresh() -> None:
    encoder = build(kind="recurrent", h_cycles=1, l_cycles=1)
    first = encode(encoder)
    fresh = encoder.initial_carry(2)
    assert first.carry is not None
    assert fresh is not None
    mixed = torch.stack([fresh[0], first.carry[1].detach()])
    second = encode(encoder, carry=mixed).context
    torch.testing.assert_close(second[0], first.context[0])
    assert not torch.allclose(second[1], first.context[1])


def test_a_carry_of_another_batch_is_refused() -> None:
    encoder = build(kind="recurrent")
    with pytest.raises(ConfigError, match="carry"):
        encode(encoder, carry=encoder.initial_carry(3))


def test_kinds_without_a_state_have_no_carry() -> None:
    for kind in ("standard", "set", "lpn"):
        encoder = build(kind=kind)
        assert encoder.initial_carry(2) is None
        assert encode(encoder).carry is None


def test_the_table_gives_each_puzzle_its_row() -> None:
    encoder = build(kind="embedding", num_puzzles=3, context_tokens=1)
    context = encode(encoder, puzzle_ids=torch.tensor([2, 2])).context
    torch.testing.assert_close(context[0], context[1])
    other = encode(encoder, puzzle_ids=torch.tensor([2, 0])).context
    assert not torch.allclose(other[0, 0], other[1, 0])
    assert torch.count_nonzero(context[:, 1:]) == 0


@pytest.mark.parametrize("ids", [[0, 3], [-1, 0]])
def test_an_unknown_puzzle_is_refused(ids: list[int]) -> None:
    with pytest.raises(DataError, match="no row in the table of 3"):
        encode(build(kind="embedding", num_puzzles=3), puzzle_ids=torch.tensor(ids))


def test_the_table_needs_ids_and_a_size() -> None:
    with pytest.raises(ConfigError, match="needs puzzle_ids"):
        encode(build(kind="embedding", num_puzzles=3))
    with pytest.raises(ConfigError, match=r"encoder\.num_puzzles = 0"):
        build(kind="embedding")


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected pair_tokens \[3, 2, 25\]"):
        build()(grids(3), SLOT, 2, 5)
    with pytest.raises(ConfigError, match=r"expected demo_pair \[3\]"):
        build()(grids(2), SLOT, 2, SIDE, demo_pair=torch.tensor([0, 1]))
