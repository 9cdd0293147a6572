"""The pilot: its commands are real ones, its gates need figures, its files have their columns."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from cupel.cli.teach.pilot import SEEDLESS, _phases, _size
from cupel.teach.artifacts import ARTIFACTS, Artifact, lacking
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.pilot_gates import check_pilot


@pytest.mark.parametrize("teacher", [None, "gpt-4o-mini"])
def test_every_phase_is_a_command_that_parses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    size = _size(400, 15, 360)
    place = ["--environment", "shop"]
    for words in _phases(Path("out"), "tiny", teacher, place, size, 2):
        command = importlib.import_module(f"cupel.cli.teach.{words[0]}").command
        flags = {option for param in command.params for option in param.opts}
        assert {word for word in words if word.startswith("--")} <= flags, words
        assert ("--seed" in flags) or words[0] in SEEDLESS, words


def test_a_pilot_that_did_not_run_passes_no_gate(tmp_path: Path) -> None:
    gates = check_pilot(tmp_path, EnvironmentConfig())
    assert {gate.name for gate in gates} >= {"expert", "student", "placebo", "order", "files"}
    assert not any(gate.passed for gate in gates)
    assert all(gate.figure for gate in gates)


def test_a_table_is_held_to_its_first_columns(tmp_path: Path) -> None:
    artifact = Artifact(path="t.csv", names=("model", "n"), what="table")
    assert lacking(tmp_path, artifact) == "missing"
    (tmp_path / "t.csv").write_text("model,n,lo\nBASE,3,0.1\n")
    assert lacking(tmp_path, artifact) == ""
    (tmp_path / "t.csv").write_text("model,n,lo\n")
    assert lacking(tmp_path, artifact) == "no rows"
    (tmp_path / "t.csv").write_text("n,model\n3,BASE\n")
    assert "first columns are n, model" in lacking(tmp_path, artifact)


def test_rows_and_objects_are_held_to_their_keys(tmp_path: Path) -> None:
    rows = Artifact(path="r.jsonl", names=("id", "U"), what="rows")
    (tmp_path / "r.jsonl").write_text('{"id": 1, "U": null}\n{"id": 2}\n')
    assert lacking(tmp_path, rows) == "no U"
    told = Artifact(path="o.json", names=("n_runs",), what="object")
    (tmp_path / "o.json").write_text(json.dumps({"n_runs": 0}))
    assert lacking(tmp_path, told) == ""
    (tmp_path / "o.json").write_text("{")
    assert lacking(tmp_path, told) != ""


def test_documented_files_are_listed_once() -> None:
    paths = [artifact.path for artifact in ARTIFACTS]
    assert len(paths) == len(set(paths)) > 25
