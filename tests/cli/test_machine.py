"""doctor, models and explain say what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.cli.doctor import check_packages, check_writable
from tests.cli.conftest import Invoke


def test_doctor_looks_at_what_runs_need(cupel: Invoke) -> None:
    result = cupel("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert {"python", "core packages", "torch packages", "torch", "tiny model"} <= checks.keys()
    assert checks["core packages"]["status"] == "ok"
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
