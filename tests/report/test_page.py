"""The page: self-contained, valid, complete, honest about what is missing, small and fast."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

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
    anchors = {str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"}
    assert anchors <= set(ids)


def test_shows_every_run_and_why_one_failed(study: Path, synthetic: ModuleType) -> None:
    page = read(study)
    assert page.rows == 8
    assert sum(attrs.get("class") == "failed" for tag, attrs in page.tags if tag == "tr") == 1
    assert synthetic.FAILURE in page.text
    labels = {str(attrs["data-label"]) for _, attrs in page.tags if "data-label" in attrs}
    for condition in synthetic.CONDITIONS:
        for seed in synthetic.SEEDS:
            assert any(label.startswith(f"{condition} · seed {seed}") for label in labels)


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
    html = write_report(study).read_text(encoding="utf-8")
    figure = html[html.index('id="fig-correct_rate"') :]
    drawn = re.search(r'data-label="maxrl\+gtpo_sepa · seed 42" d="([^"]*)"', figure)
    assert drawn is not None
    path_data = drawn.group(1)
    assert path_data.count("M") == 2
    heights = {y for _, y in re.findall(r"([\d.]+),([\d.]+)", path_data)}
    assert len(heights) == 1
    assert heights != {"400.0"}


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
    assert not any("grpo+nothing" in str(attrs.get("data-label")) for _, attrs in page.tags)


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
