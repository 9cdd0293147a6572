"""What the probe measures: exact match at halt and by age, and what demonstrations bring."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.items import Item
from cupel.arc.model import ARCModel
from cupel.arc.model_config import CoreConfig, ModelConfig
from cupel.arc.probe import answer_fixed, gain_values, probe_values, swap_demonstrations

CPU = torch.device("cpu")
CORE = CoreConfig(hidden_size=16, num_heads=2, L_layers=1, H_cycles=1, L_cycles=1, n_context=2)


def small_model(**encoder: object) -> ARCModel:
    config = ModelConfig(core=CORE, encoder=EncoderConfig.model_validate(encoder))
    return ARCModel(config, generator=torch.Generator().manual_seed(0))


def test_swapped_demonstrations_are_always_another_puzzles(make_item: Callable[..., Item]) -> None:
    items = [make_item(n, puzzle_id=f"p{n // 2}", puzzle_index=n // 2) for n in range(6)]
    items += [make_item(9, side=3, puzzle_id="lonely")]
    swapped = swap_demonstrations(items)
    assert swapped[-1] is None  # no other puzzle of its side
    for item, other in zip(items[:-1], swapped[:-1], strict=True):
        assert other is not None
        assert other.puzzle_index == (item.puzzle_index + 1) % 3
        assert np.array_equal(other.query, item.query)
        assert np.array_equal(other.label, item.label)
        donors = [each for each in items if each.puzzle_index == other.puzzle_index]
        assert any(np.array_equal(other.demo_inputs, each.demo_inputs) for each in donors)


def test_a_model_that_ignores_its_context_has_no_context_gain(
    make_item: Callable[..., Item],
) -> None:
    model = small_model(num_layers=1)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    items = [make_item(n, puzzle_index=n) for n in range(4)]
    values, _ = probe_values(model, items, steps=4, batch_size=3, device=CPU)
    assert values["context_gain"] == 0.0
    assert values["em_swapped"] == values["em_at_halt"] == values["em_at_4"]
    assert values["em_null"] == values["em_at_halt"]


def test_a_model_that_reads_the_puzzle_is_found_to(make_item: Callable[..., Item]) -> None:
    """A constant answer, right for one kind of puzzle; the embedding says which puzzle it is."""
    model = small_model(kind="embedding", num_puzzles=2)
    items = [
        make_item(n, puzzle_id=f"p{n % 2}", puzzle_index=n % 2,
                  label=np.full(16, 2 + n % 2, dtype=np.uint8), query=np.ones(16, dtype=np.uint8))
        for n in range(8)
    ]  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    from cupel.arc.losses import sequence_losses
    from cupel.arc.slots import collate

    batch = collate(items, 4)
    for _ in range(60):
        output = model(batch)
        losses = sequence_losses(output.logits, output.q_halt, batch.label, loss_type="softmax")
        optimizer.zero_grad()
        losses.lm_B.mean().backward()
        optimizer.step()
    values, answered = probe_values(model, items, steps=1, batch_size=8, device=CPU)
    assert values["em_at_halt"] == 1.0
    assert values["em_swapped"] == 0.0
    assert values["context_gain"] == 1.0
    assert values["between_task_share"] == pytest.approx(1.0)
    assert [int(t[0]) for t in answered.tokens] == [2 + n % 2 for n in range(8)]


def test_batching_does_not_change_an_answer(make_item: Callable[..., Item]) -> None:
    model = small_model(num_layers=1)
    items = [make_item(n) for n in range(5)]
    together, apart = (
        answer_fixed(model, items, steps=3, batch_size=size, device=CPU) for size in (5, 1)
    )
    assert np.allclose(together.q, apart.q, atol=1e-5)
    assert np.array_equal(together.exact_at_halt, apart.exact_at_halt)
    assert [item.puzzle_id for item in together.items] == [item.puzzle_id for item in items]


def test_a_model_that_would_halt_is_read_where_it_would(make_item: Callable[..., Item]) -> None:
    model = small_model(num_layers=1)
    items = [make_item(n) for n in range(3)]
    never = answer_fixed(model, items, steps=3, batch_size=3, device=CPU)
    assert never.steps.tolist() == [3, 3, 3]
    assert never.forced.tolist() == [1, 1, 1]
    with torch.no_grad():
        model.core.q_head.bias.fill_(5.0)
    at_once = answer_fixed(model, items, steps=3, batch_size=3, device=CPU)
    assert at_once.steps.tolist() == [1, 1, 1]
    assert at_once.forced.tolist() == [0, 0, 0]
    assert np.array_equal(at_once.exact_at_halt, at_once.exact_at[1])


def test_the_gain_is_paired_and_clustered_by_puzzle() -> None:
    with_demos = np.array([1.0, 1, 1, 1, 0, 1])
    without = np.array([0.0, 0, 1, 1, 0, 0])
    few = gain_values("g", with_demos, without, ["a", "a", "b", "b", "c", "c"])
    many = gain_values("g", with_demos, without, list("abcdef"))
    assert few["g"] == many["g"] == 0.5
    widths = [values["g_hi"] - values["g_lo"] for values in (few, many)]  # type: ignore[operator]
    assert widths[0] > widths[1]
    assert gain_values("g", with_demos, with_demos, list("abcdef"))["g_lo"] is None
    assert gain_values("g", np.zeros(0), np.zeros(0), [])["g"] is None
