"""The page: self-contained, valid, complete, honest about what is missing, small and fast."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest

from cupel.analysis.judge import judge
from cupel.errors import DataError
from cupel.report import write_report

VOID = {"meta", "link", "br", "wbr", "path", "hr", "img", "input"}
FIVE = ("grpo+none", "maxrl+none", "maxrl+gtpo", "maxrl+gtpo_hicra", "maxrl+gtpo_sepa")
EIGHT = (42, 101, 202, 303, 404, 505, 606, 707)


class Page(HTMLParser):
    """Parses a page, refusing unbalanced tags, and keeps its tags, ids and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in {"script", "style"}:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))

    @property
    def rows(self) -> int:
        """Number of rows of the run table: the tr that carry a status."""
        return sum(tag == "tr" and bool(attrs.get("class")) for tag, attrs in self.tags)


def chart(html: str, slug: str) -> dict[str, Any]:
    """The data of one figure, as it stands in the page."""
    figure = html[html.index(f'id="fig-{slug}"') :]
    found = re.search(r'<script type="application/json">(.*?)</script>', figure, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found.group(1))
    return data


def read(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_asks_the_network_for_nothing(study: Path) -> None:
    html = write_report(study).read_text(encoding="utf-8")
    page = Page(html)
    assert "http:" not in html.replace("http-equiv", "")
    assert "https:" not in html
    assert "@import" not in html
    assert "url(" not in html
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        href = attributes.get("href")
        assert href is None or href.startswith(("#", "data:")), href
    policy = [a["content"] for t, a in page.tags if a.get("http-equiv") is not None]
    assert policy[0] is not None
    assert policy[0].startswith("default-src 'none'")


def test_has_unique_ids_and_every_anchor_leads_somewhere(study: Path) -> None:
    page = read(study)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a"]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert all(link.startswith(("#", "data:text/csv")) for link in links)


def test_shows_every_run_and_why_one_failed(study: Path, synthetic: ModuleType) -> None:
    page = read(study)
    assert page.rows == 8
    assert sum(attrs.get("class") == "failed" for tag, attrs in page.tags if tag == "tr") == 1
    assert synthetic.FAILURE in page.text
    labels = {str(attrs["data-label"]) for _, attrs in page.tags if "data-label" in attrs}
    data = chart((study / "report.html").read_text(encoding="utf-8"), "correct_rate")
    drawn = {(run["c"], run["seed"]) for run in data["runs"]}
    for condition in synthetic.CONDITIONS:
        for seed in synthetic.SEEDS:
            assert any(label.startswith(f"{condition} · seed {seed}") for label in labels)
            assert (condition, seed) in drawn
    assert [run["seed"] for run in data["runs"] if run.get("failed")] == [synthetic.SEEDS[2]]


def test_states_the_verdict_first_with_effect_interval_p_and_reach(study: Path) -> None:
    page = read(study)
    sections = [attrs.get("id") for tag, attrs in page.tags if tag == "section"]
    assert sections[0] == "verdict"
    data = json.loads((study / "analysis" / "significance.json").read_text())
    block = data["metrics"]["correct_rate"]
    assert "Not established" in page.text
    assert f"{100 * block['delta']:+.1f}\u202fpp".replace("\u202f", " ") in page.text
    low, high = (f"{100 * end:+.1f}" for end in block["ci95"])
    assert f"{low} to {high}" in page.text
    assert "p = .125" in page.text
    assert "could have detected" in page.text
    assert "11.0 pp" in page.text


def test_escapes_what_people_and_runs_wrote(study: Path) -> None:
    html = write_report(study).read_text(encoding="utf-8")
    assert "<two-digit>" not in html
    assert "<after>" not in html
    assert "&lt;two-digit&gt;" in html


def test_gives_a_running_study_a_page_without_a_verdict(
    synthetic: ModuleType, tmp_path: Path
) -> None:
    folder = synthetic.write_study(tmp_path / "s", running=True, judged=False, locked=False)
    page = read(folder)
    assert "No verdict: this study has not been judged." in page.text
    assert "1 running" in page.text
    assert "2 planned" in page.text
    assert "No plan.lock" in page.text
    assert "Not established" not in page.text
    assert "Dashed: fewer seeds, because one stopped earlier (×)." in page.text


def test_a_seed_that_is_on_its_way_has_not_stopped(synthetic: ModuleType, tmp_path: Path) -> None:
    folder = synthetic.write_study(tmp_path / "s", running=True, judged=False, fail=None)
    assert "Dashed: fewer seeds, the others are not there yet." in read(folder).text


def test_a_missing_and_a_damaged_run_are_rows_with_reasons(study: Path) -> None:
    (study / "runs" / "grpo+none_s42" / "metrics.jsonl").write_text('{"step": 0}\n{"step"')
    lost = study / "runs" / "grpo+none_s101"
    for path in lost.glob("*"):
        path.unlink()
    page = read(study)
    assert page.rows == 8
    assert "truncated" in page.text
    assert "its folder is missing or holds no run" in page.text


def test_damaged_analysis_gives_no_verdict_and_says_why(study: Path) -> None:
    (study / "analysis" / "significance.json").write_text("{")
    page = read(study)
    assert "The analysis of this study cannot be read." in page.text
    assert "not strict JSON" in page.text


def test_a_missing_value_is_a_gap_and_never_a_zero(study: Path) -> None:
    path = study / "runs" / "maxrl+gtpo_sepa_s42" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["correct_rate"] = None if row["step"] in {10, 11} else 0.5
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = chart(write_report(study).read_text(encoding="utf-8"), "correct_rate")
    run = next(run for run in data["runs"] if (run["c"], run["seed"]) == ("maxrl+gtpo_sepa", 42))
    assert [place for place, value in enumerate(run["y"]) if value is None] == [10, 11]
    assert {value for value in run["y"] if value is not None} == {0.5}


def test_says_that_a_plan_was_changed_after_outcomes(study: Path) -> None:
    lock = json.loads((study / "plan.lock").read_text())
    lock["amendments"] = [
        {"at": "2026-02-03", "reason": "typo", "changed": ["seeds"], "outcomes_seen": True}
    ]
    lock["lock"]["seeds"] = [1, 2]
    (study / "plan.lock").write_text(json.dumps(lock))
    text = read(study).text
    assert "Amended after outcomes had been seen (2026-02-03): seeds; typo" in text
    assert "study.toml differs from plan.lock in 'seeds'." in text


def test_an_unbounded_interval_is_said_and_the_t_interval_named(study: Path) -> None:
    path = study / "analysis" / "significance.json"
    data = json.loads(path.read_text())
    block = data["metrics"]["correct_rate"]
    block["ci95"], block["t"] = [None, None], {"p": 0.01, "ci95": [0.05, 0.25], "df": 3}
    path.write_text(json.dumps(data))
    text = read(study).text
    assert "no bound" in text
    assert "t-interval +5.0 to +25.0 pp, which assumes normal differences" in text


def test_same_folder_same_bytes(study: Path) -> None:
    assert write_report(study).read_bytes() == write_report(study).read_bytes()


def test_forty_runs_of_500_steps_are_small_and_fast(synthetic: ModuleType, tmp_path: Path) -> None:
    folder = synthetic.write_study(tmp_path / "s", conditions=FIVE, seeds=EIGHT, steps=500)
    start = time.process_time()
    path = write_report(folder)
    assert time.process_time() - start < 5.0
    assert path.stat().st_size <= 3_000_000
    page = Page(path.read_text(encoding="utf-8"))
    assert page.rows == 40
    assert "each is the mean of 2 consecutive steps" in page.text


def test_an_unknown_recipe_gets_curves_of_what_it_declared(
    synthetic: ModuleType, tmp_path: Path
) -> None:
    html = write_report(other_recipe(synthetic, tmp_path)).read_text(encoding="utf-8")
    page = Page(html)
    titles = {str(attrs.get("id")) for tag, attrs in page.tags if tag == "figure"}
    assert {"fig-grid-exact", "fig-heat", "fig-eval-grid-solved"} <= titles
    assert chart(html, "heat")["unit"] == "K"
    assert "How warm it got." in page.text
    assert "fixed = 3" in page.text
    assert "no run used SEPA" not in page.text
    assert "correct_rate was not logged" not in page.text
    assert "1 of heat" in page.text


def other_recipe(synthetic: ModuleType, tmp_path: Path) -> Path:
    """A study of a recipe that nobody here knows: its manifest declares what it writes."""
    folder: Path = synthetic.write_study(tmp_path / "other", judged=False, fail=None)
    study = (folder / "study.toml").read_text().replace("rlvr.train", "melting.pot")
    endpoint = '\n[endpoint]\nmetric = "grid/exact"\nover = "last"\n'
    (folder / "study.toml").write_text(study + endpoint)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["metrics"] = {
        "metrics.jsonl": [
            {"name": "grid/exact", "unit": "rate", "meaning": "Solved.", "higher_is_better": True},
            {"name": "heat", "unit": "K", "meaning": "How warm it got.", "limits": [None, 300.0]},
            {"name": "fixed", "unit": "count", "meaning": "Never moves."},
        ],
        "evaluations.jsonl": [
            {"name": "grid/solved", "unit": "rate", "meaning": "", "higher_is_better": True}
        ],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for place, run in enumerate(sorted((folder / "runs").iterdir())):
        rows = [
            {"step": step, "grid/exact": step / 20, "heat": 280 + 3 * step - place, "fixed": 3}
            for step in range(8)
        ]
        evaluations = [{"step": step, "grid/solved": step / 40} for step in (0, 4, 8)]
        for name, found in (("metrics", rows), ("evaluations", evaluations)):
            text = "".join(json.dumps(row) + "\n" for row in found)
            (run / f"{name}.jsonl").write_text(text)
    return folder


def test_numbers_can_be_saved_from_the_page(study: Path) -> None:
    named = [attrs for _, attrs in read(study).tags if "download" in attrs]
    links = {str(attrs["download"]): str(attrs["href"]) for attrs in named}
    assert set(links) == {"runs.csv", "conditions.csv", "contrasts.csv", "cost.csv", "health.csv"}
    text = unquote(links["runs.csv"].partition(",")[2])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 8
    assert sum(row["status"] == "failed" for row in rows) == 1


def test_says_how_to_do_it_again(study: Path, synthetic: ModuleType) -> None:
    text = read(study).text
    assert "git checkout 0123456789abcdef0123456789abcdef01234567" in text
    assert "cupel run study/study.toml" in text
    assert synthetic.LOCK_SHA256 in text


def test_health_counts_retries_and_says_what_is_not_logged(study: Path) -> None:
    path = study / "runs" / "grpo+none_s42" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "attempts": 3}))
    text = read(study).text
    assert "runs begun more than once1 of 1 run" in text
    assert "failed, damaged or missing runs1 of 8 runs (1 algorithmic)" in text
    assert "grader failuresnot logged" in text


def test_the_completion_viewer_is_linked_where_it_lies(study: Path) -> None:
    assert 'href="completions.html"' not in write_report(study).read_text(encoding="utf-8")
    (study / "completions.html").write_text("<!doctype html>")
    assert 'href="completions.html"' in write_report(study).read_text(encoding="utf-8")


def test_every_declared_number_of_forty_runs_fits_the_page(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "report.py"
    spec = importlib.util.spec_from_file_location("report_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    benchmark.write_study(tmp_path / "s")
    assert benchmark.page(tmp_path / "s") < 5.0
    html = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert len(html.encode()) <= 3_000_000
    drawn = {str(attrs["id"])[4:] for tag, attrs in Page(html).tags if tag == "figure"}
    shown_otherwise = {"correct_count", "incorrect_count", "total_count", "step", "seed"}
    unused = {"sepa_lambda", "sepa_gate_open"} - drawn
    assert drawn >= {each.name for each in benchmark.NUMBERS} - shown_otherwise - unused


def test_refuses_what_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="study folder"):
        write_report(tmp_path)


def test_reads_what_the_analysis_writes(synthetic: ModuleType, tmp_path: Path) -> None:
    folder = synthetic.write_study(
        tmp_path / "s", conditions=FIVE[:3], seeds=EIGHT[:4], judged=False, fail=None
    )
    judgement = judge(folder)
    page = read(folder)
    assert re.sub(r"\s+", " ", judgement.sentence) in page.text
    assert "Litmus: inconclusive" in page.text
    forest = page.text.split("Seed by seed")[0]
    assert "secondary" in forest
    assert "Holm" in forest


def test_a_run_of_an_unknown_condition_is_a_row_and_draws_nothing(study: Path) -> None:
    path = study / "runs" / "grpo+none_s42" / "run.json"
    state = json.loads(path.read_text())
    state["condition"] = "grpo+nothing"
    path.write_text(json.dumps(state))
    page = read(study)
    assert "its condition 'grpo+nothing' is not in study.toml" in page.text
    assert page.rows == 8
    data = chart((study / "report.html").read_text(encoding="utf-8"), "correct_rate")
    assert not any(run["c"] == "grpo+nothing" for run in data["runs"])


def test_a_study_that_never_ran_has_a_page(synthetic: ModuleType, tmp_path: Path) -> None:
    folder = synthetic.write_study(tmp_path / "s", judged=False)
    for run in (folder / "runs").iterdir():
        for stream in ("metrics.jsonl", "evaluations.jsonl", "result.json"):
            (run / stream).unlink(missing_ok=True)
        state = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**state, "status": "planned"}))
    page = read(folder)
    assert "8 planned" in page.text
    assert "correct_rate was not logged" in page.text
    assert "No run has a held-out evaluation yet." in page.text


def test_one_condition_has_nothing_to_compare(synthetic: ModuleType, tmp_path: Path) -> None:
    folder = synthetic.write_study(
        tmp_path / "s", conditions=("grpo+none",), seeds=(7,), judged=False, fail=None
    )
    page = read(folder)
    assert "there is nothing to compare, so there is no verdict" in page.text
    assert "with one seed there is no band" in page.text
