"""`cupel compare`: formats, sets, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.analysis.conftest import make_run
from tests.cli.conftest import Invoke, says_one_line


@pytest.fixture
def arms(tmp_path: Path) -> list[Path]:
    failure = {"kind": "algorithmic", "message": "loss is nan"}
    made = [
        make_run(tmp_path / f"{label}_s{seed}", seed=seed, condition=label, rate=rate)
        for label, rate in (("grpo_none", 0.3), ("full", 0.5))
        for seed in (1, 2, 3)
    ]
    lost = tmp_path / "full_s4"
    return [*made, make_run(lost, seed=4, condition="full", status="failed", failure=failure)]


def test_every_format_says_the_same(cupel: Invoke, arms: list[Path]) -> None:
    data = json.loads(cupel("compare", *arms, "--format", "json").stdout)
    assert data == json.loads(cupel("compare", *arms, "--json").stdout)
    grpo, full = data["conditions"]
    assert (grpo["endpoint"]["n"], full["endpoint"]["n"], full["failed"]) == (3, 4, 1)
    shown = f"{100 * grpo['endpoint']['mean']:.1f}"
    table = cupel("compare", *arms).stdout
    markdown = cupel("compare", *arms, "--format", "markdown").stdout
    latex = cupel("compare", *arms, "--format", "latex").stdout
    for text in (table, markdown, latex):
        assert shown in text
        assert "(n = 3)" in text
        assert "loss is nan; last value carried forward" in text
    assert "grpo\\_none & 3 of 3" in latex
    assert f"% source sha256: {data['provenance']['source_sha256']}" in latex
    first = cupel("compare", *arms, "--format", "csv").stdout.split("\n\n")[0]
    rows = list(csv.DictReader(io.StringIO(first)))
    assert float(rows[0]["correct_rate, last 20%"]) == grpo["endpoint"]["mean"]
    assert float(rows[0]["correct_rate, last 20% low95"]) == grpo["endpoint"]["ci95"][0]
    assert rows[1]["finished"] == "3 of 4, 1 failed"


def test_reports_are_written_beside_the_table(cupel: Invoke, arms: list[Path]) -> None:
    words = ("--baseline", *arms[:3], "--candidate", *arms[3:])
    result = cupel("compare", *words, "--output", "out/c.json", "--markdown", "out/c.md")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("out/c.json").read_text())["delta"]["correct_rate"] is not None
    assert Path("out/c.md").read_text().startswith("# Comparison")


def test_what_is_missing_is_said(cupel: Invoke, arms: list[Path]) -> None:
    says_one_line(cupel("compare"), "no --baseline", "two sets of runs")
    says_one_line(cupel("compare", "--baseline", arms[0]), "no --candidate")
    says_one_line(cupel("compare", arms[0], "--baseline", arms[1]), "not both")
    says_one_line(cupel("compare", *arms, "--over", "all"), "--over 'all'", "--endpoint")
    says_one_line(cupel("compare", *arms[:3]), "needs two sets")
    says_one_line(cupel("compare", *arms, "--endpoint", "mean_rewrad"), "did you mean")
