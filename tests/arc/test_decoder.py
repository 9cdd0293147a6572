"""The recursive core against slow references of its own equations."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from cupel.arc.attention import rms_norm, rotation, truncated_normal
from cupel.arc.decoder import TRMCore
from cupel.arc.model_config import CoreConfig
from cupel.errors import ConfigError

SMALL = {"hidden_size": 16, "num_heads": 2, "n_context": 3, "H_cycles": 3, "L_cycles": 2}


def small_core(seed=0, **settings):
    core = TRMCore(CoreConfig(**{**SMALL, **settings}), generator=generator(seed))
    with torch.no_grad():  # as after some training: the halt head reads something
        core.q_head.weight.normal_(generator=generator(seed + 1))
    return core


def generator(seed):
    return torch.Generator().manual_seed(seed)


def inputs(core, *, batch=2, side=4, seed=5):
    draw = generator(seed)
    context = torch.randn(batch, core.config.n_context, core.config.hidden_size, generator=draw)
    query = torch.randint(0, 12, (batch, side * side), generator=draw)
    return context, query


# --- a per-sample reference in float64, one position at a time ------------------------------------


def reference_norm(x):
    return x / torch.sqrt((x * x).mean() + 1e-5)


def reference_turn(vector, coordinates, base):
    """Turn the pairs (i, i + d/2); the frequencies are shared out over the coordinates."""
    half = len(vector) // 2
    count = half // len(coordinates)
    turned = vector.clone()
    for pair in range(half):
        angle = coordinates[pair // count] * base ** (-(pair % count) / count)
        cos, sin = math.cos(angle), math.sin(angle)
        a, b = vector[pair], vector[pair + half]
        turned[pair], turned[pair + half] = a * cos - b * sin, b * cos + a * sin
    return turned


def reference_places(core, side):
    count = core.config.n_context
    if core.config.rope == "1d":
        return [(t,) for t in range(count + side * side)], 10000.0
    above = [(-1, i) for i in range(count)]
    return above + [(r, c) for r in range(side) for c in range(side)], 100.0


def reference_block(weights, x_TD, places, base, heads, active_T):
    width = x_TD.shape[1]
    size = width // heads
    projected = x_TD @ weights["qkv"].T
    mixed = torch.zeros_like(x_TD)
    for head in range(heads):
        cut = slice(head * size, (head + 1) * size)
        query, key, value = (projected[:, i * width : (i + 1) * width][:, cut] for i in range(3))
        query = torch.stack(
            [reference_turn(q, p, base) for q, p in zip(query, places, strict=True)]
        )
        key = torch.stack([reference_turn(k, p, base) for k, p in zip(key, places, strict=True)])
        for t in range(len(x_TD)):
            if active_T[t]:
                scores = (key[active_T] @ query[t]) / math.sqrt(size)
                mixed[t, cut] = torch.softmax(scores, dim=0) @ value[active_T]
    x_TD = torch.stack([reference_norm(x) for x in x_TD + mixed @ weights["out"].T])
    gate, up = (x_TD @ weights["gate_up"].T).chunk(2, dim=-1)
    hidden = gate * torch.sigmoid(gate) * up
    return torch.stack([reference_norm(x) for x in x_TD + hidden @ weights["down"].T])


def reference_step(core, weights, z_H, z_L, context, query, active):
    """One sample through the recursion; returns the states with gradient, logits and q."""
    config = core.config
    side = math.isqrt(len(query))
    places, base = reference_places(core, side)
    active_T = torch.cat([torch.ones(config.n_context, dtype=torch.bool), active])
    scale = math.sqrt(config.hidden_size)
    injected = torch.cat(
        [context, torch.stack([weights["embed_tokens"][t] for t in query]) * scale]
    )

    def stack(x_TD):
        for layer in range(config.L_layers):
            prefix = f"layers.{layer}."
            own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            x_TD = reference_block(own, x_TD, places, base, config.num_heads, active_T)
        return x_TD

    for cycle in range(config.H_cycles):
        with torch.set_grad_enabled(cycle == config.H_cycles - 1):
            for _ in range(config.L_cycles):
                z_L = stack(z_L + z_H + injected)
            z_H = stack(z_H + z_L)
    logits = z_H[config.n_context :] @ weights["lm_head"].T
    return z_H, z_L, logits, weights["q_head.weight"] @ z_H[0] + weights["q_head.bias"]


@pytest.mark.parametrize("rope", ["2d", "1d"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_step_and_its_gradient_equal_a_per_sample_reference(rope, padded):
    core = small_core(rope=rope, H_cycles=2)
    context, query = inputs(core, side=3)
    active = torch.ones(2, 9, dtype=torch.bool)
    if padded:
        active[:, [2, 5, 6, 7, 8]] = False
    context.requires_grad_()
    z_H, z_L = core.initial_states(2, 3)
    output = core(z_H, z_L, context, query, active if padded else None)
    pick = generator(9)
    weight_logits = torch.randn(output.logits.shape, generator=pick) * active[..., None]
    ((output.logits * weight_logits).sum() + output.q.sum()).backward()

    weights = {n: p.detach().double().requires_grad_() for n, p in core.named_parameters()}
    context64 = context.detach().double().requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for b in range(2):
        r_H, r_L, logits, q = reference_step(
            core, weights, z_H[b].double(), z_L[b].double(), context64[b], query[b], active[b]
        )
        where = torch.cat([torch.ones(3, dtype=torch.bool), active[b]])
        torch.testing.assert_close(output.z_H[b][where].double(), r_H[where], atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(output.z_L[b][where].double(), r_L[where], atol=2e-5, rtol=2e-5)
        close = {"atol": 2e-5, "rtol": 2e-5}
        torch.testing.assert_close(output.logits[b][active[b]].double(), logits[active[b]], **close)
        torch.testing.assert_close(output.q[b].double(), q, **close)
        loss = loss + (logits * weight_logits[b].double()).sum() + q.sum()
    loss.backward()
    torch.testing.assert_close(context.grad.double(), context64.grad, atol=1e-4, rtol=1e-3)
    for name, parameter in core.named_parameters():
        torch.testing.assert_close(
            parameter.grad.double(), weights[name].grad, atol=2e-4, rtol=1e-3, msg=name
        )


def test_gradient_comes_from_the_last_round_alone():
    """More rounds in front change the gradient only through the states that enter the last."""
    core = small_core(H_cycles=3)
    context, query = inputs(core)
    states = core.initial_states(2, 4)
    before = core(*states, context, query)  # three rounds
    (before.logits.sum() + before.q.sum()).backward()
    whole = {n: p.grad.clone() for n, p in core.named_parameters()}
    core.zero_grad()

    short = small_core(H_cycles=2)
    short.load_state_dict(core.state_dict())
    with torch.no_grad():
        middle = short(*states, context, query)
    last = small_core(H_cycles=1)
    last.load_state_dict(core.state_dict())
    after = last(middle.z_H, middle.z_L, context, query)
    (after.logits.sum() + after.q.sum()).backward()
    assert torch.equal(before.logits, after.logits)
    for name, parameter in last.named_parameters():
        assert torch.equal(parameter.grad, whole[name]), name


def test_states_leave_without_gradient_and_in_the_dtype_asked_for():
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        core = small_core(forward_dtype=name)
        output = core(*core.initial_states(2, 4), *inputs(core))
        assert output.z_H.dtype == output.z_L.dtype == output.logits.dtype == dtype
        assert output.q.dtype == torch.float32
        assert not output.z_H.requires_grad
        assert not output.z_L.requires_grad
        assert all(p.dtype == torch.float32 for p in core.parameters())
        (output.logits.float().sum() + output.q.sum()).backward()
        for parameter_name, parameter in core.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.abs().sum() > 0, parameter_name


def test_bfloat16_stays_near_float32():
    exact, fast = small_core(), small_core(forward_dtype="bfloat16")
    a, b = (c(*c.initial_states(2, 4), *inputs(c)).logits.float() for c in (exact, fast))
    assert (a - b).abs().max() < 0.15 * a.abs().max()
    assert not torch.equal(a, b)


def test_the_papers_size_has_6_829_058_parameters():
    """2 (4·512² + 3·512·1536) + 2·12·512 + 2·512 + 2 (arXiv:2510.04871, "7M")."""
    core = TRMCore(CoreConfig(), generator=generator(0))
    assert sum(p.numel() for p in core.parameters()) == 6_829_058


def test_fresh_weights_have_the_stated_deviations():
    core = TRMCore(CoreConfig(hidden_size=256), generator=generator(0))
    assert core.layers[0].qkv.std().item() == pytest.approx(1 / 16, rel=0.01)
    assert core.layers[0].down.std().item() == pytest.approx(768**-0.5, rel=0.01)
    assert core.embed_tokens.std().item() == pytest.approx(1 / 16, rel=0.05)
    assert core.H_init.std().item() == pytest.approx(1.0, rel=0.15)
    assert core.q_head.bias.tolist() == [-5.0, -5.0]
    assert not core.q_head.weight.any()
    values = truncated_normal((200_000,), std=3.0, generator=generator(1))
    assert values.std().item() == pytest.approx(3.0, rel=0.01)
    assert values.abs().max() <= 2 * 3.0 / 0.8796256


def test_the_same_generator_draws_the_same_core():
    a, b, c = small_core(seed=3), small_core(seed=3), small_core(seed=4)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.lm_head, c.lm_head)


@pytest.mark.parametrize("content", [2, 3])
def test_a_larger_canvas_gives_the_same_logits_on_the_puzzles_cells(content):
    """2-D positions are absolute and padding is masked: side 3 equals side 6 with 27 cells idle."""
    core = small_core()
    context, query = inputs(core, side=content)
    large = torch.randint(0, 12, (2, 6, 6), generator=generator(8))  # whatever stands on padding
    large[:, :content, :content] = query.view(2, content, content)
    active = torch.zeros(2, 6, 6, dtype=torch.bool)
    active[:, :content, :content] = True
    small = core(*core.initial_states(2, content), context, query)
    padded = core(*core.initial_states(2, 6), context, large.flatten(1), active.flatten(1))
    inside = padded.logits.view(2, 6, 6, 12)[:, :content, :content]
    torch.testing.assert_close(
        inside, small.logits.view(2, content, content, 12), atol=2e-5, rtol=2e-5
    )
    torch.testing.assert_close(padded.q, small.q, atol=2e-5, rtol=2e-5)


def test_padding_is_neither_attended_nor_attends_unless_told_so():
    masked, unmasked = small_core(), small_core(mask_padding=False)
    context, query = inputs(masked)
    active = torch.ones(2, 16, dtype=torch.bool)
    active[:, 12:] = False
    other = query.clone()
    other[:, 12:] = (query[:, 12:] + 1) % 12
    further = context + 1.0

    def logits(core, context, query):
        return core(*core.initial_states(2, 4), context, query, active).logits

    here, there = logits(masked, context, query), logits(masked, context, other)
    assert torch.equal(here[:, :12], there[:, :12])
    assert not torch.equal(here[:, 12:], there[:, 12:])
    assert torch.equal(here[:, 12:], logits(masked, further, query)[:, 12:])
    here, there = logits(unmasked, context, query), logits(unmasked, context, other)
    assert not torch.equal(here[:, :12], there[:, :12])


def test_slots_do_not_see_each_other():
    core = small_core()
    context, query = inputs(core, batch=3)
    z_H, z_L = core.initial_states(3, 4)
    together = core(z_H, z_L, context, query)
    for b in range(3):
        cut = slice(b, b + 1)
        alone = core(z_H[cut], z_L[cut], context[cut], query[cut])
        torch.testing.assert_close(alone.logits[0], together.logits[b], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("L_layers", 1),
        ("num_heads", 4),
        ("expansion", 2.0),
        ("H_cycles", 1),
        ("L_cycles", 1),
        ("rope", "1d"),
        ("scale_context", True),
        ("forward_dtype", "bfloat16"),
        ("n_context", 4),
        ("hidden_size", 32),
        ("mask_padding", False),
    ],
)
def test_every_setting_of_the_core_changes_what_it_computes(key, value):
    core, other = small_core(), small_core(**{key: value})
    active = torch.arange(16).expand(2, -1) < 12

    def logits(core):
        context, query = inputs(core)
        return core(*core.initial_states(2, 4), context, query, active).logits.float()

    assert not torch.allclose(logits(core), logits(other))


def test_rotations_of_a_cell_do_not_depend_on_the_canvas():
    def at(side):
        turn = rotation("2d", n_context=2, side=side, head_size=8, device=torch.device("cpu"))
        both = torch.cat(turn, dim=-1)
        return both[2:].view(side, side, 16), both[:2]

    (small, above_small), (large, above_large) = at(3), at(7)
    assert torch.equal(small, large[:3, :3])
    assert torch.equal(above_small, above_large)
    everywhere = torch.cat([large.flatten(0, 1), above_large])
    assert len({tuple(row.tolist()) for row in everywhere}) == 51


def test_norm_is_computed_in_float32():
    x = torch.full((1, 4), 300.0, dtype=torch.bfloat16)
    assert rms_norm(x).dtype == torch.bfloat16
    assert torch.equal(rms_norm(x), torch.ones(1, 4, dtype=torch.bfloat16))
    half = torch.full((1, 4), 300.0, dtype=torch.float16)  # 300² overflows float16
    assert torch.equal(rms_norm(half), torch.ones(1, 4, dtype=torch.float16))


def test_shapes_that_do_not_fit_are_refused():
    core = small_core()
    context, query = inputs(core)
    states = core.initial_states(2, 4)
    with pytest.raises(ConfigError, match=r"context \(2, 2, 16\)"):
        core(*states, context[:, :2], query)
    with pytest.raises(ConfigError, match="15 query cells"):
        core(*states, context, query[:, :15])
    with pytest.raises(ValueError, match="multiple of 4"):
        CoreConfig(hidden_size=12, num_heads=2)


def test_one_graph_without_breaks():
    """Traced by Dynamo with fullgraph=True: any read-back from the device would break it."""
    core = small_core(L_cycles=1, H_cycles=2)
    context, query = inputs(core)
    active = torch.arange(16).expand(2, -1) < 12
    states = core.initial_states(2, 4)
    eager = core(*states, context, query, active)
    torch._dynamo.reset()
    traced = torch.compile(core, fullgraph=True, backend="eager", dynamic=False)
    graph = traced(*states, context, query, active)
    torch.testing.assert_close(graph.logits, eager.logits)
    graph.logits.sum().backward()
    assert core.layers[0].qkv.grad is not None


@pytest.mark.slow
def test_compiled_equals_eager():
    core = small_core(L_cycles=1, H_cycles=2)
    context, query = inputs(core)
    states = core.initial_states(2, 4)
    eager = core(*states, context, query)
    (eager.logits.sum() + eager.q.sum()).backward()
    grads = {n: p.grad.clone() for n, p in core.named_parameters()}
    core.zero_grad()
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        core.compile(fullgraph=True, dynamic=False)
        compiled = core(*states, context, query)
        (compiled.logits.sum() + compiled.q.sum()).backward()
    torch.testing.assert_close(compiled.logits, eager.logits, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(compiled.q, eager.q, atol=2e-5, rtol=2e-5)
    for name, parameter in core.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[name], atol=2e-4, rtol=1e-3)
    assert list(core.state_dict()) == list(small_core().state_dict())
