"""What a study's attempts met outside their processes is kept, and told where it differed."""

from __future__ import annotations

import json
from pathlib import Path

from cupel.cli.versions import differences
from cupel.lab.recorder import Recorder
from tests.cli.conftest import Invoke

TOY = ("ab", "--backend", "toy", "--max-steps", 2, "--seeds", 1, "--campaign-root", "c")


def meet(run: Path, **facts: str) -> None:
    """Let an attempt of a run meet these facts; its rows stay."""
    sizes = {path.name: path.stat().st_size for path in run.glob("events.jsonl")}
    with Recorder(run, {}, offsets=sizes) as recorder:
        recorder.made_with(facts)


def test_attempts_that_met_the_same_are_told_once(tmp_path: Path) -> None:
    for sdk in ("0.25", "0.25", "0.28", "0.25"):
        meet(tmp_path, sdk=sdk)
    kept = json.loads((tmp_path / "made_with.json").read_text())["attempts"]
    assert [each["sdk"] for each in kept] == ["0.25", "0.28", "0.25"]


def test_differences_name_the_runs() -> None:
    assert differences([("a", {"sdk": "1", "url": "u"}), ("b", {"sdk": "1", "url": "u"})]) == []
    (told,) = differences([("a", {"sdk": "1"}), ("b", {"sdk": "2"}), ("c", {"sdk": "2"})])
    assert "different sdk: '1' (a), '2' (b, c)" in told


def test_a_study_of_two_versions_says_so_and_keeps_both(cupel: Invoke) -> None:
    first = cupel(*TOY, "--execute", "--executor", "inline", "--no-figures")
    assert first.exit_code == 0, first.output
    assert "different" not in first.stderr
    for arm, server in (("baseline", "0.3"), ("candidate", "0.4")):
        meet(Path("c/runs") / arm, server=server)
    again = cupel("run", "c", "--executor", "inline", "--no-figures")
    assert again.exit_code == 0, again.output
    assert "different server: '0.3' (baseline), '0.4' (candidate)" in again.stderr
    runs = json.loads(Path("c/manifest.json").read_text())["runs"]
    assert [run["made_with"] for run in runs] == [[{"server": "0.3"}], [{"server": "0.4"}]]
