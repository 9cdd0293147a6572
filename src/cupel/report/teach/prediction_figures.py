"""Figures of prediction and of selection: the predictor against its rivals (H6), and what each way
of selecting gains and loses (H7).

Draws with matplotlib. Knows evaluation_metrics.json and the selection's evaluations; refuses to
show a score without the ceiling that noisy labels put on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cupel.report.palette import LIGHT
from cupel.report.teach.canvas import canvas, minus, percent_axis, point
from cupel.report.teach.results import MissingInput, Row, TeachResults, number
from cupel.report.teach.selection import MethodPoint, selection_points
from cupel.report.teach.training_figures import DROP_LIMIT

HEADS: Mapping[str, str] = {
    "uncertainty": "U",
    "leverage": "L_local",
    "elp": "ELP",
}
METHOD_COLOURS: Mapping[str, str] = {
    "random": LIGHT[6],
    "entropy": LIGHT[1],
    "predictor": LIGHT[0],
    "oracle": LIGHT[2],
}
METHOD_MARKERS: Mapping[str, str] = {
    "random": "X",
    "entropy": "s",
    "predictor": "o",
    "oracle": "^",
}


def predictor(results: TeachResults) -> Any:
    """H6: R2 of each head beside its ceiling, and the ranking of moments beside its rivals."""
    told = results.json("evaluation_metrics.json")
    scores = told.get("regression_metrics") or {}
    heads = [head for head in HEADS if number(scores.get(head), "r2") is not None]
    ranked = (told.get("ranking") or {}).get("rankings") or {}
    if not heads and not ranked:
        raise MissingInput(
            f"{results.path('evaluation_metrics.json')}: neither an R2 nor a ranking"
        )
    figure, (left, middle, right) = canvas(9.6, 3.4, columns=3, width_ratios=(1.0, 1.2, 1.2))
    _r2(left, scores, heads, told)
    n = (told.get("ranking") or {}).get("n", 0)
    chosen = str(told.get("model", ""))
    _ranking(middle, ranked, "ndcg", "NDCG@K", chosen, n)
    _ranking(right, ranked, "precision_pos", "Precision@K (% with ELP > 0)", chosen, n)
    percent_axis(right.yaxis)
    handles, labels = middle.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7.5)
    return figure


def _r2(axes: Any, scores: Row, heads: Sequence[str], told: Row) -> None:
    required = {gate.get("name"): gate.get("required") for gate in told.get("gates", ())}
    names = []
    for place, head in enumerate(heads):
        value, ceiling = number(scores[head], "r2"), number(scores[head], "ceiling_r2")
        assert value is not None
        names.append(f"{HEADS[head]}\nn = {scores[head].get('n')}")
        axes.bar(place, value, width=0.55, color=LIGHT[0])
        axes.annotate(
            minus(f"{value:.2f}"), (place, max(value, 0.0)), xytext=(0, 2), ha="center",
            textcoords="offset points", fontsize=7.5,
        )  # fmt: skip
        for level, style, label in (
            (ceiling, "-", "ceiling by label noise"),
            (required.get(f"R2({head})"), ":", "required"),
        ):
            if level is not None:
                axes.plot([place - 0.36, place + 0.36], [level, level], style, color="black",
                          linewidth=1.3, label=label)  # fmt: skip
    if not heads:
        axes.text(0.5, 0.5, "no head has an R²", ha="center", transform=axes.transAxes)
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(top=1.15)
    axes.set_ylabel("R², out of fold")
    axes.set_title(f"predictor ({told.get('model')})")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if unique:
        axes.legend(unique.values(), unique.keys(), fontsize=7, loc="upper right")


def _ranking(axes: Any, ranked: Row, score: str, title: str, chosen: str, n: int) -> None:
    for place, (name, by_k) in enumerate(ranked.items()):
        found = [(int(each["k_used"]), number(each, score)) for each in by_k.values()]
        known = sorted({(k, value) for k, value in found if value is not None})
        if known:
            axes.plot(
                [k for k, _ in known],
                [value for _, value in known],
                marker="osD^vPX*"[place % 8],
                markersize=4.5,
                linewidth=2.0 if name == chosen else 1.0,
                color=LIGHT[place % len(LIGHT)],
                label=name,
            )
    base = [number(each, "base_rate") for by_k in ranked.values() for each in by_k.values()]
    if score == "precision_pos" and base and base[0] is not None:
        axes.axhline(base[0], color="0.5", linewidth=0.9, linestyle=(0, (3, 2)))
        axes.annotate("all moments", (0.98, base[0]), xycoords=("axes fraction", "data"),
                      xytext=(0, 2), textcoords="offset points", fontsize=7, ha="right",
                      color="0.4")  # fmt: skip
    axes.set_xlabel("K")
    axes.set_title(f"{title}, n = {n}")


def selection(results: TeachResults) -> Any:
    """H7: gain on the failure panel against retained tasks lost, by selection method."""
    points = selection_points(results)
    drawn = [each for each in points if each.gain.value is not None and each.drop.value is not None]
    if not drawn:
        raise MissingInput(f"{results.selection_folder()}: no method with a gain and a drop")
    figure, (axes,) = canvas(5.8, 3.9)
    named: set[str] = set()
    for place, each in enumerate(drawn):
        assert each.gain.value is not None
        assert each.drop.value is not None
        kind = each.method.partition("_")[0]
        point(
            axes,
            (each.drop.value, each.gain.value),
            x_interval=each.drop.interval,
            y_interval=each.gain.interval,
            colour=METHOD_COLOURS.get(kind, LIGHT[place % len(LIGHT)]),
            marker=METHOD_MARKERS.get(kind, "D"),
            label=None if each.method in named else f"{each.method}{_n(each)}",
        )
        if each.method != kind:
            axes.annotate(
                each.method.removeprefix(f"{kind}_"), (each.drop.value, each.gain.value),
                xytext=(5, 4), textcoords="offset points", fontsize=7,
            )  # fmt: skip
        named.add(each.method)
    for draw in (axes.axhline, axes.axvline):
        draw(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.axvline(DROP_LIMIT, color="0.5", linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
    percent_axis(axes.xaxis, signed=True)
    percent_axis(axes.yaxis, signed=True)
    axes.set_xlabel(f"retained tasks lost (pp); dashed: limit\nbars: 95 % over {drawn[0].of}")
    axes.set_ylabel("success on the failure panel\nless the start's (pp)")
    axes.set_title(f"selections of equal size{_budget(results)}")
    figure.legend(loc="outside right center", fontsize=7.5)
    return figure


def _budget(results: TeachResults) -> str:
    config = results.json("selection_summary.json").get("config") or {}
    budget = config.get("budget_k", config.get("budget"))
    if isinstance(budget, list):
        return f", K = {', '.join(map(str, budget))}"
    return "" if budget is None else f", K = {budget}"


def _n(each: MethodPoint) -> str:
    return "" if each.gain.n is None else f" (n = {each.gain.n})"
