"""completions.html: what it shows of each domain, what it leaves out, and the same bytes twice."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cupel.arc.evaluation_rows import puzzle_row
from cupel.arc.grids import make_puzzle
from cupel.arc.voting import Prediction, ballots
from cupel.cli.app import program
from cupel.errors import DataError
from cupel.report import write_report
from cupel.report.viewer import PAGE, page, write_viewer
from cupel.report.viewer.selection import Cell, by_priority, choose, spread
from cupel.teach.labelling.files import write_labels
from tests.browser.viewer_study import HOSTILE, write_run, write_study
from tests.report.teach_synthetic import make_labels


def data_of(page_file: Path | None) -> dict[str, Any]:
    """What the page holds, as its script unpacks it."""
    assert page_file is not None
    packed = page_file.read_text().split('id="data">')[1].split("</script>")[0]
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)))
    return found


def shown(data: dict[str, Any]) -> int:
    return sum(len(group["rows"]) for run in data["runs"] for group in run["groups"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("viewer") / "study")


def cells(*steps: int, size: int = 4, detailed: tuple[int, ...] = ()) -> list[Cell]:
    return [
        Cell(step=step, group=group, size=size, detailed=step in detailed)
        for step in steps
        for group in range(3)
    ]


def test_the_last_step_comes_first_then_the_first_then_the_middle() -> None:
    order = by_priority(cells(0, 1, 2, 3, 4))
    assert [(cell.step, cell.group) for cell in order[:6]] == [
        (4, 0), (4, 1), (0, 0), (0, 1), (2, 0), (2, 1)
    ]  # fmt: skip
    assert [cell.step for cell in order[-5:]] == [4, 0, 2, 1, 3]


def test_recorded_groups_come_before_all_others() -> None:
    order = by_priority(cells(0, 1, 2, 3, detailed=(1,)))
    assert {cell.step for cell in order[:3]} == {1}
    assert order[3].step == 3


@given(count=st.integers(0, 200))
def test_spread_names_every_place_once(count: int) -> None:
    assert sorted(spread(count)) == list(range(count))


def test_runs_take_turns_and_groups_stay_whole() -> None:
    chosen = choose([cells(0, 1), cells(0, 1)], limit=14)
    assert [one.run for one in chosen] == [0, 1, 0]
    assert choose([cells(0, size=50)], limit=4)[0].cell.size == 50
    assert choose([], limit=4) == []


def test_every_completion_is_there_with_its_grade(study: Path) -> None:
    data = data_of(write_viewer(study))
    assert [(run["condition"], run["seed"]) for run in data["runs"]] == [
        ("grpo+none", 42), ("grpo+none", 101), ("maxrl+gtpo_sepa", 42), ("maxrl+gtpo_sepa", 101)
    ]  # fmt: skip
    assert shown(data) == 4 * 48
    lines = (study / "runs/grpo+none_s42/emergence/generations.jsonl").read_text().splitlines()
    rows = [row for group in data["runs"][0]["groups"] for row in group["rows"]]
    for row, line in zip(rows, map(json.loads, lines), strict=True):
        assert "".join(row.get("pieces", [row.get("text")])) == line["completion"]
        outcome = {True: "correct", False: "wrong", None: "ungradable"}[line["correct"]]
        assert row["tags"][0] == outcome
        assert ("truncated" in row["tags"]) == (line["finish_reason"] == "length")
    assert sum("pieces" in row for row in rows) == 2 * 2 * 4


def test_the_page_holds_no_text_of_a_model_as_markup_and_is_the_same_twice(study: Path) -> None:
    first = write_viewer(study)
    assert first is not None
    html = first.read_text()
    assert not any(text in html for text in HOSTILE)
    assert "default-src 'none'" in html
    assert "http" not in html.replace('http-equiv="', "").replace("http://www.w3.org/2000/svg", "")
    assert write_viewer(study) == first
    assert first.read_text() == html


def test_a_limit_leaves_out_and_says_so(study: Path) -> None:
    found = write_viewer(study, completions=20)
    assert shown(data_of(found)) == 20
    assert found is not None
    assert "Showing 20 of 192 completions" in found.read_text()
    assert "cupel report STUDY --completions N" in found.read_text()
    write_viewer(study)


def test_a_page_never_grows_beyond_its_size(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_BYTES", 5_000)
    html = page.viewer_html(study)
    assert html is not None
    packed = html.split('id="data">')[1].split("</script>")[0]
    assert 1_000 < len(packed) <= 5_000
    assert "The page is kept under" in html


def test_a_damaged_run_is_left_out_with_its_reason(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    torn = study / "runs/grpo+none_s42/emergence/generations.jsonl"
    torn.write_text(torn.read_text()[:-30])
    found = write_viewer(study)
    assert found is not None
    assert len(data_of(found)["runs"]) == 3
    assert "grpo+none, seed 42 is left out" in found.read_text()


def test_a_running_run_is_shown_up_to_its_last_whole_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "grpo+none", 42)
    (run / "result.json").unlink()
    state = {"status": "running", "condition": "grpo+none", "seed": 42}
    (run / "run.json").write_text(json.dumps(state))
    path = run / "emergence/generations.jsonl"
    path.write_text(path.read_text()[:-30])
    assert shown(data_of(write_viewer(run))) == 47


def test_a_file_of_an_earlier_system_is_grouped_by_its_prompts(tmp_path: Path) -> None:
    rows = [
        {"step": 3, "prompt": f"p{n // 2}", "completion": f"c{n}", "reward": n % 2}
        for n in range(6)
    ]
    (tmp_path / "emergence").mkdir()
    path = tmp_path / "emergence/generations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    groups = data_of(write_viewer(tmp_path))["runs"][0]["groups"]
    assert [group["prompt"] for group in groups] == ["p0", "p1", "p2"]
    assert [row["tags"] for row in groups[0]["rows"]] == [["wrong"], ["correct"]]


def test_snapshots_come_with_their_labels(tmp_path: Path) -> None:
    labels = make_labels(30)
    write_labels(tmp_path, labels)
    probs = [0.2] * (len(labels[1].moment.valid_actions) - 1)
    row = {"snapshot_id": labels[1].id, "probs": [*probs, 1 - sum(probs)]}
    (tmp_path / "distributions.jsonl").write_text(json.dumps(row) + "\n")
    data = data_of(write_viewer(tmp_path))
    assert (data["kind"], shown(data)) == ("snapshots", 30)
    one = data["runs"][0]["groups"][1]["rows"][0]
    assert [action["name"] for action in one["actions"]] == list(labels[1].moment.valid_actions)
    assert one["actions"][0]["p"] == 0.2
    assert one["tags"] == [labels[1].quadrant]
    assert one["measures"][0] == {"name": "U (uncertainty)", "value": labels[1].U}
    leverage = labels[1].leverage
    assert leverage is not None
    assert leverage.L_local.lo in [measure.get("lo") for measure in one["measures"]]
    test = labels[1].patch_test
    assert test is not None
    assert [gain["net"]["value"] for gain in one["gains"]] == [
        test.gain_net[name].value for name in ("demo", "contrast", "hint")
    ]


def test_puzzles_come_with_targets_and_attempts(tmp_path: Path) -> None:
    pair = {"input": [[1, 2]], "output": [[2, 1]]}
    votes = [
        Prediction(puzzle_id="aaa", test_index=0, augmentation=str(n), grid=grid, q=0.5)
        for n, grid in enumerate(np.array([[[2, 1]], [[2, 1]], [[1, 1]]], dtype=np.uint8))
    ]
    row = puzzle_row(make_puzzle("aaa", [pair], [pair]), ballots(votes))
    (tmp_path / "puzzles.jsonl").write_text(json.dumps(row) + "\n")
    data = data_of(write_viewer(tmp_path))
    group = data["runs"][0]["groups"][0]
    assert (data["kind"], group["problem"]) == ("puzzles", "aaa")
    assert group["rows"][0]["tags"] == ["solved"]
    grids = group["rows"][0]["grids"]
    assert [one["title"] for one in grids] == ["input", "target", "attempt 1", "attempt 2"]
    assert [one["grid"] for one in grids] == ["12", "21", "21", "11"]
    assert grids[2]["note"].endswith("right")
    assert grids[3]["note"].endswith("1 cell off")


def test_nothing_to_show_is_no_page(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    for path in study.rglob("generations.jsonl"):
        path.unlink()
    assert write_viewer(study) is None
    assert not (study / PAGE).exists()
    with pytest.raises(DataError, match="no study, and no run with completions"):
        write_viewer(tmp_path)


def test_cupel_report_of_one_run_writes_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "grpo+none", 42)
    done = CliRunner().invoke(program, ["report", str(run), "--completions", "8"])
    assert done.exit_code == 0, done.output
    assert shown(data_of(run / PAGE)) == 8
    refused = CliRunner().invoke(program, ["report", str(run), "--completions", "0"])
    assert refused.exit_code == 2


def test_the_report_leads_to_the_page_once_it_is_there(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    link = f'href="{PAGE}"'
    assert link not in write_report(study).read_text()
    found = write_viewer(study)
    assert found is not None
    assert link in write_report(study).read_text()
    assert 'href="report.html"' in found.read_text()
