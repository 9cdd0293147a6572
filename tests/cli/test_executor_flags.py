"""The executor flags: read by the executor they belong to, refused by the others."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from cupel.cli.doctor import check_executors
from tests.cli.conftest import Invoke, Shell, says_one_line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--address", "auto"], "--address belongs to --executor ray, not to processes"),
        (["--executor", "ray", "--no-wait"], "--no-wait belongs to --executor slurm"),
        (["--cpus-per-run", "2"], "--cpus-per-run belongs to --executor torchrun, ray or slurm"),
        (["--executor", "slurm", "--slurm", "gpu"], "write KEY=VALUE"),
        (["--executor", "slurm", "--gpus-per-run", "0.5"], "Slurm grants whole ones only"),
        (["--executor", "ray", "--cpus-per-run", "0"], "needs more than none"),
        (["--executor", "ray", "--gpus-per-run", "1.5"], "a part of one GPU, or whole ones"),
    ],
)
def test_a_flag_that_nobody_would_read_is_refused(
    cupel: Invoke, words: list[str], says: str
) -> None:
    cupel("init", "--template", "quickstart")
    says_one_line(cupel("run", "quickstart.toml", *words), says)
    assert not Path("results").exists()


def test_a_recipe_for_one_process_is_refused_before_anything_is_planned(cupel: Invoke) -> None:
    Path("one.toml").write_text(
        'name = "one"\nrecipe = "arc.evaluate"\nseeds = [1]\n[[conditions]]\nlabel = "only"\n'
    )
    says_one_line(
        cupel("run", "one.toml", "--executor", "torchrun"),
        "recipe 'arc.evaluate' runs in one process, not in 2",
    )
    assert not Path("results").exists()


def test_an_address_without_a_cluster_is_one_line(cupel: Invoke) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    cupel("init", "--template", "quickstart")
    result = cupel(
        "run", "quickstart.toml", "--executor", "ray", "--address", "127.0.0.1:1", "--json"
    )
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("cupel: --address 127.0.0.1:1: nothing")


def test_a_single_run_takes_no_cluster(cupel: Invoke) -> None:
    cupel("train", "--backend", "toy", "--max-steps", "1", "--log-dir", "run")
    says_one_line(cupel("resume", "run", "--executor", "slurm"), "--executor slurm takes a study")


def test_doctor_says_which_executors_can_run_here() -> None:
    checks = {check.name: check for check in check_executors()}
    assert [checks[f"executor {name}"].status for name in ("inline", "processes")] == ["ok", "ok"]
    assert {"executor ray", "executor slurm"} <= checks.keys()


@pytest.mark.slow
def test_jobs_that_were_only_submitted_run_on_alone_and_are_judged_later(
    shell: Shell, tmp_path: Path
) -> None:
    pytest.importorskip("submitit", reason="the extra 'slurm' is not installed")
    shell("init", "--template", "quickstart")
    toy = ("config.backend=toy", "config.evaluation.problems=4", "config.max_steps=2")
    words = [word for setting in (*toy, "seeds=[1,2]") for word in ("--set", setting)]
    slurm = ["--executor", "slurm", "--slurm", "cluster=local"]
    done = shell("run", "quickstart.toml", *words, *slurm, "--no-wait", "--no-figures")
    assert done.returncode == 0, done.stderr
    assert "submitted; cupel status" in done.stderr
    folder = next((tmp_path / "results").iterdir())
    assert len(json.loads((folder / "slurm" / "jobs.json").read_text())["jobs"]) == 4
    deadline = time.monotonic() + 120
    while len(list(folder.glob("runs/*/result.json"))) < 4:
        assert time.monotonic() < deadline, "the jobs did not end"
        time.sleep(0.2)
    done = shell("run", str(folder), *slurm, "--no-figures", "--json")
    assert done.returncode == 0, done.stderr
    attempts = [json.loads(p.read_text())["attempts"] for p in folder.glob("runs/*/run.json")]
    assert attempts == [1, 1, 1, 1]
