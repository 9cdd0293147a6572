"""Adapters: the identity at the start, peft's own numbers, one seed one start, and a base that
cannot be swapped."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cupel.config import validate
from cupel.errors import ConfigError, DataError, MissingExtraError
from cupel.policy import Completions, LossConfig, PolicyConfig, UpdateResult, build_policy
from cupel.policy.gate import check_ratio_gate, gated_credit
from cupel.policy.torch_policy import TorchPolicy
from tests.gsm8k_bed import save_model

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="needs the extra 'lora'"
)

KINDS = ("qwen2", "llama", "gpt2")
PROMPTS = [6, 3, 55]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    sizes: dict[str, Any] = {"width": 32, "layers": 2, "vocabulary": 300, "spread": 0.15}
    made = {kind: save_model(root / kind, kind=kind, **sizes) for kind in KINDS}
    return made | {"other": save_model(root / "other", seed=1, **sizes)}


def policy_of(
    folder: Path,
    *,
    rank: int = 4,
    seed: int = 0,
    lora: dict[str, Any] | None = None,
    **settings: Any,
) -> TorchPolicy:
    data = {"backend": "torch", "model": str(folder), "lora": {"rank": rank, **(lora or {})}}
    config = validate(PolicyConfig, {**data, **settings}, where="policy")
    policy = build_policy(config, device="cpu", threads=1, seed=seed)
    assert isinstance(policy, TorchPolicy)
    return policy


def step(policy: TorchPolicy, completions: Completions, **changes: Any) -> UpdateResult:
    values = np.random.default_rng(3).normal(size=completions.tokens_NT.shape)
    settings: dict[str, Any] = {
        "trained_N": np.ones(len(completions.lengths_N), dtype=np.bool_),
        "credit": lambda rows, logprobs, entropies: values[rows],
        "loss": LossConfig(),
        "lr": 1e-2,
    }
    return policy.update(completions, **{**settings, **changes})


def adapters(policy: TorchPolicy) -> dict[str, torch.Tensor]:
    named = policy.lm.model.named_parameters()
    return {name: value for name, value in named if value.requires_grad}


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_adapters_are_the_identity_and_pass_the_gate(
    small: Any, folders: dict[str, Path], kind: str
) -> None:
    policy, base = policy_of(folders[kind]), policy_of(folders[kind], rank=0)
    completions = small.sample(policy, small.prompts(PROMPTS))
    scores = policy.score(completions)
    np.testing.assert_array_equal(scores.logprobs_NT, base.score(completions).logprobs_NT)
    step(policy, completions)
    assert np.abs(policy.score(completions).logprobs_NT - scores.logprobs_NT).max() > 0.01
    moved = small.sample(policy, small.prompts(PROMPTS))
    after = policy.score(moved)
    check_ratio_gate(moved, after)
    credit = gated_credit(lambda rows, logs, h: np.ones_like(logs), moved, after)
    assert step(policy, moved, credit=credit).ratio_mean == 1.0
    assert all("lora_" in name for name in adapters(policy))
    assert not any("lm_head" in name for name in adapters(policy))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [1, 4096])
def test_gradients_are_those_of_a_plain_forward_row_by_row(
    small: Any, folders: dict[str, Path], kind: str, budget: int
) -> None:
    policy, plain = (policy_of(folders[kind], microbatch_tokens=budget) for _ in range(2))
    completions = small.sample(policy, small.prompts(PROMPTS))
    for each in (policy, plain):
        step(each, completions)  # so that B is not 0
    values = np.random.default_rng(3).normal(size=completions.tokens_NT.shape)
    tokens = int(completions.lengths_N.sum())
    loss = torch.zeros(())
    for row, length in enumerate(completions.lengths_N.tolist()):
        prompt = list(completions.prompts[row // completions.group_size])
        own = completions.tokens_NT[row, :length].astype(np.int64)
        logits = plain.lm.model(torch.tensor([prompt + own.tolist()]), use_cache=False).logits[0]
        logs = torch.log_softmax(logits.float(), -1)[len(prompt) - 1 : -1]
        picked = logs.gather(1, torch.from_numpy(own)[:, None])[:, 0]
        loss = loss - (picked * torch.from_numpy(values[row, :length]).float()).sum() / tokens
    loss.backward()  # type: ignore[no-untyped-call]
    named = adapters(plain)
    norm = torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
    assert step(policy, completions).grad_norm == pytest.approx(float(norm), rel=1e-4)
    # one AdamW step of the same gradient
    plain._optimizer.step(1e-2)
    for name, value in adapters(policy).items():
        torch.testing.assert_close(value, named[name], rtol=1e-3, atol=2e-4)


def test_a_start_is_a_function_of_the_seed_and_of_nothing_else(folders: dict[str, Path]) -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = policy_of(folders["qwen2"], seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    assert policy_of(folders["qwen2"], seed=3).weights_sha256() == first.weights_sha256()
    assert policy_of(folders["qwen2"], seed=4).weights_sha256() != first.weights_sha256()


def test_settings_reach_the_adapters(folders: dict[str, Path]) -> None:
    policy = policy_of(
        folders["qwen2"], rank=2, lora={"targets": ["q_proj", "v_proj"], "alpha": 6, "rslora": True}
    )
    said = policy.describe()["lora"]
    assert (said["rank"], said["alpha"], said["rslora"]) == (2, 6, True)
    assert said["targets"] == ["q_proj", "v_proj"]
    assert {name.split(".")[-4] for name in adapters(policy)} == {"q_proj", "v_proj"}
    layer = policy.lm.model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == pytest.approx(6 / 2**0.5)


def test_the_record_tells_rank_parameters_and_base(folders: dict[str, Path]) -> None:
    policy, base = policy_of(folders["gpt2"]), policy_of(folders["gpt2"], rank=0)
    said = policy.describe()
    assert said["lora"]["base_sha256"] == base.weights_sha256() != said["weights_sha256"]
    assert said["trainable_parameters"] == sum(p.numel() for p in adapters(policy).values())
    assert 0 < said["trainable_parameters"] < base.describe()["trainable_parameters"] / 2
    assert said["lora"]["alpha"] == 8  # twice the rank
    assert said["reference"] == {"kind": "adapters off", "memory_bytes": 0}


def test_the_reference_is_the_base_with_adapters_and_a_frozen_copy_without(
    small: Any, folders: dict[str, Path]
) -> None:
    for rank in (4, 0):
        policy = policy_of(folders["qwen2"], rank=rank)
        completions = small.sample(policy, small.prompts(PROMPTS))
        before = policy.score(completions)
        step(policy, completions)
        reference = policy.score_reference(completions)
        np.testing.assert_array_equal(reference, before.logprobs_NT)
        assert np.abs(policy.score(completions).logprobs_NT - before.logprobs_NT).max() > 0.01
        assert policy.capabilities.reference
        norm = step(policy, completions).grad_norm
        assert norm > 0  # adapters are trainable again


def test_a_penalty_pulls_adapters_back_to_the_base(small: Any, folders: dict[str, Path]) -> None:
    policy = policy_of(folders["qwen2"])
    completions = small.sample(policy, small.prompts(PROMPTS))
    step(policy, completions)
    gaps = []
    for _ in range(4):
        found = step(
            policy,
            completions,
            credit=lambda rows, logs, h: np.zeros_like(logs),
            loss=LossConfig(kl_coef=1.0),
            reference_logprobs_NT=policy.score_reference(completions),
            lr=3e-3,
        )
        gaps.append(found.reference_kl)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.8 * gaps[0]


def test_a_policy_of_a_model_in_memory_has_no_reference(small: Any) -> None:
    policy = small.policy()
    completions = small.sample(policy, small.prompts([4]))
    assert not policy.capabilities.reference
    with pytest.raises(ConfigError, match="score_reference"):
        policy.score_reference(completions)


def test_a_start_that_changed_is_no_reference_for_a_resumed_run(
    small: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = save_model(tmp_path / "m", width=32, layers=2, vocabulary=300)
    policy = policy_of(model, rank=0)
    completions = small.sample(policy, small.prompts([4]))
    policy.score_reference(completions)
    (tmp_path / "saved").mkdir()
    policy.save(tmp_path / "saved")
    save_model(model, width=32, layers=2, vocabulary=300, seed=5)
    resumed = policy_of(model, rank=0)
    resumed.load(tmp_path / "saved")
    with pytest.raises(DataError, match="has changed"):
        resumed.score_reference(completions)


def test_a_saved_policy_continues_to_the_same_bits_without_the_bases_weights(
    small: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    def advance(policy: TorchPolicy, first: int, last: int) -> list[float]:
        losses = []
        for number in range(first, last):
            completions = small.sample(policy, small.prompts(PROMPTS, seed=number), seed=number)
            losses.append(step(policy, completions).loss)
        return losses

    unbroken, again = policy_of(folders["qwen2"]), policy_of(folders["qwen2"])
    losses = advance(unbroken, 0, 5)
    advance(again, 0, 2)
    again.save(tmp_path)
    resumed = policy_of(folders["qwen2"], seed=99)
    resumed.load(tmp_path)
    assert advance(resumed, 2, 5) == losses[2:]
    assert resumed.weights_sha256() == unbroken.weights_sha256()
    trained = 4 * resumed.describe()["trainable_parameters"]
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < trained + 10_000
    assert not (tmp_path / "model.safetensors").exists()


def test_a_checkpoint_on_another_base_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    policy_of(folders["qwen2"]).save(tmp_path)
    with pytest.raises(DataError, match="has other weights"):
        policy_of(folders["other"]).load(tmp_path)
    with pytest.raises(DataError, match=r"model\.safetensors"):
        policy_of(folders["qwen2"], rank=0).load(tmp_path)
    with pytest.raises(DataError, match="other adapters"):
        policy_of(folders["qwen2"], rank=2).load(tmp_path)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_an_adapter_folder_is_a_model_to_continue_or_to_merge(
    small: Any, folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    policy = policy_of(folders[kind])
    completions = small.sample(policy, small.prompts(PROMPTS))
    step(policy, completions)
    want, before = policy.score(completions).logprobs_NT, policy.weights_sha256()
    for name in ("adapter", "whole"):
        (tmp_path / name).mkdir()
        policy.save_model(tmp_path / name, merge=name == "whole")
    assert policy.weights_sha256() == before
    continued = policy_of(tmp_path / "adapter", seed=9)
    assert continued.weights_sha256() == before
    np.testing.assert_array_equal(continued.score(completions).logprobs_NT, want)
    step(continued, completions)
    moved = continued.weights_sha256()
    np.testing.assert_array_equal(continued.score_reference(completions), want)
    assert continued.weights_sha256() == moved != before
    for folder in (tmp_path / "adapter", tmp_path / "whole"):
        merged = policy_of(folder, rank=0)
        np.testing.assert_allclose(merged.score(completions).logprobs_NT, want, atol=2e-5)
        said = merged.describe()
        assert said["lora"] is None
        assert said["trainable_parameters"] == said["parameters"]
    assert step(merged, completions).grad_norm > 0


def test_a_checkpoint_of_continued_adapters_knows_its_start(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("first", "second", "saved"):
        (tmp_path / name).mkdir()
    policy_of(folders["qwen2"], seed=1).save_model(tmp_path / "first")
    policy_of(folders["qwen2"], seed=2).save_model(tmp_path / "second")
    policy_of(tmp_path / "first").save(tmp_path / "saved")
    policy_of(tmp_path / "first").load(tmp_path / "saved")
    with pytest.raises(DataError, match="has changed"):
        policy_of(tmp_path / "second").load(tmp_path / "saved")
    with pytest.raises(DataError, match="other adapters"):
        policy_of(folders["qwen2"]).load(tmp_path / "saved")


def test_an_adapter_folder_names_what_does_not_fit(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    policy_of(folders["qwen2"]).save_model(tmp_path)
    with pytest.raises(ConfigError, match=r"lora\.rank = 8, but the adapters .* have 4"):
        policy_of(tmp_path, rank=8)
    with pytest.raises(ConfigError, match=r"lora\.alpha = 3"):
        policy_of(tmp_path, lora={"alpha": 3})
    with pytest.raises(ConfigError, match="float32, not bfloat16"):
        policy_of(tmp_path, dtype="bfloat16")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(folders["other"])
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match="has other weights"):
        policy_of(tmp_path)
    settings["base_model_name_or_path"] = "./gone"
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match=r"its base: no such folder: \./gone"):
        policy_of(tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lora": {"rank": 4, "dropout": 0.1}}, "no exact ratio"),
        ({"backend": "tiny", "lora": {"rank": 4}}, "--lora-rank"),
        ({"backend": "toy", "lora": {"rank": 4}}, "--lora-rank"),
        ({"backend": "toy", "compile": True}, "is a table"),
        ({"compile": True, "activation_checkpointing": True}, "choose one"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        validate(PolicyConfig, {"backend": "torch", **settings}, where="policy")


@pytest.mark.parametrize("target", ["nowhere", "lm_head"])
def test_unknown_matrices_and_the_head_are_refused(folders: dict[str, Path], target: str) -> None:
    with pytest.raises(ConfigError, match="q_proj"):
        policy_of(folders["qwen2"], lora={"targets": [target]})


def test_without_peft_the_extra_is_named(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "peft" else real(name, *a)
    )
    with pytest.raises(MissingExtraError, match=r"cupel\[lora\]"):
        policy_of(folders["qwen2"])


def test_adapters_of_a_bfloat16_model_are_float32(small: Any, folders: dict[str, Path]) -> None:
    policy = policy_of(folders["llama"], dtype="bfloat16")
    assert {value.dtype for value in adapters(policy).values()} == {torch.float32}
    assert policy.lm.head_weight.dtype == torch.bfloat16
    completions = small.sample(policy, small.prompts(PROMPTS))
    assert step(policy, completions).grad_norm > 0
