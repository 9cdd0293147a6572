"""doctor, models and explain say what is there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import cupel
from cupel.cli import machine
from cupel.cli.doctor import check_models, check_packages, check_writable
from cupel.cli.machine import check_compute, memory_bytes, start_probe
from tests.cli.conftest import Invoke


def test_doctor_looks_at_what_runs_need(cupel: Invoke) -> None:
    result = cupel("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert {"python", "core packages", "torch packages", "torch", "tiny model"} <= checks.keys()
    assert checks["core packages"]["status"] == "ok"
    assert {"machine", "backend toy", "executor processes", "executor slurm"} <= checks.keys()
    assert checks["machine"]["facts"]["cores"] >= 1
    assert checks["rates"]["facts"]["gflops"] > 0.1
    assert checks["rates"]["facts"]["gb_per_s"] > 0.1
    fits = checks["fits cpu"]["facts"]["parameters"]
    for dtype in ("float32", "bfloat16"):
        assert 0 < fits["full"][dtype] < fits["lora"][dtype] < fits["sampling"][dtype]
    assert "bytes a parameter" in checks["fits cpu"]["facts"]["formula"]
    failed = [check for check in checks.values() if check["status"] == "failed"]
    assert result.exit_code == (1 if failed else 0)


def test_a_missing_extra_is_absent_with_its_mend() -> None:
    for check in check_packages():
        if check.status == "absent":
            extra = check.name.removesuffix(" packages")
            assert f"pip install 'cupel[{extra}]'" in check.detail


def test_a_cache_that_cannot_be_written_fails(tmp_path: Path) -> None:
    assert check_writable(tmp_path / "new").status == "ok"
    (tmp_path / "file").write_text("")
    assert check_writable(tmp_path / "file" / "cache").status == "failed"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ImportError('libcudart is gone')", "libcudart is gone"),
        ("import os; os._exit(11)", "no message"),
        ("import time; time.sleep(60)", "no answer in 2 s"),
    ],
)
def test_a_broken_torch_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, says: str
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(cupel.__file__).parents[1]}")
    deadline_s = 2 if "sleep" in body else 60
    checks = {c.name: c for c in check_compute(start_probe(), deadline_s=deadline_s)}
    assert checks["torch"].status == "failed"
    assert says in checks["torch"].detail
    if "ImportError" in body:  # numpy measures where torch cannot
        assert checks["rates"].facts["what"] == "numpy, float32"
        assert checks["rates"].facts["gflops"] > 0.1


def test_a_damaged_build_record_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPEL_CACHE", str(tmp_path))
    (tmp_path / "tiny-0123").mkdir()
    (tmp_path / "tiny-0123" / "build.json").write_text("{")
    found = check_models()
    assert [check.status for check in found] == ["failed", "ok"]
    assert "remove its folder" in found[0].detail


def test_a_container_has_the_memory_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (tmp_path / "none", tmp_path / "memory.max"))
    (tmp_path / "memory.max").write_text("max\n")
    total, _ = memory_bytes()
    (tmp_path / "memory.max").write_text(f"{2**26}\n")
    assert memory_bytes()[0] == 2**26
    assert total is None or total > 2**26


def test_models_are_listed_with_their_hashes(
    cupel: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUPEL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "tiny-0123"
    folder.mkdir(parents=True)
    record = {"weights_sha256": "ab" * 32, "accuracy_sampled": 0.2, "accuracy_greedy": 0.3}
    (folder / "build.json").write_text(json.dumps(record))
    listed = json.loads(cupel("models", "list", "--json").stdout)
    assert listed["cache"] == str(tmp_path / "cache")
    assert listed["models"][-1] == {"name": "tiny", "folder": str(folder), **record}
    assert "abababababababab" in cupel("models", "list").stdout


def test_explain_says_what_a_study_does(cupel: Invoke) -> None:
    cupel("init", "--template", "ablation_5")
    shown = cupel("explain", "ablation_5.toml", "--set", "seeds=[1,2,3]").stdout
    assert "Runs: 15 = 5 conditions x 3 seeds of rlvr.train." in shown
    assert "maxrl+gtpo_sepa against maxrl+gtpo_hicra, exact sign-flip test" in shown
    assert "the smallest p this test can reach is 0.25" in shown
    assert "eval/accuracy, the last value of the run; higher is better" in shown


def test_explain_says_what_a_settings_file_does(cupel: Invoke) -> None:
    Path("settings.toml").write_text("[loss]\nkind = 'ppo'\n")
    told = json.loads(cupel("explain", "settings.toml", "--json").stdout)
    assert told["settings"][0]["key"] == "loss.kind"
    assert "clipped surrogate" in told["settings"][0]["meaning"]


@pytest.mark.parametrize(
    ("study", "setting", "words"),
    [
        ("etrm_halting", "halt_max_steps", "Most steps an item stays in its slot"),
        ("teach_matrix", "selection.quadrant", "matched_uniform"),
    ],
)
def test_explain_knows_the_settings_of_every_recipe(
    cupel: Invoke, study: str, setting: str, words: str
) -> None:
    file = Path(__file__).parents[2] / "studies" / f"{study}.toml"
    told = json.loads(cupel("explain", str(file), "--json").stdout)["settings"]
    assert words in next(row["meaning"] for row in told if row["key"] == setting)


def test_explain_shows_what_varies_as_a_table_and_each_meaning_once(cupel: Invoke) -> None:
    file = Path(__file__).parents[2] / "studies" / "etrm_halting.toml"
    lines = cupel("explain", str(file)).stdout.splitlines()
    assert any(line.split() == ["steps8_explore0.3", "0.3", "8"] for line in lines)
    assert sum("Most steps an item stays in its slot" in line for line in lines) == 1
