"""A run that trains adapters, killed with SIGKILL at random moments, ends in the same bytes."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest

from tests.e2e.program import succeed
from tests.e2e.test_kill_and_resume import (
    assert_kills_landed,
    assert_unbroken,
    kill_again_and_again,
)

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="needs the extra 'lora'"
)


@pytest.mark.slow
def test_an_adapter_run_killed_six_times(tmp_path: Path) -> None:
    from tests.gsm8k_bed import SOURCE, save_model, write_gsm8k

    save_model(tmp_path / "model", width=32, layers=2, vocabulary=300, spread=0.15, ends=6.0)
    write_gsm8k(tmp_path / "problems.jsonl", 40)
    problems = {**SOURCE, "path": "problems.jsonl", "grading": "string"}
    line = (
        *("train", "--backend", "torch", "--model", "./model", "--lora-rank", "4"),
        *("--max-steps", "40", "--batch-size", "2", "--group-size", "4", "--max-tokens", "16"),
        *("--save-every", "2", "--lr", "1e-3", "--lr-schedule", "cosine"),
        *("--lr-warmup-steps", "4", "--advantage-mode", "reinforce_pp"),
        *("--overlong-buffer-rate", "1", "--transform-mode", "gtpo", "--loss.kl-coef", "0.1"),
        *("--eval-problems", "2", "--eval-every", "100"),
        *(f"--problems.{key.replace('_', '-')}={value}" for key, value in problems.items()),
    )
    succeed(tmp_path, *line, "--log-dir", "whole")
    seed = random.SystemRandom().randrange(10_000)
    hits = kill_again_and_again(tmp_path, tmp_path / "whole", line, kills=6, seed=seed)
    assert_kills_landed(hits)
    assert_unbroken(tmp_path / "broken", tmp_path / "whole")
