"""The figures of curves: which keys are worth one, in which section, and what stands beside it.

Pure but for the run rows it is handed. Knows the keys the shipped recipes write; of any other
recipe it draws what was declared and logged. Refuses to leave a silent hole: a declared key without
a value, and a value that never changes, are said in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from cupel.report.charts import Figure, Mark
from cupel.report.declared import Declarations
from cupel.report.formats import count_text, value_text
from cupel.report.painting import Painter, Picture
from cupel.report.palette import Ink
from cupel.report.view import MAX_POINTS, Curve, StudyView

MECHANISM = {
    "exec_entropy_var": (
        "Variance of execution-token entropy",
        "Entropy pooling should lower it; population variance over the batch, before shaping.",
    ),
    "post_exec_entropy_var": (
        "The same after shaping",
        "What the credit was computed from: pooling draws execution tokens to their mean.",
    ),
    "exec_entropy_mean": ("Mean entropy of execution tokens", ""),
    "plan_entropy_mean": (
        "Mean entropy of planning tokens",
        "Should stay high while the model explores; a gap where no planning token was found.",
    ),
    "planning_token_rate": (
        "Planning tokens",
        "Share of all tokens. Below 0.5 % planning-aware methods change nothing.",
    ),
}
THROUGHPUT = {
    "tokens_per_second": ("Throughput", "Sampled tokens over the time of the whole step."),
    "step_time_s": ("Step time", "Sampling, scoring and update; evaluation excluded."),
}
DIAGNOSTICS = {
    "loss": ("Loss", "No measure of progress; it may be negative."),
    "grad_norm": ("Gradient norm", "Before clipping."),
    "max_token_hit_rate": ("Completions cut at the token limit", ""),
    "completion_length_mean": ("Mean completion length", "Tokens a completion."),
    "ungradable_count": ("Ungradable completions", "Count a step: the instrument's own failures."),
}
_SUCCESS = ("correct_rate", "mean_reward", "eval/accuracy")
_TITLES = {
    "correct_rate": "Correct rate",
    "mean_reward": "Mean reward",
    "eval/accuracy": "Held-out accuracy",
}
_MOST_DECLARED = 6
"""Declared measures of success drawn beside the endpoint; the others are under 'everything'."""
_BESIDE_NUMBERS = 5_000
"""Numbers that one figure beside the learning curves may hold: with many runs, fewer points."""
_REST_NUMBERS = 60_000
"""Numbers that all the figures of 'everything else' may hold together."""
_FEWEST_POINTS = 20
_NOT_DRAWN = ("sepa_lambda", "sepa_gate_open", "correct_count", "incorrect_count", "total_count")
"""Keys with a figure of their own, or that another figure shows as a rate."""


class Panels:
    """The sections of figures of one study; each method is a section's HTML."""

    def __init__(self, view: StudyView, declared: Declarations, painter: Painter) -> None:
        self._view = view
        self._declared = declared
        self._painter = painter
        self._seen: set[str] = set(_NOT_DRAWN)

    def learning(self) -> str:
        """Return the learning curves: the endpoint's first, then what else measures success."""
        view = self._view
        endpoint = view.record.study.endpoint
        keys = dict.fromkeys([endpoint.metric, *_SUCCESS, *self._declared.better()])
        figures: list[str] = []
        missing: list[str] = []
        same = _same_everywhere(view, "correct_rate", "mean_reward")
        for key in keys:
            curves = view.curves(key)
            if key == "mean_reward" and same:
                missing.append("mean_reward equals correct_rate in every row, so it is drawn once")
                self._seen.add(key)
                continue
            if key != endpoint.metric and not _worth(key, curves):
                if not curves and key in _SUCCESS and self._expected(key):
                    missing.append(f"{key} was not logged")
                continue
            if len(figures) > _MOST_DECLARED:
                break
            note = f"The primary endpoint, judged over {endpoint.over}." if not figures else ""
            drawn = self._draw(key, curves, _title(key), note, tall=not figures)
            figures.append(drawn) if drawn else missing.append(f"{key} was not logged")
        return _figures(figures) + _missing(missing)

    def mechanism(self) -> str:
        """Return entropy and planning curves, and SEPA's lambda and gate where they are in use."""
        if not any(self._expected(key) or self._view.curves(key) for key in MECHANISM):
            return ""
        family = dict(MECHANISM)
        if _same_everywhere(self._view, "exec_entropy_var", "post_exec_entropy_var"):
            del family["post_exec_entropy_var"]
            self._seen.add("post_exec_entropy_var")
        figures, missing = self._family(family)
        pooled = self._pooling()
        if pooled:
            figures.insert(0, pooled)
        else:
            missing.append("no run used SEPA, so λ and its gate are not drawn")
        return _figures(figures) + _missing(missing)

    def throughput(self) -> str:
        """Return speed curves; timings depend on the machine and are never part of a verdict."""
        figures, missing = self._family(THROUGHPUT)
        return _figures(figures) + _missing(missing)

    def diagnostics(self) -> str:
        """Return the curves that help to find out what went wrong."""
        figures, missing = self._family(DIAGNOSTICS)
        return _figures(figures) + _missing(missing)

    def everything(self) -> str:
        """Return every other logged number: a figure each, or a line where it never changed."""
        logged = dict.fromkeys(key for run in self._view.runs for key in run.keys)
        curves = {key: self._view.curves(key) for key in logged if key not in self._seen}
        curves = {key: found for key, found in curves.items() if found}
        fixed = {key: value for key in curves if (value := _constant(curves[key])) is not None}
        moving = [key for key in curves if key not in fixed]
        room = _REST_NUMBERS // max(1, len(moving) * len(self._view.runs))
        points = min(MAX_POINTS, max(_FEWEST_POINTS, room))
        figures = [
            self._draw(key, curves[key], key, self._declared.meaning(key), max_points=points)
            for key in moving
        ]
        said = "; ".join(
            f"{key} = {value_text(value, self._declared.unit(key))}" for key, value in fixed.items()
        )
        constant = (
            f'<p class="lede"><small>Always the same, in every run: {escape(said)}.</small></p>'
            if said
            else ""
        )
        if not figures:
            return constant
        words = f"{count_text(len(figures), 'more figure')}, one for every other logged number"
        return f"<details><summary>{words}</summary>{_figures(figures)}</details>{constant}"

    def _expected(self, key: str) -> bool:
        """Say whether a reader may miss a key: it was declared, or nothing was and it is usual."""
        if self._declared:
            return key in self._declared
        return self._view.record.study.recipe == "rlvr.train"

    def _family(self, family: Mapping[str, tuple[str, str]]) -> tuple[list[str], list[str]]:
        figures, missing = [], []
        points = min(
            MAX_POINTS, max(_FEWEST_POINTS, _BESIDE_NUMBERS // max(1, len(self._view.runs)))
        )
        for key, (title, note) in family.items():
            drawn = self._draw(key, self._view.curves(key), title, note, max_points=points)
            if drawn:
                figures.append(drawn)
            elif self._expected(key):
                missing.append(f"{key} was not logged")
        return figures, missing

    def _draw(
        self,
        key: str,
        curves: Sequence[Curve],
        title: str,
        note: str,
        *,
        tall: bool = False,
        max_points: int = MAX_POINTS,
    ) -> str:
        self._seen.add(key)
        if not curves:
            return ""
        figure = Figure(
            slug=slug(key),
            title=title,
            unit=self._declared.unit(key),
            note=note,
            tall=tall,
            x_title="updates done" if key.startswith("eval/") else "training step",
        )
        picture = Picture(figure=figure, curves=curves, inks=self._view.inks, max_points=max_points)
        return self._painter.paint(picture)

    def _pooling(self) -> str:
        """Return SEPA's lambda with a ring where a run's gate opened, or nothing."""
        view = self._view
        lambdas = [curve for curve in view.curves("sepa_lambda") if np.nanmax(curve.values_T) > 0]
        if not lambdas:
            return ""
        using = [label for label in view.labels if any(c.condition == label for c in lambdas)]
        note = " ".join(_gate_words(view, label) for label in using)
        others = " Conditions without SEPA are left out." if len(using) < len(view.labels) else ""
        figure = Figure(
            slug="sepa_lambda", title="SEPA pooling strength λ", unit="", note=note + others
        )
        inks: Mapping[str, Ink] = {label: view.inks[label] for label in using}
        marks = _gate_marks(view, using)
        return self._painter.paint(Picture(figure=figure, curves=lambdas, inks=inks, marks=marks))


def slug(key: str) -> str:
    """Return a key as part of an id: `eval-accuracy` for `eval/accuracy`."""
    return "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in key)


def _worth(key: str, curves: Sequence[Curve]) -> bool:
    """Say whether curves show a course: evaluations only from three points on."""
    if not key.startswith("eval/"):
        return bool(curves)
    return any(curve.steps_T.size >= 3 for curve in curves)


def _title(key: str) -> str:
    return _TITLES.get(key, key)


def _constant(curves: Sequence[Curve]) -> float | None:
    """Return the one value that all curves always have, or None."""
    lows = [float(np.nanmin(curve.values_T)) for curve in curves]
    highs = [float(np.nanmax(curve.values_T)) for curve in curves]
    return lows[0] if min(lows) == max(highs) else None


def _same_everywhere(view: StudyView, one: str, other: str) -> bool:
    pairs = [(run.curve(one), run.curve(other)) for run in view.runs]
    return any(not a.is_empty for a, _ in pairs) and all(
        np.array_equal(a.values_T, b.values_T, equal_nan=True) for a, b in pairs
    )


def _gate_words(view: StudyView, label: str) -> str:
    runs = [run.curve("sepa_gate_open") for run in view.of(label)]
    logged = [run for run in runs if not run.is_empty]
    opened = [
        float(run.steps_T[np.argmax(run.values_T == 1)]) for run in logged if 1 in run.values_T
    ]
    if not logged:
        return f"The gate of {label} was not logged."
    if not opened:
        return f"The gate of {label} never opened."
    first, last = min(opened), max(opened)
    when = f"at step {first:g}" if first == last else f"between steps {first:g} and {last:g}"
    share = f"{len(opened)} of {count_text(len(logged), 'run')}"
    return f"The gate of {label} opened {when} (rings) in {share}."


def _gate_marks(view: StudyView, using: Sequence[str]) -> list[Mark]:
    marks = []
    for label in using:
        for run in view.of(label):
            gate, strength = run.curve("sepa_gate_open"), run.curve("sepa_lambda")
            if 1 not in gate.values_T:
                continue
            place = int(np.argmax(gate.values_T == 1))
            value = float(strength.values_T[place])
            if np.isfinite(value):
                step = float(gate.steps_T[place])
                words = f"{label}, seed {run.seed}: gate open from step {step:g}"
                marks.append(Mark(condition=label, step=step, value=value, words=words))
    return marks


def _figures(figures: Sequence[str]) -> str:
    return f'<div class="figs">{"".join(figures)}</div>' if figures else ""


def _missing(parts: Sequence[str]) -> str:
    if not parts:
        return ""
    text = "; ".join(parts)
    return f'<p class="lede"><small>Not shown: {escape(text)}.</small></p>'
