"""The report: one HTML file that needs nothing else, verdict first.

Reads a study folder and its analysis, writes report.html atomically. The page is the same bytes
for the same folder: no clock, no randomness, no network; a content security policy in the file
forbids every request. Refuses to fail because a study is unfinished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from cupel.errors import DataError
from cupel.lab.files import write_atomically
from cupel.report import contract, sections
from cupel.report.declared import read_declarations
from cupel.report.document import document
from cupel.report.evidence import Evidence, read_evidence, with_margin
from cupel.report.formats import count_text
from cupel.report.painting import Painter, StillPainter
from cupel.report.panels import Panels
from cupel.report.reproduce import reproduce_section
from cupel.report.tables import Endpoints, endpoints_of
from cupel.report.verdict import verdict_card
from cupel.report.view import StudyView, load_view
from cupel.report.viewer import PAGE as COMPLETIONS

_FOOT = (
    "Made by Cupel from this study folder alone. The file is self-contained: it asks the network "
    "for nothing."
)

_LEDES = {
    "learning": "Every run, as logged. Hover, touch, or focus a figure and use the arrow keys to "
    "read single seeds; drag to zoom, double-click to return.",
    "effects": "Candidate minus baseline, paired by seed. The band around zero is the equivalence "
    "margin, where one was declared.",
    "mechanism": "Whether the method did to the tokens what it claims to do. These are "
    "observations, not part of the verdict.",
    "throughput": "Timings depend on the machine and its load.",
    "diagnostics": "For finding out what went wrong; not for comparing conditions.",
    "health": "What the instrument itself did. An answer nobody could read is no wrong answer.",
    "runs": "Every planned run, whatever became of it. A dash is a value that does not exist.",
}
_TITLES = {
    "learning": "Learning",
    "effects": "Effects",
    "held-out": "Before and after",
    "mechanism": "Mechanism",
    "throughput": "Speed and cost",
    "diagnostics": "Diagnostics",
    "health": "Health",
    "runs": "Runs",
    "everything": "Everything else",
    "plan": "Plan and deviations",
    "provenance": "Provenance",
    "reproduce": "Reproduce",
}
_BESIDE = {COMPLETIONS: "Completions"}
"""Pages that may lie beside the report, with the name they go by in its navigation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The pieces of a page by their id, in order; a piece is replaced as a whole."""

    title: str
    header: str
    verdict: str
    legend: str
    sections: Mapping[str, str]


def write_report(study_folder: Path) -> Path:
    """Write report.html into a study folder and return its path.

    Raises:
        DataError: the folder is no study, or its manifest is damaged.
        ConfigError: its study.toml is not valid.
    """
    path = Path(study_folder) / "report.html"
    write_atomically(path, report_html(Path(study_folder)).encode())
    return path


def report_html(study_folder: Path) -> str:
    """Return the page of a study folder.

    Raises:
        DataError: the folder is no study, or its manifest is damaged.
        ConfigError: its study.toml is not valid.
    """
    view = load_view(study_folder)
    parts = page_parts(view, StillPainter(), endpoints_of(view))
    return document(parts.title, page_body(parts), foot=_FOOT)


def page_parts(view: StudyView, painter: Painter, endpoints: Endpoints) -> Parts:
    """Return the pieces of a study's page, its figures drawn by `painter`."""
    evidence: Evidence | None = None
    problem = None
    try:
        evidence = read_evidence(view.folder)
        if evidence is not None:
            evidence = with_margin(evidence, view.record.study)
    except DataError as error:
        problem = str(error)
    pieces = _sections(view, evidence, painter, endpoints)
    found = {name: html for name, html in pieces.items() if html}
    return Parts(
        title=f"{view.record.study.name} · Cupel",
        header=_header(view, list(found)),
        verdict=verdict_card(view, evidence, problem),
        legend=_legend(view),
        sections={name: _section(name, html) for name, html in found.items()},
    )


def page_body(parts: Parts) -> str:
    """Return the pieces in their order."""
    return "".join(pieces_in_order(parts).values())


def pieces_in_order(parts: Parts) -> dict[str, str]:
    """Return the pieces by the id of their element, as they follow each other."""
    first = {"header": parts.header, "verdict": parts.verdict, "legend": parts.legend}
    return first | dict(parts.sections)


def _sections(
    view: StudyView, evidence: Evidence | None, painter: Painter, endpoints: Endpoints
) -> dict[str, str]:
    declared = read_declarations(view.record.manifest)
    panels = Panels(view, declared, painter)
    return {
        "learning": panels.learning(),
        "effects": sections.effects(view, evidence),
        "held-out": sections.held_out_section(view, endpoints),
        "mechanism": panels.mechanism(),
        "throughput": panels.throughput() + sections.cost_section(view),
        "diagnostics": panels.diagnostics(),
        "health": sections.health_section(view, declared),
        "runs": sections.runs_section(view, endpoints),
        "everything": panels.everything(),
        "plan": contract.plan_section(view, evidence),
        "provenance": contract.provenance_section(view, evidence),
        "reproduce": reproduce_section(view),
    }


def _section(name: str, content: str) -> str:
    lede = f'<p class="lede">{escape(_LEDES[name])}</p>' if name in _LEDES else ""
    return (
        f'<section id="{name}" aria-labelledby="h-{name}">'
        f'<h2 id="h-{name}">{escape(_TITLES[name])}</h2>{lede}{content}</section>'
    )


def _header(view: StudyView, names: Sequence[str]) -> str:
    study = view.record.study
    tally = "".join(
        f'<li><span class="st {escape(status)}"><b>{count}</b> {escape(status)}</span></li>'
        for status, count in view.counts.items()
    )
    links = "".join(f'<a href="#{name}">{escape(_TITLES[name])}</a>' for name in names)
    links += "".join(
        f'<a class="beside" href="{page}">{escape(title)}</a>'
        for page, title in _BESIDE.items()
        if (view.folder / page).is_file()
    )
    shape = f"{count_text(len(study.labels), 'condition')} × {count_text(len(study.seeds), 'seed')}"
    question = f'<p class="question">{escape(study.question)}</p>' if study.question else ""
    return (
        f'<header id="header"><p class="kicker">Study · {escape(study.recipe)} · {escape(shape)}'
        f'</p><h1>{escape(study.name)}</h1>{question}<ul class="tally" aria-label="Runs by status">'
        f'{tally}</ul><nav aria-label="Sections">{links}</nav></header>'
    )


def _legend(view: StudyView) -> str:
    chips = "".join(
        f'<button type="button" aria-pressed="false" data-c="{escape(label)}" '
        f'class="k{ink.index}"><i></i>{escape(label)}</button>'
        for label, ink in view.inks.items()
    )
    many = " many" if len(view.inks) > 8 else ""
    return (
        f'<div class="legend{many}" id="legend" role="group" aria-label="Show one condition">'
        f"{chips}</div>"
    )
