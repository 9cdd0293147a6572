"""The chunked head against plain autograd: values, entropies and every gradient."""

from __future__ import annotations

import pytest
import torch

from cupel.policy.logprobs import chunk_tokens, logprobs_and_entropies


def inputs(*, bias: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(17, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(17, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(17, (11,), generator=generator)
    return hidden, weight, offset if bias else None, targets


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 11, 100])
def test_values_and_gradients_equal_autograd(chunk: int, bias: bool, known: bool) -> None:
    hidden, weight, offset, targets = inputs(bias=bias)
    logs = torch.log_softmax(torch.nn.functional.linear(hidden, weight, offset), dim=-1)
    pull = torch.linspace(-1, 1, 11, dtype=torch.float64)
    picked = logs.gather(1, targets[:, None])[:, 0]
    leaves = [leaf for leaf in (hidden, weight, offset) if leaf is not None]
    want = torch.autograd.grad(picked, leaves, pull)
    logprobs, entropies = logprobs_and_entropies(
        hidden, weight, offset, targets, chunk=chunk, slope_M=pull if known else None
    )
    assert logprobs.grad_fn is not None
    assert ("Fused" in logprobs.grad_fn.name()) == (known and chunk < 11)
    torch.testing.assert_close(logprobs, picked)
    torch.testing.assert_close(entropies, -(logs.exp() * logs).sum(-1))
    assert not entropies.requires_grad
    for got, expected in zip(torch.autograd.grad(logprobs, leaves, pull), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_a_frozen_head_passes_the_same_gradient_to_hidden_states(chunk: int, bias: bool) -> None:
    hidden, weight, offset, targets = inputs(bias=bias)
    pull = torch.linspace(-1, 1, 11, dtype=torch.float64)
    logs = torch.log_softmax(torch.nn.functional.linear(hidden, weight, offset), dim=-1)
    (want,) = torch.autograd.grad(logs.gather(1, targets[:, None])[:, 0], hidden, pull)
    frozen = None if offset is None else offset.detach()
    logprobs, _ = logprobs_and_entropies(hidden, weight.detach(), frozen, targets, chunk=chunk)
    (got,) = torch.autograd.grad(logprobs, hidden, pull)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_a_slope_that_was_not_announced_is_refused() -> None:
    hidden, weight, _, targets = inputs(bias=False)
    pull = torch.linspace(-1, 1, 11, dtype=torch.float64)
    logprobs, _ = logprobs_and_entropies(hidden, weight, None, targets, chunk=4, slope_M=pull)
    with pytest.raises(AssertionError, match="announced"):
        logprobs.backward(2 * pull)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("known", [False, True])
def test_half_precision_gradients_of_the_head_are_summed_in_float32(known: bool) -> None:
    """64 chunks: as near to the exact gradient as one rounding allows."""
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(256, 8, generator=generator).bfloat16().requires_grad_()
    weight = torch.randn(17, 8, generator=generator).bfloat16().requires_grad_()
    targets = torch.randint(17, (256,), generator=generator)
    pull = torch.ones(256)
    exact = weight.detach().double().requires_grad_()
    logs = torch.log_softmax(hidden.detach().double() @ exact.T, dim=-1)
    logs.gather(1, targets[:, None]).sum().backward()  # type: ignore[no-untyped-call]
    logprobs, _ = logprobs_and_entropies(
        hidden, weight, None, targets, chunk=4, slope_M=pull if known else None
    )
    (got,) = torch.autograd.grad(logprobs, weight, pull)
    assert got.dtype == torch.bfloat16
    assert exact.grad is not None
    gap = (got.double() - exact.grad).norm() / exact.grad.norm()
    assert gap < 2**-8


def test_gradcheck_in_float64() -> None:
    hidden, weight, offset, targets = inputs(bias=True)

    def logprobs_only(h: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return logprobs_and_entropies(h, w, b, targets, chunk=4)[0]

    assert torch.autograd.gradcheck(logprobs_only, (hidden, weight, offset))


def test_a_tied_head_receives_both_gradients() -> None:
    weight = torch.randn(17, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    ids, targets = torch.tensor([3, 4, 9]), torch.tensor([4, 9, 2])
    want = torch.autograd.grad(
        torch.log_softmax(weight[ids] @ weight.T, -1).gather(1, targets[:, None]).sum(), weight
    )[0]
    logprobs, _ = logprobs_and_entropies(weight[ids], weight, None, targets, chunk=2)
    torch.testing.assert_close(torch.autograd.grad(logprobs.sum(), weight)[0], want)


def test_a_certain_distribution_has_zero_entropy_and_no_nan() -> None:
    hidden = torch.tensor([[1.0]])
    weight = torch.tensor([[1000.0], [-1000.0]])
    logprobs, entropies = logprobs_and_entropies(hidden, weight, None, torch.tensor([0]), chunk=4)
    assert logprobs.tolist() == [0.0]
    assert entropies.tolist() == [0.0]


def test_the_chunk_shrinks_with_the_vocabulary_and_a_setting_wins() -> None:
    assert chunk_tokens(151_936, 0) * 151_936 * 4 <= 64 * 1024 * 1024
    assert chunk_tokens(56, 0) > chunk_tokens(151_936, 0)
    assert chunk_tokens(56, 7) == 7
