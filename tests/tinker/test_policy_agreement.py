"""A Tinker server against the local trainer: the same numbers and the same step.

Both hold the same model. At the start the adapters add nothing, so both score the base; then the
server's own adapters are put into a local model, and one step is taken on each side.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tinker")
pytest.importorskip("torch")
pytest.importorskip("peft")

import httpx
import torch
from safetensors.torch import load_file

from cupel.config import validate
from cupel.errors import GateFailure
from cupel.policy import PolicyConfig, build_policy
from cupel.policy.gate import check_ratio_gate
from cupel.policy.lora import load_adapters
from cupel.policy.protocol import Completions, LossConfig
from cupel.policy.tinker.policy import TinkerPolicy
from cupel.policy.tinker.wire import Row, padded, parts_of, rows_of
from cupel.policy.torch_policy import TorchPolicy

pytestmark = [pytest.mark.tinker, pytest.mark.filterwarnings("ignore::ResourceWarning")]

RANK, ALPHA = 8, 32.0
"""The rank asked for, and the scale that the server uses whatever is asked."""

GROUP, TOKENS = 4, 24
LR = 1e-3


def remote_policy(server: Any, *, seed: int = 3, **settings: Any) -> TinkerPolicy:
    data = {
        "backend": "tinker",
        "model": server.base_model,
        "lora": {"rank": RANK},
        "grad_clip": 0.0,
        "tinker": {"base_url": server.url, "timeout_s": 120.0},
        **settings,
    }
    policy = build_policy(
        validate(PolicyConfig, data, where="policy"), device="cpu", threads=1, seed=seed
    )
    assert isinstance(policy, TinkerPolicy)
    return policy


def local_policy(server: Any) -> TorchPolicy:
    data = {
        "backend": "torch",
        "model": server.base_model,
        "lora": {"rank": RANK, "alpha": ALPHA},
        "grad_clip": 0.0,
    }
    policy = build_policy(
        validate(PolicyConfig, data, where="policy"), device="cpu", threads=1, seed=0
    )
    assert isinstance(policy, TorchPolicy)
    return policy


@pytest.fixture(scope="module")
def remote(tinker_server: Any) -> TinkerPolicy:
    return remote_policy(tinker_server)


@pytest.fixture(scope="module")
def local(tinker_server: Any) -> TorchPolicy:
    return local_policy(tinker_server)


def prompts_of(policy: Any) -> list[list[int]]:
    return [policy.tokenizer.encode(text) for text in ("1 + 2 =", "3 + 4 =", "12 + 9 =")]


def drawn(policy: Any, *, temperature: float = 1.0, seed: int = 0) -> Completions:
    prompts = prompts_of(policy)
    uniforms_NT = np.random.default_rng(seed).random((len(prompts) * GROUP, TOKENS))
    found: Completions = policy.sample(
        prompts,
        group_size=GROUP,
        max_tokens=TOKENS,
        temperature=temperature,
        top_p=1.0,
        uniforms_NT=uniforms_NT,
    )
    return found


@pytest.fixture(scope="module")
def batch(remote: TinkerPolicy) -> Completions:
    return drawn(remote)


ADVANTAGES_N = np.array([1.0, -1.0, 0.5, -0.5] * 3)


def credit(rows_B: Any, logprobs_BT: Any, entropies_BT: Any) -> Any:
    """Advantages that differ from row to row and from token to token."""
    slope_T = np.linspace(0.5, 1.5, logprobs_BT.shape[1])
    return ADVANTAGES_N[rows_B][:, None] * slope_T[None, :]


def updated(policy: Any, batch: Completions, loss: LossConfig, **more: Any) -> Any:
    trained_N = np.ones(len(batch.lengths_N), dtype=np.bool_)
    return policy.update(batch, trained_N=trained_N, credit=credit, loss=loss, lr=LR, **more)


def exported(remote: TinkerPolicy, server: Any, folder: Path, name: str) -> dict[str, Any]:
    """Return the adapters that a client would download, by peft's names."""
    client = remote._training._client
    path = client.save_weights_for_sampler(name).result(timeout=120).path
    model = path.split("/")[2]
    route = f"{server.url}/api/v1/training_runs/{model}/checkpoints/{name}/archive"
    answer = httpx.get(route, follow_redirects=True, timeout=60)
    answer.raise_for_status()
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        archive.extractall(folder, filter="data")
    return load_file(folder / "adapter_model.safetensors")


def test_sampler_trainer_and_local_model_give_one_probability(
    remote: TinkerPolicy, local: TorchPolicy, batch: Completions
) -> None:
    mask_NT = batch.mask_NT
    theirs, ours = remote.score(batch), local.score(batch)
    assert theirs.entropies_NT is None
    np.testing.assert_allclose(
        theirs.logprobs_NT[mask_NT], ours.logprobs_NT[mask_NT], rtol=0, atol=1e-4
    )
    np.testing.assert_allclose(
        batch.policy_logprobs_NT[mask_NT], ours.logprobs_NT[mask_NT], rtol=0, atol=1e-4
    )
    assert remote.found.reduction == "seq_mean"


def test_a_row_that_is_not_shifted_fails_the_gate(remote: TinkerPolicy, batch: Completions) -> None:
    rows = rows_of(batch, np.arange(len(batch.lengths_N)))
    width = batch.tokens_NT.shape[1]

    def gate(sent: list[Row]) -> float:
        parts = parts_of(sent, remote._training.forward(sent))
        scores = replace(remote.score(batch), logprobs_NT=padded(parts, width))
        return check_ratio_gate(batch, scores, tolerance=0.05)

    assert gate(rows) == pytest.approx(1.0, abs=1e-4)
    unshifted = [Row(input_K=row.target_K, target_K=row.target_K, start=row.start) for row in rows]
    with pytest.raises(GateFailure, match="misaligned by one"):
        gate(unshifted)


@pytest.mark.parametrize("normaliser", ["token", "sequence", "constant"])
def test_one_step_is_the_same_step(
    tinker_server: Any, batch: Completions, tmp_path: Path, normaliser: Any
) -> None:
    remote, local = remote_policy(tinker_server, seed=11), local_policy(tinker_server)
    start, end = tmp_path / "start", tmp_path / "end"
    before = exported(remote, tinker_server, start, f"before-{normaliser}")
    handle = local._adapters.handle  # type: ignore[union-attr]
    load_adapters(start, handle)
    assert all((value == 0).all() for name, value in before.items() if "lora_B" in name)

    loss = LossConfig(normaliser=normaliser)
    theirs, ours = updated(remote, batch, loss), updated(local, batch, loss)
    assert theirs.loss == pytest.approx(ours.loss, rel=1e-4, abs=1e-6)
    assert theirs.grad_norm == pytest.approx(ours.grad_norm, rel=1e-4)
    assert theirs.trained_tokens == ours.trained_tokens
    assert theirs.ratio_mean == pytest.approx(1, abs=1e-4)

    after = exported(remote, tinker_server, end, f"after-{normaliser}")
    from peft import get_peft_model_state_dict

    mine = get_peft_model_state_dict(handle, save_embedding_layers=False)
    moved = torch.cat([(after[name] - before[name]).flatten() for name in sorted(before)])
    expected = torch.cat([(mine[name] - before[name]).flatten() for name in sorted(before)])
    cosine = torch.nn.functional.cosine_similarity(moved, expected, dim=0)
    assert float(cosine) >= 0.999
    assert float(moved.norm() / expected.norm()) == pytest.approx(1, abs=0.02)

    new = drawn(remote, seed=5)
    mask_NT = new.mask_NT
    gap = np.abs(remote.score(new).logprobs_NT - local.score(new).logprobs_NT)[mask_NT]
    assert gap.max() < 1e-4


@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(kind="ppo", clip_eps=0.1, clip_eps_high=0.2),
        LossConfig(kind="cispo", clip_eps_high=0.2),
    ],
    ids=lambda loss: loss.kind,
)
def test_a_second_step_clips_as_ours_does(
    tinker_server: Any, batch: Completions, tmp_path: Path, loss: LossConfig
) -> None:
    remote, local = remote_policy(tinker_server, seed=12), local_policy(tinker_server)
    exported(remote, tinker_server, tmp_path, f"start-{loss.kind}")
    load_adapters(tmp_path, local._adapters.handle)  # type: ignore[union-attr]
    old_NT = remote.score(batch).logprobs_NT
    for _ in range(2):
        theirs = updated(remote, batch, loss, old_logprobs_NT=old_NT)
        ours = updated(local, batch, loss, old_logprobs_NT=old_NT)
    assert ours.clip_fraction > 0
    assert theirs.clip_fraction == pytest.approx(ours.clip_fraction, abs=0.02)
    assert theirs.loss == pytest.approx(ours.loss, rel=1e-2)
    assert theirs.grad_norm == pytest.approx(ours.grad_norm, rel=2e-2)
