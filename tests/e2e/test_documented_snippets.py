"""The documented analysis snippets run, unchanged, on the folders that Cupel writes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import matplotlib as mpl
import pytest

from cupel.config import validate
from cupel.lab import execute_study, load_recipe, plan_study, write_plan
from cupel.lab.study import StudyConfig

SNIPPETS = Path(__file__).parents[1] / "golden" / "documented_snippets.md"
CONDITIONS = ["grpo+none", "maxrl+none", "maxrl+gtpo", "maxrl+gtpo_hicra", "maxrl+gtpo_sepa"]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a campaign of the five standard conditions with the toy policy."""
    data = {
        "name": "campaign",
        "seeds": [42, 101],
        "config": {"backend": "toy", "max_steps": 12},
        "conditions": [
            {
                "label": label,
                "config": dict(
                    zip(("advantage_mode", "transform_mode"), label.split("+"), strict=True)
                ),
            }
            for label in CONDITIONS
        ],
    }
    study = validate(StudyConfig, data, where="test")
    folder = tmp_path_factory.mktemp("logs") / "campaign"
    write_plan(plan_study(study, load_recipe(study.recipe)), folder)
    execute_study(folder, executor="inline")
    return folder


def test_snippets_run_unchanged(
    campaign: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(campaign, tmp_path / "logs" / "campaign_20250215_143022")
    shutil.copytree(campaign / "runs" / "grpo+none_s42", tmp_path / "logs" / "train")

    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", SNIPPETS.read_text(), re.DOTALL):
        if "from textpolicy" in block:
            continue
        exec(compile(block, "snippet", "exec"), names)

    assert names["steps"] == list(range(12))
    assert all(0 <= rate <= 1 for rate in names["correct"])
    assert (tmp_path / "ablation_curves.png").stat().st_size > 10_000

    emergence = names["load_emergence"]("logs/train")
    assert len(emergence["steps"]) == 12
    assert len(emergence["generations"]) == 12 * 8 * 8

    capsys.readouterr()
    names["compare_entropy"]("logs/campaign_20250215_143022", step_range=(6, 12))
    printed = capsys.readouterr().out
    assert "SEPA  exec_entropy_var" in printed
    assert "nan" not in printed
    assert names["p_value"] == pytest.approx(0.0403, abs=5e-5)
