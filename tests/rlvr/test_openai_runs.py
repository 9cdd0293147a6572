"""Runs whose completions come from a server: trained to the end, stopped by it, and continued."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("openai")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="needs the extra 'lora'"
)

from cupel.cli.app import program  # noqa: E402
from cupel.errors import PlanError  # noqa: E402
from cupel.lab import RunFolder, execute_run, load_recipe, plan_run  # noqa: E402
from cupel.rlvr.config import TrainConfig  # noqa: E402
from cupel.rlvr.forecast import forecast  # noqa: E402
from tests.gsm8k_bed import SOURCE, save_model, write_gsm8k  # noqa: E402
from tests.policy.sampling_server import SamplingServer  # noqa: E402
from tests.rlvr.toy_runs import Ran, toy_run  # noqa: E402


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of a run on a small model and word problems, without those of a server."""
    root = tmp_path_factory.mktemp("bed")
    save_model(root / "model", width=32, layers=2, vocabulary=300, spread=0.15, ends=6.0)
    write_gsm8k(root / "problems.jsonl", 40)
    return {
        "model": str(root / "model"),
        "max_steps": 3,
        "batch_size": 2,
        "group_size": 4,
        "max_tokens": 16,
        "temperature": 1.0,
        "lr": 1e-2,
        "save_every": 1,
        "problems": {**SOURCE, "path": str(root / "problems.jsonl"), "grading": "string"},
        "evaluation": {"problems": 2, "greedy": True, "every": 100},
        # an untrained model solves nothing, and a batch baseline learns from lengths alone
        "advantage_mode": "reinforce_pp",
        "overlong_buffer_rate": 1.0,
        "transform_mode": "gtpo",
    }


@pytest.fixture
def server(bed: dict[str, Any]) -> Iterator[SamplingServer]:
    started = SamplingServer(Path(bed["model"]))
    yield started
    started.close()


def settings_at(url: str, folder: Path, bed: dict[str, Any], **changes: Any) -> dict[str, Any]:
    openai = {
        "base_url": url,
        "served_model": "base",
        "adapter_dir": str(folder / "adapters"),
        "backoff_s": 0.01,
        "retries": 1,
        **changes.pop("openai", {}),
    }
    policy = {"lora": {"rank": 4}, "openai": openai, **changes.pop("policy", {})}
    return {**bed, "backend": "openai", "policy": policy, **changes}


def server_run(server: SamplingServer, folder: Path, bed: dict[str, Any], **changes: Any) -> Ran:
    return toy_run(folder / "run", **settings_at(server.url, folder, bed, **changes))


def test_three_steps_on_policy_with_the_sampler_correction_on(
    tmp_path: Path, bed: dict[str, Any], server: SamplingServer
) -> None:
    ran = server_run(server, tmp_path, bed, loss={"sampler_correction": "truncate"})
    assert ran.state["status"] == "done", ran.state["failure"]
    assert [row["status"] for row in ran.steps] == ["trained"] * 3
    for row in ran.steps:
        assert abs(row["sampler_kl"]) < 1e-6
        assert row["sampler_ratio_mean"] == pytest.approx(1, abs=1e-4)
        assert row["sampler_truncated_rate"] == 0
    versions = {body["model"].rpartition("-")[2] for body in server.sampled()}
    assert versions == {"0", "1", "2", "3"}
    found = evaluation_of(tmp_path, ran)
    assert found.evaluations[0]["weights_sha256"] == ran.result["weights_sha256"]


def evaluation_of(folder: Path, ran: Ran) -> Ran:
    """Evaluate the last checkpoint, here and without the server."""
    recipe = "cupel.rlvr.evaluation_recipe:RECIPE"
    passed = {"checkpoint": str(ran.folder)}
    spec = plan_run(load_recipe(recipe), recipe, passed=passed, seed=1, condition="e")
    RunFolder(folder / "e").create(spec)
    assert execute_run(folder / "e", fsync=False) == "done", RunFolder(folder / "e").state()
    return Ran(folder=folder / "e")


def test_back_pressure_sets_the_requests_in_flight_and_leaves_the_run_alone(
    tmp_path: Path, bed: dict[str, Any], server: SamplingServer
) -> None:
    longer = {"max_steps": 5, "batch_size": 4, "save_every": 0}
    plain = server_run(server, tmp_path / "plain", bed, **longer)
    server.most_under_way, server.slow_s = 0, 0.02
    swept = {"enabled": True, "warmup_steps": 3}
    pressed = server_run(server, tmp_path / "pressed", bed, **longer, backpressure=swept)
    assert pressed.state["status"] == "done", pressed.state["failure"]
    assert [row["bp_concurrency"] for row in pressed.steps][:4] == [4, 4, 8, 16]
    assert 8 < server.most_under_way <= 16
    assert [row["loss"] for row in pressed.steps] == [row["loss"] for row in plain.steps]


def test_the_correction_weighs_what_the_server_really_drew_from(
    tmp_path: Path, bed: dict[str, Any], server: SamplingServer
) -> None:
    ran = server_run(
        server,
        tmp_path,
        bed,
        temperature=0.5,
        loss={"sampler_correction": "truncate", "sampler_cap": 1.2},
    )
    assert ran.state["status"] == "done", ran.state["failure"]
    assert all(row["sampler_kl"] > 1e-3 for row in ran.steps)
    assert all(0 < row["sampler_truncated_rate"] < 1 for row in ran.steps)


def test_a_trainer_that_rounds_otherwise_is_not_taken_for_stale(
    tmp_path: Path, bed: dict[str, Any], server: SamplingServer
) -> None:
    ran = server_run(server, tmp_path, bed, lr=1e-3, policy={"dtype": "bfloat16"})
    assert ran.state["status"] == "done", ran.state["failure"]
    for row in ran.steps:
        assert 0 < row["sampler_kl"] < 1e-3
        assert row["sampler_ratio_mean"] == pytest.approx(1, abs=0.02)


def test_stale_weights_stop_the_run_and_a_mended_server_continues_it(
    tmp_path: Path, bed: dict[str, Any], server: SamplingServer
) -> None:
    server.faults.add("stale")
    ran = server_run(server, tmp_path, bed)
    assert ran.state["status"] == "failed"
    failure = ran.state["failure"]
    assert failure["kind"] == "infrastructure"
    assert "stale" in failure["message"]
    assert len(ran.steps) == 1
    server.faults.clear()
    assert execute_run(ran.folder, fsync=False) == "done"
    assert [row["step"] for row in ran.steps] == [0, 1, 2]


def test_a_lost_completion_is_no_wrong_answer(
    tmp_path: Path, bed: dict[str, Any], server: SamplingServer
) -> None:
    ran = server_run(server, tmp_path, bed, max_steps=1)
    assert ran.state["status"] == "done", ran.state["failure"]
    server.turned_away = [200] * 14 + [500] * 50  # 8 trials, 4 of the evaluation, 2 of step 0
    lost = server_run(server, tmp_path / "lost", bed, max_steps=1)
    assert lost.state["failure"]["kind"] == "infrastructure"
    assert "failed calls" in lost.state["failure"]["message"]
    assert lost.steps == []


def test_the_command_line_reaches_the_server_or_says_why_not(
    tmp_path: Path,
    bed: dict[str, Any],
    server: SamplingServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    problems = [
        word
        for key, value in bed["problems"].items()
        for word in (f"--problems.{key.replace('_', '-')}", value)
    ]

    def train(url: str, *words: object) -> Any:
        flags = [
            *("--backend", "openai", "--model", bed["model"], "--base-url", url, "--lora-rank", 4),
            *("--policy.openai.served-model", "base", "--policy.openai.adapter-dir", "adapters"),
            *("--policy.openai.retries", 0, "--max-steps", 1, "--batch-size", 2),
            *("--group-size", 4, "--max-tokens", 8, "--temperature", 1, "--eval-problems", 2),
        ]
        line = ["train", *flags, *problems, *words]
        return CliRunner().invoke(program, [str(word) for word in line])

    done = train(server.url, "--log-dir", "done")
    assert done.exit_code == 0, done.output
    for number, (url, words, says) in enumerate(
        (
            ("http://127.0.0.1:9/v1", (), "http://127.0.0.1:9/v1/models: 1 failed calls"),
            (server.url, ("--policy.openai.served-model", "x"), "serves no model 'x'"),
            (server.url, ("--policy.openai.api-key-variable", "CUPEL_NONE"), "holds no key"),
        )
    ):
        refused = train(url, *words, "--log-dir", f"refused{number}")
        assert refused.exit_code == 2, refused.output
        assert says in refused.stderr
        *_, last = lines = refused.stderr.strip().splitlines()
        assert [line for line in lines if line.startswith("cupel:")] == [last]
    answerless = train("", "--log-dir", "none")
    assert answerless.exit_code == 2
    assert "no address" in answerless.stderr


def test_the_plan_says_what_a_server_means(tmp_path: Path, bed: dict[str, Any]) -> None:
    at = settings_at("http://localhost:8000/v1", tmp_path, bed)
    plain = TrainConfig(**at)
    assert (plain.gate_tolerance, plain.update_tolerance) == (0.05, 1e-4)
    assert any("in distribution" in note for note in forecast(plain).notes)
    warm = TrainConfig(**{**at, "temperature": 0.7})
    assert any("processed_logprobs" in note for note in forecast(warm).notes)
    sglang = settings_at("http://x:1", tmp_path, bed, top_p=0.9, openai={"flavour": "sglang"})
    with pytest.raises(PlanError, match="Use top_p = 1"):
        forecast(TrainConfig(**sglang))
