"""`cupel sweep` and `--lr-from`, end to end on the toy backend."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cupel.config import load_toml
from cupel.lab.run_dir import RunFolder
from tests.cli.conftest import Invoke, Shell, says_one_line

SMALL = (
    *("--backend", "toy", "--probe-steps", 8, "--eval-problems", 4, "--executor", "inline"),
    *("--sweep-root", "sw", "--probe-seeds", "7,8"),
)
RATES = ("--lr-values", "30,100,300", "--extend", 0)
AB = ("--backend", "toy", "--max-steps", 3, "--eval-problems", 4, "--campaign-root", "c")
SEED_KEYS = {
    *("sweep_root", "timestamp", "model", "probe_steps", "batch_size", "group_size"),
    *("lr_values", "algorithms", "results", "best_lr"),
}
ROW_KEYS = {
    *("algorithm", "lr", "return_code", "training_steps", "final_correct_rate"),
    *("final_running_correct_rate", "mean_loss", "total_datums", "status"),
}


def results(root: str = "sw") -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(root, "sweep_results.json").read_text())
    return data


def fake(**changed: Any) -> None:
    """Write the results of a sweep that never ran."""
    data = {
        "best_lr": {"grpo": {"lr": 30.0}, "full": {"lr": 10.0}},
        "complete": True,
        "probe_seeds": [7, 8],
        "settings": {"backend": "toy"},
    }
    Path("sw").mkdir()
    Path("sw/sweep_results.json").write_text(json.dumps(data | changed))


def test_a_sweep_runs_at_once_and_says_what_it_chose(cupel: Invoke) -> None:
    done = cupel("sweep", *SMALL, *RATES)
    assert done.exit_code == 0, done.output
    found = results()
    assert found.keys() >= SEED_KEYS
    assert len(found["results"]) == 12
    assert all(row.keys() >= ROW_KEYS | {"seed"} for row in found["results"])
    assert [row["status"] for row in found["results"]] == ["ok"] * 12
    assert {row["training_steps"] for row in found["results"]} == {8}
    assert (found["algorithms"], found["lr_values"]) == (["grpo", "full"], [30.0, 100.0, 300.0])
    assert (found["probe_steps"], found["complete"]) == (8, True)
    for algorithm, best in found["best_lr"].items():
        assert best["lr"] in found["choices"][algorithm]["within_1se"]
        assert f"{algorithm}: best lr {best['lr']!r}" in done.stdout
    for word in (
        "Algorithm",
        "LR",
        "Steps",
        "Datums",
        "Correct%",
        "Running%",
        "MeanLoss",
        "Status",
    ):
        assert word in done.stdout
    assert "Mean ± SE" in done.stdout
    assert "P(best)" in done.stdout
    assert sorted(p.name for p in Path("sw/runs").iterdir())[0] == "full_lr100.0_s7"


def test_the_printed_campaigns_are_commands_that_work(cupel: Invoke) -> None:
    facts = json.loads(cupel("sweep", *SMALL, *RATES, "--json").stdout)
    best = {name: entry["lr"] for name, entry in facts["best_lr"].items()}
    assert len(facts["next"]) == 2
    for number, line in enumerate(facts["next"]):
        words = [w for w in shlex.split(line)[1:] if w != "--execute"]
        assert cupel(*words, "--campaign-root", f"c{number}").exit_code == 0
        study = load_toml(Path(f"c{number}/study.toml"))
        assert {c["label"]: c["config"]["lr"] for c in study["conditions"]} == best
        assert study["config"]["evaluation"] == {"problems": 4}
    record = json.loads(Path("c1/manifest.json").read_text())["learning_rates_from"]
    assert record["grpo"]["lr"] == best["grpo"]
    assert record["grpo"]["source"] == "sw/sweep_results.json"
    assert record["grpo"]["probe_seeds"] == [7, 8]


def test_a_second_run_runs_nothing_and_writes_the_same(cupel: Invoke) -> None:
    first = cupel("sweep", *SMALL, "--lr-values", "30,100", "--extend", 1, "--json")
    before = Path("sw/sweep_results.json").read_bytes()
    stamps = {p: p.stat().st_mtime_ns for p in Path("sw").rglob("result.json")}
    again = cupel("sweep", *SMALL, "--lr-values", "30,100", "--extend", 1, "--json")
    assert again.exit_code == first.exit_code == 0, again.output
    assert again.stdout == first.stdout
    assert Path("sw/sweep_results.json").read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert cupel("run", "sw", "--executor", "inline").exit_code == 0
    assert Path("sw/sweep_results.json").read_bytes() == before


def test_only_the_missing_probes_are_run(cupel: Invoke) -> None:
    cupel("sweep", *SMALL, *RATES)
    rows = {p: p.read_bytes() for p in Path("sw").rglob("emergence/generations.jsonl")}
    before = results()["rates"]
    gone = Path("sw/runs/full_lr30.0_s8")
    (gone / "result.json").unlink()
    kept = {p: p.stat().st_mtime_ns for p in Path("sw").rglob("result.json")}
    assert cupel("sweep", *SMALL, *RATES).exit_code == 0
    assert (gone / "result.json").is_file()
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert {p: p.read_bytes() for p in rows} == rows
    assert results()["rates"] == before


def test_a_choice_at_the_edge_extends_the_grid_and_says_where_it_ended(cupel: Invoke) -> None:
    done = cupel("sweep", *SMALL, "--lr-values", "10,20", "--extend", 1)
    assert done.exit_code == 0, done.output
    found = results()
    assert found["lr_values"] == [10.0, 20.0]
    assert found["choices"]["grpo"]["grid"] == [10.0, 20.0, 40.0]
    assert found["choices"]["full"]["grid"] == [10.0, 20.0, 40.0]
    assert found["choices"]["full"]["edge_of_grid"] is True
    assert "warning: full: edge_of_grid" in done.stderr
    (amendment,) = json.loads(Path("sw/plan.lock").read_text())["amendments"]
    assert amendment["reason"] == "edge_of_grid: added grpo at 40.0, full at 40.0"


def crash(folder: Path, kind: Any) -> None:
    """Leave a complete probe as a crash in its last step would have left it."""
    (folder / "result.json").unlink()
    RunFolder(folder).fail(kind, "it broke")


@pytest.mark.parametrize("select", ["within_1se", "seed"])
def test_a_diverged_probe_is_a_row_and_never_wins(cupel: Invoke, select: str) -> None:
    words = (*SMALL, *RATES, "--select", select)
    cupel("sweep", *words)
    best = results()["best_lr"]["full"]["lr"]
    crash(Path(f"sw/runs/full_lr{best!r}_s7"), "algorithmic")
    done = cupel("sweep", *words)
    assert done.exit_code == 3, done.output
    found = results()
    (row,) = [r for r in found["results"] if r["status"] != "ok"]
    assert (row["lr"], row["seed"], row["return_code"], row["status"]) == (best, 7, 3, "failed")
    assert row["training_steps"] == 8
    assert row["failure"]["message"] == "it broke"
    assert found["best_lr"]["full"]["lr"] != best
    assert found["choices"]["full"]["diverged"] == [best]
    assert f"warning: full_lr{best!r}_s7 failed (algorithmic): it broke" in done.stderr


def test_a_probe_stopped_by_the_machine_is_run_again(cupel: Invoke) -> None:
    cupel("sweep", *SMALL, *RATES)
    before = results()["best_lr"]
    crash(Path("sw/runs/full_lr100.0_s7"), "infrastructure")
    assert cupel("sweep", *SMALL, *RATES).exit_code == 0
    assert results()["best_lr"] == before


def test_no_probe_survives_and_no_rate_is_invented(cupel: Invoke) -> None:
    done = cupel("sweep", *SMALL, *RATES, "--evaluation.start-band", "0.99,1.0")
    assert done.exit_code == 3, done.output
    assert results()["best_lr"] == {}
    assert {row["status"] for row in results()["results"]} == {"failed"}
    assert "grpo: no learning rate could be chosen" in done.stdout
    assert "cupel ab" not in done.stdout
    says_one_line(cupel("ab", *AB, "--lr-from", "sw"), "no learning rate was chosen for 'grpo'")


def test_one_probe_seed_is_the_best_mean_with_a_warning(cupel: Invoke) -> None:
    done = cupel("sweep", *SMALL, *RATES, "--probe-seeds", 7)
    assert done.exit_code == 0, done.output
    assert "standard error is unknown" in done.stderr
    assert (Path("sw/runs/grpo_lr30.0") / "metrics.jsonl").is_file()
    assert {rate["se"] for rate in results()["rates"]} == {None}


def test_a_custom_algorithm_is_ranked_too(cupel: Invoke) -> None:
    done = cupel("sweep", *SMALL, *RATES, "--algorithms", "maxrl+gtpo", "--json")
    facts = json.loads(done.stdout)
    assert list(facts["best_lr"]) == ["maxrl+gtpo"]
    (line,) = facts["next"]
    assert line.startswith("cupel train --advantage-mode maxrl --transform-mode gtpo --lr ")


def test_plan_runs_nothing(cupel: Invoke) -> None:
    done = cupel("sweep", *SMALL, *RATES, "--plan")
    assert done.exit_code == 0, done.output
    assert "12 runs = 6 conditions x 2 seeds" in done.stdout
    assert not list(Path("sw").rglob("metrics.jsonl"))
    assert not Path("sw/sweep_results.json").exists()
    facts = json.loads(cupel("sweep", *SMALL, *RATES, "--plan", "--json").stdout)
    assert len(facts["runs"]) == 12


def test_a_study_file_with_tuning_is_a_sweep(cupel: Invoke) -> None:
    assert cupel("init", "--template", "sweep", "s.toml").exit_code == 0
    words = ("--set", "config.backend=toy", "--set", "config.max_steps=2", "--set", "seeds=[7]")
    done = cupel("run", "s.toml", *words, "--executor", "inline", "--set", "tuning.extend=0")
    assert done.exit_code == 0, done.output
    assert set(results("results/s")["best_lr"]) == {"grpo", "full"}
    says_one_line(cupel("significance", "results/s"), "is a sweep")
    says_one_line(cupel("litmus", "results/s"), "sweep")


def test_another_sweep_in_the_same_folder_is_refused(cupel: Invoke) -> None:
    cupel("sweep", *SMALL, *RATES)
    says_one_line(cupel("sweep", *SMALL, *RATES, "--batch-size", 3), "differs from plan.lock")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--lr-values", "1e-4,x"), "'x' is not a number"),
        (("--lr-values", "1e-4,,1"), "an entry is empty"),
        (("--lr-values", "1,1.0"), "comes twice"),
        (("--probe-seeds", ""), "an entry is empty"),
        (("--probe-seeds", "1,1"), "appears twice"),
        (("--base-url", "http://x"), "--base-url"),
        (("--lora-rank", 64), "--lora-rank) with backend 'toy'"),
        (("--select", "best"), "best"),
        (("--sepa-schedule", "cosine"), "cosine"),
        (("--algorithms", "grop"), "did you mean 'grpo'"),
    ],
)
def test_bad_words_are_one_line_and_nothing_is_written(
    cupel: Invoke, words: tuple[object, ...], says: str
) -> None:
    says_one_line(cupel("sweep", *SMALL, *words), says)
    assert not Path("sw").exists()


def test_a_shared_rate_or_length_is_told_to_be_unused(cupel: Invoke) -> None:
    Path("shared.toml").write_text('lr = 5.0\nmax_steps = 50\nbackend = "toy"\n')
    done = cupel("sweep", *SMALL, *RATES, "--config", "shared.toml", "--plan")
    assert done.exit_code == 0, done.output
    assert "lr = 5.0 is not used" in done.stderr
    assert "max_steps = 50 is not used" in done.stderr
    assert load_toml(Path("sw/study.toml"))["config"]["max_steps"] == 8


def test_a_campaign_takes_the_rate_of_every_condition(cupel: Invoke) -> None:
    fake()
    words = ("--conditions", "grpo+none,maxrl+gtpo_sepa", "--seeds", "1,2")
    assert cupel("campaign", *AB, *words, "--lr-from", "sw").exit_code == 0
    study = load_toml(Path("c/study.toml"))
    assert [c["config"]["lr"] for c in study["conditions"]] == [30.0, 10.0]
    assert "learning_rates_from" in json.loads(Path("c/manifest.json").read_text())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ab", "--baseline-lr", 1.0), "--baseline-lr 1.0 and --lr-from sw both set"),
        (("ab", "--candidate-lr", 1.0), "--candidate-lr 1.0 and --lr-from sw both set"),
        (("ab", "--lr", 1.0), "--lr 1.0 and --lr-from sw both set"),
        (("ab", "--seeds", "1,8"), "triples false improvements"),
        (("ab", "--candidate", "maxrl+gtpo"), "cupel sweep --algorithms maxrl+gtpo"),
        (("campaign", "--seeds", "1"), "cupel sweep --algorithms maxrl+none"),
        (("campaign", "--conditions", "grpo,full", "--seeds", "7,1"), "probe seeds"),
    ],
)
def test_lr_from_refuses_what_would_mislead(
    cupel: Invoke, words: tuple[object, ...], says: str
) -> None:
    fake()
    says_one_line(cupel(*words, *AB, "--lr-from", "sw"), says)
    assert not Path("c").exists()


def test_lr_from_wants_a_sweep(cupel: Invoke) -> None:
    says_one_line(cupel("ab", *AB, "--lr-from", "sw"), "no sweep_results.json", "cupel sweep")
    fake(complete=False)
    says_one_line(cupel("ab", *AB, "--lr-from", "sw"), "not complete")
    Path("sw").rename("sw_20260101_120000")
    says_one_line(cupel("ab", *AB, "--lr-from", "sw"), "did you mean sw_20260101_120000?")


def test_an_interrupted_sweep_keeps_its_results_and_goes_on(shell: Shell, tmp_path: Path) -> None:
    words = [str(w) for w in (*SMALL, *RATES, "--probe-steps", 60, "--algorithms", "grpo")]
    file = tmp_path / "sw/sweep_results.json"

    def statuses() -> list[str]:
        return [row["status"] for row in json.loads(file.read_text())["results"]]

    process = subprocess.Popen(
        [sys.executable, "-m", "cupel", "sweep", *words],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not file.is_file() or statuses().count("ok") < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "continue with: cupel run sw" in stderr
    half = json.loads(file.read_text())
    assert half["complete"] is False
    assert "incomplete" in statuses()
    assert half["best_lr"].keys() <= {"grpo", "full"}
    again = shell("sweep", *words)
    assert again.returncode == 0, again.stderr
    assert json.loads(file.read_text())["complete"] is True
    assert set(statuses()) == {"ok"}


def test_finished_probes_without_a_score_choose_nothing_and_exit_with_1(cupel: Invoke) -> None:
    cupel("init", "--template", "sweep", "s.toml")
    words = ("--set", "config.backend=toy", "--set", "config.max_steps=2", "--set", "seeds=[7]")
    done = cupel("run", "s.toml", *words, "--executor", "inline", "--set", "endpoint.metric=nope")
    assert done.exit_code == 1, done.output
    assert results("results/s")["best_lr"] == {}
    assert "no value of the grid could be scored" in done.stderr


def test_a_probe_too_short_for_its_schedule_is_told(cupel: Invoke) -> None:
    words = ("--sepa-steps", 100, "--sepa-delay-steps", 10, "--probe-steps", 20, "--plan")
    done = cupel("sweep", *SMALL, *RATES, *words)
    assert "warning: sepa_lambda reaches only 0.09 by step 19" in done.stderr


def test_each_arm_may_come_from_a_sweep_of_its_own(cupel: Invoke) -> None:
    fake(best_lr={"grpo": {"lr": 30.0}})
    Path("sw").rename("first")
    fake(best_lr={"full": {"lr": 10.0}}, probe_seeds=[9])
    done = cupel("ab", *AB, "--lr-from", "first", "--lr-from", "sw")
    assert done.exit_code == 0, done.output
    assert "warning: the arms were tuned on different probe seeds" in done.stderr
    study = load_toml(Path("c/study.toml"))
    assert {c["label"]: c["config"]["lr"] for c in study["conditions"]} == {"grpo": 30, "full": 10}
    says_one_line(cupel("ab", *AB, "--lr-from", "sw", "--lr-from", "sw"), "both tuned")
