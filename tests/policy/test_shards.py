"""A policy whose layers are divided over two processes, beside one that each holds whole."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from cupel.errors import ConfigError
from cupel.policy import PolicyConfig, build_policy
from tests.gsm8k_bed import save_model

CASES = ("float32", "bfloat16", "recomputed", "adapters")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in two processes; the 37 rows of an MLP's matrix do not divide evenly."""
    if importlib.util.find_spec("peft") is None:
        pytest.skip("needs the extra 'lora'")
    root = tmp_path_factory.mktemp("shards")
    save_model(root / "model", width=24, layers=2, vocabulary=300, spread=0.15, ends=6.0, inner=37)
    program = ROOT / "tests" / "policy" / "shard_program.py"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(program), str(root / "model"), str(root)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return root


@pytest.fixture(scope="module")
def said(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What each process said of each case."""
    found: dict[str, list[dict[str, Any]]] = json.loads((folder / "said.json").read_text())
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_divided_policy_draws_scores_and_steps_as_a_whole_one(
    said: dict[str, Any], folder: Path, case: str
) -> None:
    first = said[case][0]
    whole, divided = first["whole"], first["divided"]
    assert divided["start"] == whole["start"]
    assert divided["tokens"] == whole["tokens"]
    assert len(set(divided["lengths"])) > 2
    assert divided["updates"][0]["after"] != divided["updates"][0]["before"]
    half = case == "bfloat16"  # a gradient near 0 may round to either side, and AdamW takes a step
    for update, same in zip(divided["updates"], whole["updates"], strict=True):
        assert update == pytest.approx(same, rel=2e-2 if half else 1e-3)
    np.testing.assert_allclose(divided["reference"], whole["reference"], atol=1e-4)
    names = {path.name for path in (folder / case / "whole").iterdir()}
    assert names == {path.name for path in (folder / case / "divided").iterdir()}
    for name in (name for name in names if name.endswith(".safetensors")):
        ours, theirs = (load_file(folder / case / kind / name) for kind in ("divided", "whole"))
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value.dtype == theirs[key].dtype
            np.testing.assert_allclose(
                value.float().numpy(),
                theirs[key].float().numpy(),
                atol=5e-3 if half else 1e-4,
                err_msg=key,
            )


@pytest.mark.parametrize("case", CASES)
def test_each_process_holds_a_part_of_every_layer(said: dict[str, Any], case: str) -> None:
    held = [process["divided"]["numel"] for process in said[case]]
    _, layers, rest = held[0]
    assert layers > 2 * (3 * 24 * 24 + 3 * 24 * 37)
    assert sum(own for own, _, _ in held) == layers
    assert max(own for own, _, _ in held) < 0.52 * layers
    assert said[case][0]["whole"]["numel"] == [layers, layers, rest]


@pytest.mark.parametrize("case", CASES)
def test_a_failure_in_one_process_leaves_all_parts(said: dict[str, Any], case: str) -> None:
    for process in said[case]:
        divided = process["divided"]
        assert divided["failure"] == "update: an advantage is not finite (process 0)"
        assert divided["after_failure"] == divided["start"]


@pytest.mark.parametrize("case", CASES)
def test_what_one_layout_saved_the_other_continues(said: dict[str, Any], case: str) -> None:
    for process in said[case]:
        for reader, writer in (("whole", "divided"), ("divided", "whole"), ("divided", "divided")):
            told = process[f"{reader}_from_{writer}"]
            assert told["end"] == process[writer]["end"]
            assert told["again"] == pytest.approx(process[writer]["again"], rel=1e-2)
        assert told["resumed_end"] == process["divided"]["resumed_end"] != told["end"]


def test_where_layers_cannot_be_divided_it_is_said() -> None:
    config = PolicyConfig(backend="tiny", shard="layers")
    with pytest.raises(ConfigError, match=r"shard = 'layers' in one process.*torchrun"):
        build_policy(config, device="cpu", threads=1, seed=0)
    with pytest.raises(ValueError, match="compile with shard"):
        PolicyConfig(backend="tiny", shard="layers", compile=True)
    for backend in ("toy", "openai"):
        with pytest.raises(ValueError, match=f"'layers' with backend '{backend}'"):
            PolicyConfig.model_validate({"backend": backend, "shard": "layers"})
