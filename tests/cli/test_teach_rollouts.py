"""Phase 0 from the command line, by the documented flags, from rollouts to recoveries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke, says_one_line

UNIFORM = ("--model-path", "uniform", "--mock-env")


def mine_ready(cupel: Invoke) -> None:
    result = cupel(
        "teach", "rollouts", *UNIFORM, "--n-tasks", 20, "--max-steps", 10, "--output",
        "p/rollouts.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output


def test_experiment_a_by_the_documented_flags(cupel: Invoke) -> None:
    result = cupel(
        "teach", "rollouts", *UNIFORM, "--n-tasks", 20, "--max-steps", 10, "--seed", 3,
        "--collect-all", "--output", "p/rollouts.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "--mock-env: the built-in shop" in result.stderr
    assert "success_rate" in result.stdout
    document = json.loads(Path("p/rollouts.json").read_text())
    assert document["config"]["max_steps"] == 10
    assert document["config"]["seed"] == 3
    assert document["config"]["collect_all"] is True
    result = cupel(
        "teach", "mine", "--rollouts", "p/rollouts.json", "--output", "p/failure_snapshots.json",
        "--max-snapshots", 30,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = json.loads(Path("p/failure_snapshots.json").read_text())
    assert 0 < len(rows) <= 30
    result = cupel(
        "teach", "recover", "--snapshots", "p/failure_snapshots.json", "--max-steps", 10,
        "--output", "p/recovery_trajectories.jsonl", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["values"]["successes"] == len(rows)


def test_experiment_b_by_the_documented_flags(cupel: Invoke) -> None:
    result = cupel(
        "teach", "expert", "--n-tasks", 8, "--output-dir", "p/expert", "--teacher-model", "gpt-4o"
    )
    assert result.exit_code == 0, result.output
    assert "no model is called" in result.stderr
    (file,) = Path("p/expert").glob("all_trajectories_*.json")
    for pattern, output in ((str(file), "b.json"), ("p/expert/all_trajectories_*.json", "c.json")):
        result = cupel(
            "teach", "sample", "--expert-trajectories", pattern, "--sample-rate", 0.5,
            "--require-env-state", "--output", output,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
    assert Path("b.json").read_bytes() == Path("c.json").read_bytes()
    rows = json.loads(Path("b.json").read_text())
    assert {row["trajectory_outcome"] for row in rows} == {"success"}


def test_one_offset_and_the_older_names_of_flags(cupel: Invoke) -> None:
    mine_ready(cupel)
    mine = ("teach", "mine", "--rollouts", "p/rollouts")
    result = cupel(*mine, "--k", 3, "--max", 7, "--output", "k.json", "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)["values"]
    assert values["n_snapshots"] == 7
    assert not any(name in values for name in ("offsets_5", "offsets_8"))
    result = cupel(*mine, "--offsets", "-1,0", "--output", "after.json", "--json")
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)["values"]) >= {"offsets_-1", "offsets_0"}


def test_the_same_command_again_runs_nothing_and_another_is_refused(cupel: Invoke) -> None:
    mine_ready(cupel)
    before = Path("p/rollouts/episodes.jsonl").stat()
    Path("p/rollouts.json").unlink()
    mine_ready(cupel)
    assert Path("p/rollouts/episodes.jsonl").stat().st_mtime_ns == before.st_mtime_ns
    assert Path("p/rollouts.json").is_file()
    other = cupel("teach", "rollouts", *UNIFORM, "--n-tasks", 21, "--output", "p/rollouts.json")
    assert other.exit_code == 2
    assert "holds another run" in other.stderr.splitlines()[-1]


def test_tasks_by_name(cupel: Invoke) -> None:
    Path("tasks.json").write_text('["shop-000003", 5]')
    for given, output in (("shop-000003,5", "a.json"), ("tasks.json", "b.json")):
        result = cupel("teach", "rollouts", *UNIFORM, "--task-ids", given, "--output", output)
        assert result.exit_code == 0, result.output
    results = json.loads(Path("a.json").read_text())["results"]
    assert [row["task_id"] for row in results] == ["shop-000003", "shop-000005"]
    assert Path("a/episodes.jsonl").read_bytes() == Path("b/episodes.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("rollouts", "--mock-env", "--environment", "babyai"), ["contradicts --environment"]),
        (("rollouts", "--output", "folder"), ["give a file", "folder.json"]),
        (("rollouts", "--task-ids", "a,b"), ["'a' is no task", "shop-000003"]),
        (("rollouts", "--task-ids", "none.json"), ["none.json: cannot be read"]),
        (("rollouts", "--environment", "sho"), ["environment.name", "'shop'"]),
        (("rollouts", "--temperature", "-1"), ["--temperature"]),
        (("mine", "--rollouts", "r.json", "--k", 3, "--offsets", "0,1"), ["one of the two"]),
        (("mine", "--rollouts", "r.json", "--offsets", "0,x"), ["'x' is not a number of steps"]),
        (("sample", "--expert-trajectories", "none_*.json"), ["none_*.json: no such file"]),
        (("recover",), ["--labeled or --snapshots"]),
        (("recover", "--snapshots", "none.json"), ["none.json: no such file"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(cupel: Invoke, words: tuple[object, ...], parts: list[str]) -> None:
    says_one_line(cupel("teach", *words), *parts)


def test_a_missing_rollouts_file_is_named(cupel: Invoke) -> None:
    result = cupel("teach", "mine", "--rollouts", "none.json", "--output", "f.json")
    assert result.exit_code == 2
    assert "none.json: no such file" in result.stderr.splitlines()[-1]
    assert not Path("f.json").exists()


@pytest.mark.parametrize("name", ["rollouts", "mine", "expert", "sample", "recover"])
def test_every_help_has_an_example(cupel: Invoke, name: str) -> None:
    result = cupel("teach", name, "--help")
    assert result.exit_code == 0
    assert f"cupel teach {name}" in result.stdout
    assert "Examples:" in result.stdout
