"""The Tinker backend from the command line, as far as no server is needed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from cupel.config import load_toml, merge
from tests.cli.conftest import Invoke, says_one_line

pytest.importorskip("tinker")
AB = ("ab", "--backend", "tinker", "--problems.source", "arithmetic", "--campaign-root", "c")
KEY = "TINKER_API_KEY"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no key in the environment."""
    monkeypatch.delenv(KEY, raising=False)


def manifest() -> dict[str, Any]:
    """Read the manifest of the study in `c`."""
    data: dict[str, Any] = json.loads(Path("c/manifest.json").read_text())
    return data


def test_a_dry_run_has_the_documented_defaults_and_bounds(cupel: Invoke) -> None:
    done = cupel(*AB)
    assert done.exit_code == 0, done.output
    assert "nothing has run" in done.stdout
    assert f"{KEY} holds no key" in done.stderr
    for name, arm in manifest()["conditions"].items():
        settings = arm["settings"]
        assert settings["model"] == "Qwen/Qwen3-4B-Instruct-2507"
        assert settings["policy"]["lora"]["rank"] == 64
        assert (settings["batch_size"], settings["group_size"]) == (4, 8), name
        assert (settings["max_tokens"], settings["temperature"]) == (2048, 0.7)
        assert (settings["max_steps"], settings["lr"], settings["save_every"]) == (100, 4e-5, 20)
        assert settings["gtpo_beta"] == 0.1
        assert settings["hicra_alpha"] == 0.2
        assert (settings["sepa_steps"], settings["sepa_delay_steps"]) == (100, 10)


def test_the_documented_data_are_the_default(cupel: Invoke) -> None:
    done = cupel("ab", "--backend", "tinker", "--problems.path", "nowhere")
    assert done.exit_code == 2
    assert "nowhere" in done.stderr


def test_the_manifest_answers_the_reproducibility_checklist(cupel: Invoke) -> None:
    assert cupel(*AB, "--baseline-lr", 5e-4, "--candidate-lr", 5e-5).exit_code == 0
    found = manifest()
    arms = found["conditions"]
    assert {name: arm["role"] for name, arm in arms.items()} == {
        "grpo": "baseline",
        "full": "candidate",
    }
    assert [arm["settings"]["lr"] for arm in arms.values()] == [5e-4, 5e-5]
    for arm in arms.values():
        listed = (
            *("model", "lr", "batch_size", "group_size", "max_tokens", "temperature", "sepa_steps"),
            *("sepa_schedule", "sepa_delay_steps", "sepa_correct_rate_gate", "gtpo_beta"),
            *("hicra_alpha", "problems", "policy"),
        )
        assert set(listed) <= set(arm["settings"])
        assert re.fullmatch("[0-9a-f]{64}", arm["depends_on"]["data"]["sha256"])
    assert re.fullmatch(r"[\d.]+", found["provenance"]["packages"]["tinker"])
    assert {run["seed"] for run in found["runs"]} == set(found["config"]["seeds"])
    assert all(run["command"][:2] == ["cupel", "resume"] for run in found["runs"])
    assert found["config"]["decision"]["alpha"] == 0.05


@pytest.mark.parametrize("backend", ["tinker", "openai"])
def test_base_url_belongs_to_the_backend_that_was_chosen(cupel: Invoke, backend: str) -> None:
    Path("shared.toml").write_text(f'backend = "{backend}"\nmodel = "m"\n')
    words = ("--config", "shared.toml", "--base-url", "http://gpu-1:8000", "--lora-rank", 4)
    sweep = cupel(
        *("sweep", *words, "--sweep-root", "s", "--plan", "--problems.source", "arithmetic"),
        *("--no-problems.chat-template", "--set", f"policy.{backend}.timeout_s=9"),
        *(("--set", "policy.openai.adapter_dir='a'") if backend == "openai" else ()),
    )
    assert sweep.exit_code == 0, sweep.output
    given = load_toml(Path("s/study.toml"))["config"]["policy"]
    assert given[backend]["base_url"] == "http://gpu-1:8000"
    assert given[backend]["timeout_s"] == 9
    assert given["lora"]["rank"] == 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), (KEY, "--base-url")),
        (("--base-url", "http://127.0.0.1:9"), ("127.0.0.1:9 does not answer", "Start the server")),
    ],
)
def test_what_cannot_begin_is_one_line_and_nothing_runs(
    cupel: Invoke, words: tuple[str, ...], says: tuple[str, ...]
) -> None:
    done: Result = cupel(*AB, *words, "--execute")
    assert done.exit_code == 2, done.output
    errors = [line for line in done.stderr.splitlines() if line.startswith("cupel: ")]
    assert len(errors) == 1, done.stderr
    assert all(part in errors[0] for part in says), errors
    assert "Traceback" not in done.stderr
    assert {run["status"] for run in manifest()["runs"]} == {"planned"}
    assert not list(Path("c").rglob("metrics.jsonl"))


def test_a_run_that_could_not_begin_is_given_again_with_another_address(cupel: Invoke) -> None:
    words = ("train", "--backend", "tinker", "--problems.source", "arithmetic", "--log-dir", "r")
    for address in ("http://127.0.0.1:9", "http://127.0.0.1:19"):
        done = cupel(*words, "--base-url", address)
        says_one_line(done, f"{address} does not answer")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--base-url", "gpu-1:8000"), ("http://host:port",)),
        (("--base-url", "http://me:key@gpu-1"), ("api_key_variable",)),
        (("--lora-rank", 0), ("--lora-rank", "64")),
        (("--uncertainty-kind", "entropy"), ("surprisal",)),
        (("--policy.compile",), ("policy.compile", "server")),
        (("--loss.kl-coef", 0.1), ("kl_coef",)),
    ],
)
def test_settings_no_server_honours_are_one_line(
    cupel: Invoke, words: tuple[object, ...], says: tuple[str, ...]
) -> None:
    says_one_line(cupel(*AB, *words), *says)
    assert not Path("c").exists()


def test_one_line_of_the_study_says_where_it_runs() -> None:
    from cupel.config import validate
    from cupel.rlvr.config import TrainConfig, with_backend_defaults

    study = load_toml(Path(__file__).parents[2] / "studies" / "tinker_ab.toml")
    own = {"policy": {"tinker": {"base_url": "http://gpu-1:8000"}}}
    configs = [
        validate(
            TrainConfig,
            with_backend_defaults(merge(merge(study["config"], change), arm["config"])),
            where="study",
        )
        for arm in study["conditions"]
        for change in ({}, own, {"backend": "torch"})
    ]
    plain = [
        config.model_dump(exclude={"backend": True, "policy": {"tinker"}, "algorithm": True})
        for config in configs
    ]
    assert plain[0] == plain[1] == plain[2]
    assert plain[3] == plain[4] == plain[5]
