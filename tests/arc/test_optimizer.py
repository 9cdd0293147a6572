"""Adam-atan2 against its closed form; groups, freezing, reduction, clipping, averaging."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cupel.arc.ema import Ema
from cupel.arc.model_config import OptimizerConfig
from cupel.arc.optimizer import (
    AdamAtan2,
    build_optimizer,
    clip_gradients,
    prepare_update,
    reduce_gradients,
)
from cupel.errors import ConfigError, DataError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def closed_form(start, grads, *, lr, beta1, beta2, decay):
    """Every term written out: m_t and v_t as sums over all gradients so far, in float64."""
    p = start.double().clone()
    for t in range(1, len(grads) + 1):
        m = sum((1 - beta1) * beta1 ** (t - i) * grads[i - 1].double() for i in range(1, t + 1))
        v = sum(
            (1 - beta2) * beta2 ** (t - i) * grads[i - 1].double() ** 2 for i in range(1, t + 1)
        )
        p = p * (1 - lr * decay)
        p = p - lr / (1 - beta1**t) * torch.atan2(m, v.sqrt() / math.sqrt(1 - beta2**t))
    return p


def test_adam_atan2_equals_its_closed_form_for_100_steps():
    parameters = [nn.Parameter(torch.randn(*s, generator=generator())) for s in ((3, 4), (5,))]
    start = [p.detach().clone() for p in parameters]
    grads = [[torch.randn(p.shape, generator=generator(t)) for p in parameters] for t in range(100)]
    optimizer = AdamAtan2(parameters, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for row in grads:
        for parameter, grad in zip(parameters, row, strict=True):
            parameter.grad = grad.clone()
        optimizer.step()
    for i, parameter in enumerate(parameters):
        expected = closed_form(
            start[i], [row[i] for row in grads], lr=0.01, beta1=0.9, beta2=0.95, decay=0.1
        )
        torch.testing.assert_close(parameter.detach().double(), expected, atol=2e-6, rtol=1e-5)


def test_scaling_the_loss_does_not_change_the_path():
    def path(scale):
        weight = nn.Parameter(torch.linspace(-1, 1, 8))
        optimizer = AdamAtan2([weight], lr=0.05, weight_decay=0.1)
        for step in range(40):
            optimizer.zero_grad()
            target = torch.randn(8, generator=generator(step))
            (scale * ((weight - target) ** 2).sum()).backward()
            optimizer.step()
        return weight.detach()

    torch.testing.assert_close(path(1.0), path(1e-6), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(path(1.0), path(1e6), atol=1e-5, rtol=1e-4)


def test_first_step_is_a_quarter_turn_times_ten_and_zero_gradient_stays():
    """t = 1: m = 0.1 g, v̂ = g², so the angle is atan(0.1) and 1 / (1 - β1) = 10."""
    weight = nn.Parameter(torch.zeros(3))
    weight.grad = torch.tensor([2.0, -5e-9, 0.0])
    AdamAtan2([weight], lr=0.1, weight_decay=0.0).step()
    step = 0.1 * 10 * math.atan(0.1)
    torch.testing.assert_close(weight.detach(), torch.tensor([-step, step, 0.0]))


def test_a_parameter_without_gradient_neither_moves_nor_ages():
    moved, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = AdamAtan2([moved, still], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        moved.grad = torch.ones(2)
        optimizer.step()
    assert torch.equal(still, torch.ones(2))
    assert still not in optimizer.state
    still.grad = torch.ones(2)
    moved.grad = None
    optimizer.step()
    expected = 1 - 0.1 * 0.5 - 0.1 * 10 * math.atan(0.1)
    torch.testing.assert_close(still.detach(), torch.full((2,), expected))
    with pytest.raises(ConfigError, match="closures"):
        optimizer.step(lambda: 0.0)


def parts():
    encoder, inner = nn.Linear(3, 3), nn.Linear(3, 2)
    with torch.no_grad():
        for p in [*encoder.parameters(), *inner.parameters()]:
            p.normal_(generator=generator())
    return encoder, inner


def one_update(config, update=1, total_steps=10):
    """Return which group moved in one update, and by how much at most."""
    encoder, inner = parts()
    modules = {"encoder": encoder, "inner": inner}
    optimizer = build_optimizer(list(encoder.parameters()), list(inner.parameters()), config)
    before = {n: [p.detach().clone() for p in m.parameters()] for n, m in modules.items()}
    rates = prepare_update(optimizer, update, total_steps=total_steps, config=config)
    inner(encoder(torch.randn(4, 3, generator=generator(1)))).square().sum().backward()
    optimizer.step()
    moved = {
        name: [not torch.equal(p, b) for p, b in zip(m.parameters(), before[name], strict=True)]
        for name, m in modules.items()
    }
    return rates, moved


@pytest.mark.parametrize("kind", ["adam_atan2", "adamw"])
@pytest.mark.parametrize(
    ("freeze", "update", "moving"),
    [
        ({}, 1, {"encoder", "inner"}),
        ({"freeze_decoder_steps": 2}, 2, {"encoder"}),
        ({"freeze_decoder_steps": 2}, 3, {"encoder", "inner"}),
        ({"freeze_encoder_steps": 2}, 2, {"inner"}),
        ({"freeze_encoder_steps": 2}, 3, {"encoder", "inner"}),
    ],
)
def test_exactly_the_unfrozen_parameters_move(kind, freeze, update, moving):
    config = OptimizerConfig(optimizer=kind, lr=0.1, lr_warmup_steps=0, weight_decay=0.5, **freeze)
    rates, moved = one_update(config, update)
    for name in ("encoder", "inner"):
        assert moved[name] == [name in moving] * 2
        assert (rates[name] > 0) == (name in moving)


def test_freezing_everything_is_refused():
    with pytest.raises(ValueError, match="nothing would train"):
        OptimizerConfig(freeze_decoder_steps=1, freeze_encoder_steps=1)


def test_the_encoders_rate_is_scaled_and_both_follow_the_schedule():
    config = OptimizerConfig(lr=0.4, lr_warmup_steps=4, encoder_lr_scale=0.25)
    rates, moved = one_update(config, update=2)
    assert rates == pytest.approx({"encoder": 0.05, "inner": 0.2})
    assert all(moved["encoder"] + moved["inner"])
    with pytest.raises(ConfigError, match="update 11 is outside"):
        one_update(config, update=11)


def test_freezing_does_not_cut_the_gradient_to_the_encoder():
    encoder, inner = parts()
    config = OptimizerConfig(freeze_decoder_steps=1)
    optimizer = build_optimizer(list(encoder.parameters()), list(inner.parameters()), config)

    def gradient(update):
        prepare_update(optimizer, update, total_steps=9, config=config)
        inner(encoder(torch.ones(1, 3))).square().sum().backward()
        return encoder.weight.grad.clone(), inner.weight.grad

    frozen, none = gradient(1)
    free, some = gradient(2)
    assert none is None
    assert some is not None
    assert torch.equal(frozen, free)


def with_gradients(seed=0, scale=1.0):
    encoder, inner = parts()
    config = OptimizerConfig()
    optimizer = build_optimizer(list(encoder.parameters()), list(inner.parameters()), config)
    draw = generator(seed)
    for p in [*encoder.parameters(), *inner.parameters()]:
        p.grad = scale * torch.randn(p.shape, generator=draw)
    return optimizer, encoder, inner


def flat_gradient(*modules):
    return torch.cat([p.grad.flatten() for m in modules for p in m.parameters()])


def test_norms_are_those_before_clipping_and_the_direction_stays():
    optimizer, encoder, inner = with_gradients()
    before, e, i = (flat_gradient(*m) for m in ((encoder, inner), (encoder,), (inner,)))
    norms = clip_gradients(optimizer, 1.0)
    torch.testing.assert_close(norms.total, before.norm())
    torch.testing.assert_close(norms.encoder, e.norm())
    torch.testing.assert_close(norms.inner, i.norm())
    assert norms.clipped.item()
    torch.testing.assert_close(flat_gradient(encoder, inner), before / before.norm())


def test_short_gradients_and_no_limit_are_left_alone():
    for limit in (1e6, None):
        optimizer, encoder, inner = with_gradients()
        before = flat_gradient(encoder, inner)
        assert not clip_gradients(optimizer, limit).clipped.item()
        assert torch.equal(flat_gradient(encoder, inner), before)
    optimizer, encoder, inner = with_gradients(scale=0.0)
    assert clip_gradients(optimizer, 1.0).total.item() == 0.0
    assert not flat_gradient(encoder, inner).any()


def test_a_gradient_that_is_not_finite_shows_in_the_norm():
    optimizer, encoder, _ = with_gradients()
    encoder.weight.grad[0, 0] = float("nan")
    norms = clip_gradients(optimizer, 1.0)
    assert torch.isnan(norms.total)
    assert torch.isfinite(norms.inner)


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_the_clip_does_not_depend_on_the_number_of_ranks(ranks):
    """Each rank holds the mean over its share; reduced, clipped: the whole batch's gradient."""
    shares = [with_gradients(seed, scale=3.0) for seed in range(ranks)]
    flats = [flat_gradient(e, i) for _, e, i in shares]
    mean = torch.stack(flats).mean(0)
    optimizer, encoder, inner = shares[0]

    def add_other_ranks(flat):
        for other in flats[1:]:
            flat += other

    reduce_gradients(optimizer, ranks=ranks, sum_over_ranks=add_other_ranks)
    torch.testing.assert_close(flat_gradient(encoder, inner), mean)
    norms = clip_gradients(optimizer, 1.0)
    torch.testing.assert_close(norms.total, mean.norm())
    torch.testing.assert_close(flat_gradient(encoder, inner), mean / mean.norm())


def test_every_rank_sends_the_same_layout():
    optimizer, encoder, inner = with_gradients()
    inner.bias.grad = None
    sent = []
    reduce_gradients(optimizer, ranks=1, sum_over_ranks=lambda flat: sent.append(flat.numel()))
    assert sent == [sum(p.numel() for m in (encoder, inner) for p in m.parameters())]
    assert not inner.bias.grad.any()


def test_the_average_follows_its_formula_and_weights_come_back_exactly():
    module = nn.Linear(2, 2)
    ema = Ema(module, rate=0.9)
    shadow = module.weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            module.weight.copy_(torch.randn(2, 2, generator=generator(step)))
        ema.update()
        shadow = 0.9 * shadow + 0.1 * module.weight.detach()
    raw = module.weight.detach().clone()
    with ema.applied():
        torch.testing.assert_close(module.weight.detach(), shadow, atol=1e-6, rtol=1e-6)
    assert torch.equal(module.weight, raw)
    with pytest.raises(RuntimeError, match="stop"), ema.applied():
        raise RuntimeError("stop")
    assert torch.equal(module.weight, raw)


def test_an_average_of_other_parameters_is_refused():
    ema = Ema(nn.Linear(2, 2), rate=0.9)
    with pytest.raises(DataError, match="bias"):
        ema.restore({"weight": torch.zeros(2, 2)})
    other = Ema(nn.Linear(2, 2), rate=0.9)
    other.restore(ema.state())
    assert all(torch.equal(other.state()[n], v) for n, v in ema.state().items())
