"""Promises: completion tokens carry the loss and only they; neither padding nor the way a batch is
split into passes changes a step; what is saved acts as what was trained."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cupel.errors import ConfigError, DataError, MissingExtraError
from cupel.policy.config import PolicyConfig
from cupel.policy.load import load_torch_policy
from cupel.teach.training.preference import distillation_loss, dpo_loss, two_candidate_loss
from cupel.teach.training.sft import Trainer, encode
from cupel.teach.training.sft_config import SftSettings, rate_at, total_steps
from cupel.teach.training.supervision import Example
from tests.teach.small_language import small_policy


def example(prompt: str, completion: str, **changes: Any) -> Example:
    return Example(prompt=prompt, completion=completion, **changes)


EXAMPLES = [
    example("task : reach cell 1 action :", " go left"),
    example("state : a b c d e f a b c action :", " leap", weight=2.0),
    example("action :", " right right wait"),
]
FULL = SftSettings(lora_rank=0, learning_rate=1e-3)


def gradients(trainer: Trainer, batch: Any) -> dict[str, torch.Tensor]:
    """Return the gradient of a batch, unscaled by clipping, with the weights left as they are."""
    found: dict[str, torch.Tensor] = {}
    hooks = [
        value.register_post_accumulate_grad_hook(
            lambda p, name=name: found.__setitem__(name, p.grad.clone())
        )
        for name, value in trainer.parameters.items()
    ]
    before = trainer.weights()
    trainer.step(batch, 0.0)
    trainer.reset(before)
    for hook in hooks:
        hook.remove()
    return found


def test_the_loss_is_that_of_completion_and_end_token_and_no_prompt_token() -> None:
    trained = small_policy()
    trainer = Trainer(trained, FULL, seed=0)
    for given_example in EXAMPLES:
        (item,) = trainer.items([given_example])
        result = trainer.step([item], 0.0)
        opening, (completion,) = encode(
            trained.tokenizer, given_example.prompt, [given_example.completion]
        )
        ids = torch.tensor([[*opening, *completion]])
        labels = ids.clone()
        labels[0, : len(opening)] = -100
        want = trained.lm.model(input_ids=ids, labels=labels, use_cache=False).loss
        assert completion[-1] == trained.tokenizer.eos_id
        assert result.loss_tokens == len(completion)
        assert result.loss == pytest.approx(want.item(), rel=1e-5)


def test_a_padded_batch_has_the_gradient_of_its_examples_one_by_one() -> None:
    trainer = Trainer(small_policy(), FULL, seed=0)
    items = trainer.items(EXAMPLES)
    together = gradients(trainer, items)
    tokens = [item.weight * item.loss_tokens for item in items]
    alone = [gradients(trainer, [item]) for item in items]
    for name, found in together.items():
        want = sum(w * g[name] for w, g in zip(tokens, alone, strict=True)) / sum(tokens)
        torch.testing.assert_close(found, want, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("budget", [1, 40, 10_000])
@pytest.mark.parametrize("kind", ["tokens", "pairs", "distill"])
def test_the_split_into_passes_never_changes_a_step(budget: int, kind: str) -> None:
    extra: dict[str, Any] = {
        "tokens": {},
        "pairs": {"rejected": " wait"},
        "distill": {"guided_prompt": "note : a action :", "actions": ("left", "go left", "wait")},
    }[kind]
    rows = [example(e.prompt, e.completion, weight=e.weight, **extra) for e in EXAMPLES]
    whole = Trainer(small_policy(), FULL, seed=0)
    split = Trainer(small_policy(), FULL.model_copy(update={"microbatch_tokens": budget}), seed=0)
    one, other = whole.step(whole.items(rows), 0.0), split.step(split.items(rows), 0.0)
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"rejected": " wait"},
        {"guided_prompt": "note : leap leap leap action :", "actions": ("left", "leap", "wait")},
    ],
)
def test_training_raises_what_it_is_to_raise(extra: Any) -> None:
    trainer = Trainer(small_policy(), FULL, seed=0)
    items = trainer.items([example("state : a action :", " leap", **extra)])
    first = trainer.step(items, 3e-3).loss
    for number in range(20):
        last = trainer.step(items, 3e-3, number=number).loss
    assert last < 0.5 * first
    if "rejected" in extra:
        (scores,) = trainer.scores(items)
        assert scores[0] > scores[1]


def test_a_distilled_model_gives_without_the_note_what_it_gave_with_it() -> None:
    trainer = Trainer(small_policy(), FULL, seed=0)
    actions = ("left", "leap", "wait")
    rows = [example("state : a action :", " leap", guided_prompt="note : f f : action :",
                    actions=actions)]  # fmt: skip
    (item,) = trainer.items(rows)
    assert item.target is not None
    for number in range(60):
        trainer.step([item], 3e-3, number=number)
    (scores,) = trainer.scores([item])
    probs = np.exp(scores - scores.max())
    np.testing.assert_allclose(probs / probs.sum(), item.target, atol=0.02)


def test_checkpointed_and_resumed_equals_unbroken(tmp_path: Path) -> None:
    unbroken = Trainer(small_policy(), FULL, seed=0)
    items = unbroken.items(EXAMPLES)
    for number in range(4):
        if number == 2:
            unbroken.save(tmp_path)
        unbroken.step(items, 1e-3, number=number)
    resumed = Trainer(small_policy(seed=1), FULL, seed=0)
    resumed.load(tmp_path)
    for number in (2, 3):
        resumed.step(items, 1e-3, number=number)
    assert resumed.policy.weights_sha256() == unbroken.policy.weights_sha256()


def test_reset_makes_the_next_training_the_first_again() -> None:
    trainer = Trainer(small_policy(), FULL, seed=0)
    items, start = trainer.items(EXAMPLES), trainer.weights()
    hashes = []
    for _ in range(2):
        trainer.reset(start)
        trainer.step(items, 1e-3)
        hashes.append(trainer.policy.weights_sha256())
    assert hashes[0] == hashes[1]


def test_an_example_that_is_too_long_stops_the_run_and_is_not_cut() -> None:
    trainer = Trainer(small_policy(), FULL.model_copy(update={"max_length": 16}), seed=0)
    with pytest.raises(DataError, match="moment m1 has 24 tokens, more than max_length 16"):
        trainer.items([example("a " * 20 + "action :", " left", snapshot_id="m1")])


def test_a_tokenizer_that_joins_prompt_and_completion_is_refused() -> None:
    with pytest.raises(DataError, match="begin with a token of its own"):
        encode(small_policy().tokenizer, "go le", ["ft"])


def test_adapters_without_their_library_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cupel\[lora\]'"):
        Trainer(small_policy(), SftSettings(), seed=0)


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs the extra 'lora'")
class TestAdapters:
    settings = SftSettings(lora_rank=4, lora_alpha=8, lora_dropout=0.5, learning_rate=1e-2)

    def test_only_adapters_are_trained_and_they_start_as_the_identity(self) -> None:
        plain, adapted = small_policy(), small_policy()
        trainer = Trainer(adapted, self.settings, seed=0)
        assert all("lora_" in name for name in trainer.parameters)
        (item,) = trainer.items(EXAMPLES[:1])
        (want,) = Trainer(plain, FULL, seed=0).scores([item])
        np.testing.assert_array_equal(trainer.scores([item])[0], want)

    def test_training_is_a_function_of_the_seed(self) -> None:
        losses = []
        for seed in (0, 0, 1):
            trainer = Trainer(small_policy(), self.settings, seed=seed)
            items = trainer.items(EXAMPLES)
            steps = [trainer.step(items, 1e-2, number=number) for number in range(3)]
            losses.append([step.loss for step in steps])
        assert losses[0] == losses[1] != losses[2]

    def test_the_saved_model_acts_as_the_trained_one(self, tmp_path: Path) -> None:
        trainer = Trainer(small_policy(), self.settings, seed=0)
        items = trainer.items(EXAMPLES)
        for number in range(5):
            trainer.step(items, 1e-2, number=number)
        want = trainer.scores(items)
        trainer.save_model(tmp_path / "model")
        assert (tmp_path / "model" / "adapter" / "adapter_config.json").is_file()
        config = PolicyConfig(backend="torch", model=str(tmp_path / "model"))
        loaded = load_torch_policy(config, device="cpu", threads=1)
        for got, expected in zip(Trainer(loaded, FULL, seed=0).scores(items), want, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-4)

    def test_a_checkpoint_holds_the_adapters_only(self, tmp_path: Path) -> None:
        unbroken = Trainer(small_policy(), self.settings, seed=0)
        items = unbroken.items(EXAMPLES)
        unbroken.step(items, 1e-2, number=0)
        unbroken.save(tmp_path)
        want = unbroken.step(items, 1e-2, number=1)
        resumed = Trainer(small_policy(), self.settings, seed=0)
        resumed.load(tmp_path)
        assert resumed.step(items, 1e-2, number=1) == want
        assert (tmp_path / "model.safetensors").stat().st_size < 40_000

    def test_a_model_without_the_named_matrices_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="has no such matrix"):
            Trainer(
                small_policy(), self.settings.model_copy(update={"lora_targets": ("x",)}), seed=0
            )


def test_full_weights_saved_load_like_any_model(tmp_path: Path) -> None:
    trainer = Trainer(small_policy(), FULL, seed=0)
    items = trainer.items(EXAMPLES)
    trainer.step(items, 1e-2)
    trainer.save_model(tmp_path)
    loaded = load_torch_policy(
        PolicyConfig(backend="torch", model=str(tmp_path)), device="cpu", threads=1
    )
    assert loaded.weights_sha256() == trainer.policy.weights_sha256()


def test_losses_at_points_that_can_be_checked_by_hand() -> None:
    better, worse = torch.log(torch.tensor([0.6])), torch.log(torch.tensor([0.2]))
    assert float(two_candidate_loss(better, worse)) == pytest.approx(-np.log(0.75), rel=1e-5)
    start = better - worse
    assert float(dpo_loss(better, worse, start, beta=0.1)) == pytest.approx(np.log(2), rel=1e-6)
    scores = torch.log(torch.tensor([0.1, 0.1, 0.2]))
    target = torch.tensor([0.25, 0.25, 0.5])
    assert float(distillation_loss(scores, target)) == pytest.approx(0.0, abs=1e-6)
    certain = torch.tensor([0.0, 0.0, 1.0])
    assert float(distillation_loss(scores, certain)) == pytest.approx(np.log(2), rel=1e-5)


@given(st.integers(1, 500), st.sampled_from(["cosine", "linear", "constant"]), st.floats(0, 0.9))
@settings(deadline=None)
def test_the_rate_is_positive_at_every_step_and_never_above_its_peak(
    steps: int, schedule: Any, warmup: float
) -> None:
    chosen = SftSettings(learning_rate=0.5, schedule=schedule, warmup_ratio=warmup)
    rates = [rate_at(step, steps, chosen) for step in range(steps)]
    assert all(0 < rate <= 0.5 for rate in rates)


def test_steps_count_accumulated_batches() -> None:
    chosen = SftSettings(epochs=3, batch_size=4, gradient_accumulation_steps=2)
    assert total_steps(17, chosen) == 9
    assert total_steps(17, chosen.model_copy(update={"max_steps": 5})) == 5
