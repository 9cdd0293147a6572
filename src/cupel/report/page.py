"""The report: one HTML file that needs nothing else, verdict first.

Reads a study folder and its analysis, writes report.html atomically. The page is the same bytes
for the same folder: no clock, no randomness, no network; a content security policy in the file
forbids every request. Refuses to fail because a study is unfinished.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path

from cupel.errors import DataError
from cupel.lab.files import write_atomically
from cupel.report import contract, sections
from cupel.report.evidence import Evidence, read_evidence, with_margin
from cupel.report.formats import count_text
from cupel.report.palette import css_variables
from cupel.report.tables import endpoints_of
from cupel.report.verdict import verdict_card
from cupel.report.view import StudyView, load_view
from cupel.report.viewer import PAGE as COMPLETIONS

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

_LEDES = {
    "learning": "Every run, as logged. Hover, touch, or focus a figure and use the arrow keys to "
    "read single seeds.",
    "effects": "Candidate minus baseline, paired by seed. The band around zero is the equivalence "
    "margin, where one was declared.",
    "mechanism": "Whether the method did to the tokens what it claims to do. These are "
    "observations, not part of the verdict.",
    "throughput": "Timings depend on the machine and its load.",
    "diagnostics": "For finding out what went wrong; not for comparing conditions.",
    "runs": "Every planned run, whatever became of it. A dash is a value that does not exist.",
}


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
    evidence: Evidence | None = None
    problem = None
    try:
        evidence = read_evidence(study_folder)
        if evidence is not None:
            evidence = with_margin(evidence, view.record.study)
    except DataError as error:
        problem = str(error)
    body = _header(view) + verdict_card(view, evidence, problem) + _body(view, evidence)
    return _document(view, body)


def _body(view: StudyView, evidence: Evidence | None) -> str:
    endpoints = endpoints_of(view)
    return _legend(view) + "".join(
        (
            _section("learning", "Learning", sections.learning(view)),
            _section("effects", "Effects", sections.effects(view, evidence)),
            _section("held-out", "Before and after", sections.held_out_section(view, endpoints)),
            _section("mechanism", "Mechanism", sections.mechanism(view)),
            _section("throughput", "Speed", sections.throughput(view)),
            _section("diagnostics", "Diagnostics", sections.diagnostics(view)),
            _section("runs", "Runs", sections.runs_section(view, endpoints)),
            _section("plan", "The plan it was held to", contract.plan_section(view, evidence)),
            _section("provenance", "Provenance", contract.provenance_section(view, evidence)),
        )
    )


def _section(name: str, title: str, content: str) -> str:
    lede = f'<p class="lede">{escape(_LEDES[name])}</p>' if name in _LEDES else ""
    return (
        f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{escape(title)}</h2>'
        f"{lede}{content}</section>"
    )


def _header(view: StudyView) -> str:
    study = view.record.study
    tally = "".join(
        f'<li><span class="st {escape(status)}"><b>{count}</b> {escape(status)}</span></li>'
        for status, count in view.counts.items()
    )
    links = "".join(
        f'<a href="#{name}">{escape(title)}</a>'
        for name, title in (
            ("learning", "Learning"),
            ("effects", "Effects"),
            ("held-out", "Before and after"),
            ("mechanism", "Mechanism"),
            ("throughput", "Speed"),
            ("diagnostics", "Diagnostics"),
            ("runs", "Runs"),
            ("plan", "Plan"),
            ("provenance", "Provenance"),
        )
    )
    if (view.folder / COMPLETIONS).is_file():
        links += f'<a href="{COMPLETIONS}">Completions →</a>'
    shape = f"{count_text(len(study.labels), 'condition')} × {count_text(len(study.seeds), 'seed')}"
    question = f'<p class="question">{escape(study.question)}</p>' if study.question else ""
    return (
        f'<header><p class="kicker">Study · {escape(study.recipe)} · {escape(shape)}</p>'
        f'<h1>{escape(study.name)}</h1>{question}<ul class="tally" aria-label="Runs by status">'
        f"{tally}</ul><nav aria-label=Sections>{links}</nav></header>"
    )


def _legend(view: StudyView) -> str:
    chips = "".join(
        f'<button type="button" aria-pressed="false" data-k="{ink.index}" class="k{ink.index}">'
        f"<i></i>{escape(label)}</button>"
        for label, ink in view.inks.items()
    )
    return f'<div class="legend" role="group" aria-label="Show one condition">{chips}</div>'


def _document(view: StudyView, body: str) -> str:
    assets = files("cupel.report").joinpath("assets")
    light, dark = css_variables()
    css = assets.joinpath("report.css").read_text(encoding="utf-8")
    css = css.replace("/*LIGHT*/", light).replace("/*DARK*/", dark)
    script = assets.joinpath("report.js").read_text(encoding="utf-8")
    title = escape(f"{view.record.study.name} · Cupel")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{css}</style></head>'
        f'<body><a class="skip" href="#verdict">To the verdict</a><main class="page">{body}'
        "<footer>Made by Cupel from this study folder alone. The file is self-contained: it asks "
        'the network for nothing.</footer></main><div class="tip" id="tip" role="status" hidden>'
        f"</div><script>{script}</script></body></html>\n"
    )
