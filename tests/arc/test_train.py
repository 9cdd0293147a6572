"""Training holds what its record says: same bytes after a kill, one model over two processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from arc_runs import Settings, finished, plan, run, weights

from cupel.arc.checkpoints import WEIGHTS
from cupel.arc.config import ArcTrainConfig
from cupel.arc.trained import open_trained
from cupel.config import validate
from cupel.errors import ConfigError
from cupel.lab import differing_streams, read_run
from cupel.lab.run_dir import RunFolder
from cupel.lab.store import read_jsonl


def test_a_run_writes_rows_evaluations_gates_and_a_checkpoint(
    tmp_path: Path, settings: Settings
) -> None:
    values = finished(tmp_path / "run", settings(evaluate_heldout=True))
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [5, 10, 12]
    assert all(row["train/count"] == 4 and row["gradient_coverage"] == 1 for row in rows)
    assert sum(row["em_at_halt_n"] for row in rows) == 16  # 4 slots, forced out every 3 of 12 steps
    evaluations = read_jsonl(tmp_path / "run" / "evaluations.jsonl")
    assert [row["step"] for row in evaluations] == [6, 12]
    assert evaluations[-1]["items"] == 16
    assert evaluations[-1]["context_gain_n"] == 16
    assert evaluations[-1]["heldout_items"] == 3
    assert evaluations[-1]["weights"] == "ema"
    assert "em_at_2" in evaluations[-1]
    assert "em_at_4" not in evaluations[-1]  # beyond halt_max_steps
    gates = json.loads((tmp_path / "run" / "gates.json").read_text())
    assert gates["criterion_1"]["passed"] is False
    assert gates["criterion_2"]["passed"] is (evaluations[-1]["heldout_em_at_halt"] >= 0.05)
    assert values["steps"] == open_trained(tmp_path / "run").step == 12
    assert len(read_jsonl(tmp_path / "run" / "predictions.jsonl")) == 2 * 4


def test_a_run_killed_at_any_update_ends_with_the_same_bytes(
    tmp_path: Path, settings: Settings
) -> None:
    passed = settings(max_steps=40, save_every=3, encoder={"kind": "recurrent", "num_layers": 1})
    unbroken = finished(tmp_path / "unbroken", passed)
    plan(tmp_path / "broken", passed)
    code = f"from cupel.lab.worker import execute_run; execute_run({str(tmp_path / 'broken')!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "broken" / "checkpoints").glob("step_0*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    assert not RunFolder(tmp_path / "broken").is_complete
    assert finished(tmp_path / "broken", passed) == unbroken
    assert differing_streams(tmp_path / "broken", tmp_path / "unbroken") == []
    for which in ("raw", "ema"):
        ours, theirs = weights(tmp_path / "broken", which), weights(tmp_path / "unbroken", which)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    tmp_path: Path, settings: Settings
) -> None:
    one, again, _ = (
        finished(tmp_path / name, settings(max_steps=6), seed)
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert one == again
    assert differing_streams(tmp_path / "one", tmp_path / "again") == []
    different = weights(tmp_path / "one"), weights(tmp_path / "other")
    assert any(not torch.equal(different[0][name], different[1][name]) for name in different[0])


@pytest.mark.parametrize(
    ("setting", "frozen"), [("freeze_decoder_steps", "core."), ("freeze_encoder_steps", "encoder.")]
)
def test_exactly_the_unfrozen_part_moves(
    tmp_path: Path, settings: Settings, setting: str, frozen: str
) -> None:
    def after(steps: int, freeze: int) -> dict[str, torch.Tensor]:
        name = f"{setting}{steps}_{freeze}"
        passed = settings(max_steps=steps, lr_warmup_steps=0, **{setting: freeze})
        finished(tmp_path / name, passed)
        return weights(tmp_path / name)

    def moved(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
        return {name for name in one if not torch.equal(one[name], other[name])}

    first, later, thawed = after(1, 9), after(3, 9), after(3, 1)
    buffers = {"core.H_init", "core.L_init"}
    assert moved(first, later) == {name for name in first if not name.startswith(frozen)} - buffers
    assert {name for name in moved(first, thawed) if name.startswith(frozen)} == {
        name for name in first if name.startswith(frozen)
    } - buffers
    row = read_jsonl(tmp_path / f"{setting}3_9" / "metrics.jsonl")[-1]
    part = "decoder" if frozen == "core." else "encoder"
    assert row[f"train/{part}_frozen"] == 1
    assert row["update/inner_ratio" if part == "decoder" else "update/encoder_ratio"] == 0


def test_weights_that_are_no_numbers_stop_the_run_with_a_reason(
    tmp_path: Path, settings: Settings
) -> None:
    state = run(tmp_path / "run", settings(lr=1e30, lr_warmup_steps=0)).state()
    assert state["failure"]["kind"] == "algorithmic"
    assert "nan" in state["failure"]["message"] or "inf" in state["failure"]["message"]


def test_a_starved_encoder_stops_the_run_when_asked_and_warns_otherwise(
    tmp_path: Path, settings: Settings
) -> None:
    starved = {"encoder_norm_starved": 1e9, "patience_steps": 4}
    passed = settings(health=starved, log_every=2, stop_when_unhealthy="stop")
    failure = run(tmp_path / "stop", passed).state()["failure"]
    assert failure["kind"] == "algorithmic"
    assert "step 6: grad/encoder_norm" in failure["message"]
    assert "starved" in failure["message"]
    finished(tmp_path / "warn", settings(health=starved, log_every=2))
    events = (tmp_path / "warn" / "events.jsonl").read_text()
    assert "health stop" in events


def test_without_average_the_weights_themselves_are_evaluated(
    tmp_path: Path, settings: Settings
) -> None:
    finished(tmp_path / "run", settings(ema=False, max_steps=3))
    assert read_jsonl(tmp_path / "run" / "evaluations.jsonl")[-1]["weights"] == "raw"
    assert torch.load(open_trained(tmp_path / "run").folder / WEIGHTS)["ema"] is None


def test_a_decoder_is_taken_over_and_the_run_is_labelled(
    tmp_path: Path, settings: Settings
) -> None:
    finished(tmp_path / "first", settings(max_steps=3))
    checkpoint = open_trained(tmp_path / "first").folder
    passed = settings(
        max_steps=1,
        load_pretrained_decoder=str(checkpoint),
        pretrained_decoder_weights="raw",
        freeze_decoder_steps=9,
    )
    values = finished(tmp_path / "second", passed)
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.equal(first[n], second[n]) for n in first if n.startswith("core."))
    assert values["contamination"] == "unknown"


def test_a_learned_embedding_gets_a_row_a_puzzle(tmp_path: Path, settings: Settings) -> None:
    passed = settings(
        encoder={"kind": "embedding"}, train_on_heldout_demos=True, evaluate_heldout=True
    )
    values = finished(tmp_path / "run", passed)
    assert open_trained(tmp_path / "run").config.encoder.num_puzzles == 7
    assert values["contamination"] == "contaminated"


def test_several_sides_are_trained_in_one_run(tmp_path: Path, settings: Settings) -> None:
    finished(
        tmp_path / "run",
        settings(items={"sides": [3, 4]}, source=_mixed(tmp_path, settings), max_steps=24),
    )
    row = read_jsonl(tmp_path / "run" / "metrics.jsonl")[-1]
    assert row["epoch"] > 0  # of the side that is least far


def _mixed(tmp_path: Path, settings: Settings) -> dict[str, Any]:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, size in enumerate((3, 3, 4)):
        rng = np.random.default_rng(number)
        grids = rng.integers(0, 10, (4, size, size)).tolist()
        pairs = [{"input": grid, "output": grid[::-1]} for grid in grids]
        task = {"train": pairs[:3], "test": pairs[3:]}
        (folder / f"mixed{number}.json").write_text(json.dumps(task))
    return {**settings()["source"], "train": [f"folder:{folder}"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grad_clip_norm": 0.0}, "greater than 0"),
        ({"max_side": None}, "grids up to 30"),
        ({"grad_clip": 1.0}, "did you mean 'grad_clip_norm'"),
        ({"evaluate_heldout": True, "encoder": {"kind": "embedding"}}, "no embedding"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    settings: Settings, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        validate(ArcTrainConfig, settings(**changes), where="settings")


def train_together(script: Path, folder: Path, passed: dict[str, Any]) -> None:
    code = (
        "import json, sys; from pathlib import Path; from cupel.arc.launch import launch\n"
        "sys.exit(launch(json.loads(sys.argv[2]), folder=Path(sys.argv[1]), seed=0) != 'done')"
    )
    script.write_text(code)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"),
        *(str(script), str(folder), json.dumps(passed)),
    ]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_two_processes_train_what_one_would_and_go_on_where_they_stopped(
    tmp_path: Path, settings: Settings
) -> None:
    passed = settings(max_steps=8, halt_exploration_prob=0.9, evaluate_heldout=True)
    alone = finished(tmp_path / "alone", passed)
    train_together(tmp_path / "together.py", tmp_path / "together", passed)
    together = read_run(tmp_path / "together").result
    assert together is not None
    for name, value in alone.items():
        assert together["values"][name] == pytest.approx(value, abs=1e-4), name
    ours, theirs = weights(tmp_path / "together"), weights(tmp_path / "alone")
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-3)
    rows = [read_jsonl(tmp_path / name / "metrics.jsonl")[0] for name in ("alone", "together")]
    for key in ("train/count", "loss", "grad/total_norm", "em_at_halt_n", "train/steps"):
        assert rows[0][key] == pytest.approx(rows[1][key], rel=1e-3), key

    shutil.copytree(tmp_path / "together", tmp_path / "again")
    (tmp_path / "again" / "result.json").unlink()
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step_000008")
    train_together(tmp_path / "together.py", tmp_path / "again", passed)
    assert differing_streams(tmp_path / "again", tmp_path / "together") == []
