"""The first thing on the page: what the study established, or why it cannot say yet.

Pure. Words and one strip; every number comes from the analysis. Refuses to give a verdict that the
analysis did not give.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from cupel.report.effects import axis_labels, effect_axis, effect_strip
from cupel.report.evidence import REASONS, Contrast, Evidence, verdict_sentence
from cupel.report.formats import (
    count_text,
    difference_text,
    interval_text,
    margin_text,
    p_text,
)
from cupel.report.view import StudyView


def verdict_card(view: StudyView, evidence: Evidence | None, problem: str | None) -> str:
    """Return the verdict section: badge, sentence, effect strip, numbers, and what to beware of."""
    contrast = evidence.primary if evidence is not None else None
    if evidence is None or contrast is None:
        return _no_verdict(view, problem)
    mode = evidence.mode or "mode not recorded"
    axis = effect_axis([contrast])
    strip = ""
    if contrast.delta is not None:
        ink = view.inks.get(contrast.candidate)
        strip = effect_strip(contrast, axis, ink, tall=True) + axis_labels(axis)
    caveats = "".join(f"<li>{escape(text)}</li>" for text in _caveats(view, evidence, contrast))
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        f"{f'<small>{escape(note)}</small>' if note else ''}</dd></div>"
        for name, value, note in _facts(contrast)
    )
    return (
        f'<section class="verdict {_tone(contrast.verdict)}" id="verdict" aria-label="Verdict">'
        f'<p class="badge">{escape(contrast.headline)}<i>{escape(mode)} · '
        f"{escape(contrast.candidate)} against {escape(contrast.baseline)} · "
        f"{escape(contrast.metric)}</i></p>"
        f'<h2 class="sentence">{escape(tied(verdict_sentence(contrast)))}</h2>{strip}'
        f'<dl class="facts">{facts}</dl>'
        f"{f'<ul class=caveats>{caveats}</ul>' if caveats else ''}</section>"
    )


def tied(sentence: str) -> str:
    """Keep numbers with their units, and p with its value, on one line.

    >>> tied("95 % CI, p = .02").count(chr(0xA0))
    3
    """
    return re.sub(r"(?<=[\d.]) (?=%|pp\b)|(?<=\bp) (?=[=<])|(?<=\bp [=<]) ", "\u00a0", sentence)


def _no_verdict(view: StudyView, problem: str | None) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in view.counts.items())
    if problem is not None:
        sentence = "The analysis of this study cannot be read."
        words = problem
    elif all(run.status == "done" for run in view.runs) and len(view.labels) < 2:
        sentence = "One condition: there is nothing to compare, so there is no verdict."
        words = "The curves and tables below describe it."
    else:
        sentence = "No verdict: this study has not been judged."
        words = (
            f"Runs: {counts or 'none planned'}. A study is judged when its runs are complete; "
            "below is what there is so far."
        )
    return (
        '<section class="verdict none" id="verdict" aria-label="Verdict">'
        f'<p class="badge">No verdict yet</p><h2 class="sentence">{escape(sentence)}</h2>'
        f'<p class="lede">{escape(words)}</p></section>'
    )


def _tone(verdict: str) -> str:
    known = ("improvement", "degradation", "equivalent")
    return verdict if verdict in known else "inconclusive"


def _facts(contrast: Contrast) -> list[tuple[str, str, str]]:
    unit = contrast.unit
    floor = f"smallest reachable: {p_text(contrast.p_floor)}" if contrast.p_floor else ""
    rows = [
        ("effect", difference_text(contrast.delta, unit), "mean difference of seed pairs"),
        (
            f"{100 * contrast.level:g} % interval",
            interval_text(contrast.low, contrast.high, unit) if contrast.bounded else "no bound",
            _interval_note(contrast),
        ),
        ("p, two-sided", p_text(contrast.p), floor),
        (
            "seeds",
            "–" if contrast.n_seeds is None else str(contrast.n_seeds),
            f"scope: {contrast.scope}" if contrast.scope else "",
        ),
        (
            "could have detected",
            difference_text(contrast.mde80, unit).removeprefix("+"),
            "with 80 % power, at the spread seen" if contrast.mde80 is not None else "",
        ),
    ]
    if contrast.margin is not None:
        rows.append(("equivalence margin", margin_text(contrast.margin, unit), "declared"))
    return rows


def _interval_note(contrast: Contrast) -> str:
    if not contrast.bounded and contrast.t_low is not None:
        shown = interval_text(contrast.t_low, contrast.t_high, contrast.unit)
        return f"t-interval {shown}, which assumes normal differences"
    return (contrast.ci_method or "").replace("_", " ")


def _caveats(view: StudyView, evidence: Evidence, contrast: Contrast) -> Sequence[str]:
    notes = [
        f"Not decided: {REASONS.get(reason, reason.replace('_', ' '))}."
        for reason in contrast.reasons
    ]
    if contrast.sentence:
        notes = []  # the analysis' own sentence has said why
    if evidence.mode == "exploratory":
        notes.append(
            "Exploratory: not read under a plan locked before the first outcome, so this is a "
            "hypothesis for the next study, not a confirmed result."
        )
    if contrast.disagreement:
        notes.append(contrast.disagreement)
    unfinished = [run for run in view.runs if run.status != "done"]
    if unfinished:
        notes.append(
            f"{count_text(len(unfinished), 'run')} of {len(view.runs)} did not complete; see Runs."
        )
    return [*notes, *evidence.notes]
