"""The shipped start: its hash, its accuracy, its cache; and that its recipe makes it again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cupel.errors import AlgorithmicFailure
from cupel.policy import PolicyConfig, build_policy
from cupel.policy.built import BUILD_RECORD, SHIPPED, cache_root
from cupel.policy.tiny_build import WarmStart, build_key, build_tiny, cached_build
from cupel.policy.torch_policy import TorchPolicy
from cupel.rlvr.warm_start import ArithmeticCorpus

RECORD = json.loads((SHIPPED / BUILD_RECORD).read_text())
QUICK = WarmStart(
    clean_steps=3,
    clean_batch=4,
    probe_from=2,
    stop_accuracy=0.0,
    least_accuracy=0.0,
    mixed_steps=2,
    mixed_batch=4,
    probes=4,
    final_probes=8,
    accuracy_band=(0.0, 1.0),
)


def tiny() -> TorchPolicy:
    policy = build_policy(PolicyConfig(), device="cpu", threads=1, seed=0)
    assert isinstance(policy, TorchPolicy)
    return policy


def test_the_shipped_weights_are_those_of_its_record() -> None:
    described = tiny().describe()
    assert described["weights_sha256"] == RECORD["weights_sha256"]
    assert described["parameters"] == RECORD["parameters"] == 134_784
    assert described["backend"] == "tiny"


def test_the_record_is_of_the_current_recipe_and_language() -> None:
    assert RECORD["key"] == build_key(ArithmeticCorpus(), WarmStart())
    assert cached_build(ArithmeticCorpus(), WarmStart()) == SHIPPED


def test_the_start_answers_in_its_band() -> None:
    low, high = RECORD["recipe"]["accuracy_band"]
    assert low <= RECORD["accuracy_sampled"] <= high
    found = ArithmeticCorpus().accuracy(tiny(), probes=1024, rng=np.random.default_rng(7))
    assert 0.15 <= found <= 0.25


def test_a_build_is_cached_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPEL_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    folder = cached_build(ArithmeticCorpus(), QUICK)
    assert folder.parent == tmp_path
    stamp = (folder / BUILD_RECORD).stat().st_mtime_ns
    assert cached_build(ArithmeticCorpus(), QUICK) == folder
    assert (folder / BUILD_RECORD).stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    config = PolicyConfig(model=str(folder))
    policy = build_policy(config, device="cpu", threads=1, seed=0)
    record = json.loads((folder / BUILD_RECORD).read_text())
    assert policy.weights_sha256() == record["weights_sha256"] != RECORD["weights_sha256"]


def test_a_build_is_repeatable_and_leaves_no_random_state(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    hashes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        build_tiny(ArithmeticCorpus(), QUICK, tmp_path / name)
        hashes.append((tmp_path / name / "model.safetensors").read_bytes())
    assert hashes[0] == hashes[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_build_outside_its_band_fails_and_leaves_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setenv("CUPEL_CACHE", str(tmp_path))
    with pytest.raises(AlgorithmicFailure, match=r"outside \[0\.9, 1\.0\]"):
        cached_build(ArithmeticCorpus(), replace(QUICK, accuracy_band=(0.9, 1.0)))
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_the_recipe_makes_the_shipped_weights_again(tmp_path: Path) -> None:
    record = build_tiny(ArithmeticCorpus(), WarmStart(), tmp_path)
    same_machine = ("torch", "cpu_capability", "matmul_precision", "threads")
    if all(record[key] == RECORD[key] for key in same_machine):
        assert record["weights_sha256"] == RECORD["weights_sha256"]
        shipped = (SHIPPED / "model.safetensors").read_bytes()
        assert (tmp_path / "model.safetensors").read_bytes() == shipped
    else:
        print("another torch or CPU than the shipped build's: only its accuracy is compared")
        low, high = WarmStart().accuracy_band
        assert low <= record["accuracy_sampled"] <= high
