"""Reports as markdown: the sentence first, then the table, then what it rests on.

Knows how to lay out report data; refuses to compute anything that is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cupel.analysis.sentence import amount, difference, p_text

NONE = "–"
_METHODS = {"holm": "Holm", "max_t": "max-T", "benjamini_hochberg": "BH"}
_CONDITIONS = {
    "symmetric_differences": "seed differences are symmetric about their centre under the null",
    "normal_differences": "seed differences are normal",
    "these_prompts": "the prompts are these ones",
    "these_checkpoints": "the training runs are these two",
    "paired_by_order": "runs belong together in the order given; their seeds are not known",
    "failures_counted": "runs that failed by their own doing count with the declared value",
}


def significance_markdown(report: Mapping[str, Any]) -> str:
    """Return a significance report as markdown."""
    blocks: Mapping[str, Any] = report["metrics"]
    primary = blocks[report["primary"]]
    lines = ["# Significance", "", report["sentence"], ""]
    lines += [
        f"Recommendation: `{report['recommendation_retrain']}` "
        f"(`{report['recommendation_textpolicy']}`). Mode: {report['mode']}.",
        "",
    ]
    if report["disagreement"]:
        lines += [report["disagreement"], ""]
    lines += _effects(blocks)
    lines += ["", "## Runs", "", *_runs(report["runs"], primary["metric"])]
    lines += ["", "## What this rests on", "", *_assumptions(primary, report)]
    pooled = {name: block["legacy"] for name, block in blocks.items() if block["legacy"]}
    if pooled:
        lines += ["", "## Legacy: pooled completions", "", *_legacy(pooled, blocks)]
    return "\n".join(lines) + "\n"


def _effects(blocks: Mapping[str, Any]) -> list[str]:
    rows = []
    for block in blocks.values():
        metric = block["metric"]
        corrected = block["multiplicity"]["p_adjusted"]
        method = _METHODS.get(block["multiplicity"]["method"], "")
        rows.append(
            [
                metric,
                f"{block['candidate']} − {block['baseline']}",
                block["multiplicity"]["family"],
                f"{block['scope']}, {block['n_seeds']} seeds",
                _difference(block["delta"], metric),
                _ends(block["ci95"], metric),
                p_text(block["p"])
                + (f" ({method} {p_text(corrected)})" if corrected is not None else ""),
                block["verdict"],
            ]
        )
    level = f"{100 * next(iter(blocks.values()))['ci_level']:.4g} % CI"
    titles = ["endpoint", "contrast", "family", "scope", "effect", level, "p", "verdict"]
    return _table(titles, rows)


def _runs(runs: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    rows = [
        [
            run["folder"],
            _text(run["condition"]),
            _text(run["seed"]),
            run["status"] + (f": {run['failure'].get('message')}" if run["failure"] else ""),
            amount(run["value"], metric) if run["value"] is not None else NONE,
            run["origin"].replace("_", " "),
        ]
        for run in runs
    ]
    return _table(["run", "condition", "seed", "status", metric, "origin"], rows)


def _assumptions(block: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"- Endpoint: {block['metric']} over {block['over']}; one number per run; "
        f"unit of inference: the {block['unit']}.",
        "- Primary test: "
        + (
            "paired t, which assumes normal seed differences."
            if block["p_method"] == "paired_t"
            else "sign flips of the seed differences; assumes symmetry under the null only."
        ),
    ]
    if block["ci_coverage"] is not None:
        lines.append(
            f"- Interval: {block['ci_method']}, exact coverage {100 * block['ci_coverage']:.1f} %."
        )
    if block["t"] is not None:
        lines.append(
            f"- Companion, never the verdict: paired t p = {p_text(block['t']['p'])}, "
            f"interval {_ends(block['t']['ci95'], block['metric'])}."
        )
    if block["pairing"]["rho"] is not None:
        lines.append(f"- Correlation of paired runs: {block['pairing']['rho']:.2f}.")
    lines += [f"- Reason: {reason}." for reason in block["reasons"]]
    lines += [
        f"- Holds if: {_CONDITIONS[one['name']]}."
        for one in block["conditions"]
        if one["name"] in _CONDITIONS
    ]
    lines += _looks(block) + _crossed(block) + _checkpoint(block)
    lines += [
        f"- Sensitivity, {row['analysis'].replace('_', ' ')}: "
        f"{_difference(row['delta'], block['metric'])} over {row['n_seeds']} seeds, "
        f"{row['verdict']}."
        for row in block["sensitivity"]
    ]
    for arm in ("baseline", "candidate"):
        failed, total, bound = block["collapse"][arm]
        if total:
            lines.append(
                f"- {block[arm]}: {failed} of {total} runs failed by their own doing "
                f"(at most {100 * bound:.0f} % with 95 % confidence)."
            )
    lines += [f"- {note}" for note in report["notes"]]
    return lines


def _looks(block: Mapping[str, Any]) -> list[str]:
    looks = block["looks"]
    if looks["of"] == 1:
        return []
    if not looks["k"]:
        return [
            f"- Looks: none of {looks['of']} reached; the first is at {looks['sizes'][0]} seeds."
        ]
    how = looks["spending"].replace("obrien_fleming", "O'Brien-Fleming").replace("pocock", "Pocock")
    return [
        f"- Look {looks['k']} of {looks['of']} ({how}, {looks['combination'].replace('_', ' ')}): "
        f"level {p_text(looks['alpha_spent'])}, p over looks {p_text(block['p'])}, "
        f"unadjusted ~~{p_text(block['unadjusted'])}~~."
    ]


def _crossed(block: Mapping[str, Any]) -> list[str]:
    t2 = block["t2"]
    if not t2["available"]:
        return [f"- For new prompts too: no interval ({t2['reason'].replace('_', ' ')})."]
    return [
        f"- For new prompts too (scope {t2['scope']}, {t2['n_seeds']} seeds x {t2['n_prompts']} "
        f"prompts, two-way clustered, df {t2['df']:.1f}): "
        f"{_difference(t2['delta'], block['metric'])}, {_ends(t2['ci95'], block['metric'])}."
    ]


def _checkpoint(block: Mapping[str, Any]) -> list[str]:
    found = block.get("checkpoint")
    if not found:
        return []
    lines = [
        f"- These two checkpoints only, by prompt ({found['n_prompts']} prompts, clustered): "
        f"{_difference(found['delta'], block['metric'])}, "
        f"{_ends(found['ci95'], block['metric'])}."
    ]
    if found["mcnemar"] is not None:
        lines.append(
            f"- McNemar on {found['mcnemar']['discordant']} discordant prompts: "
            f"exact p = {p_text(found['mcnemar']['p'])}, "
            f"mid-p = {p_text(found['mcnemar']['mid_p'])}."
        )
    return lines


def _legacy(pooled: Mapping[str, Any], blocks: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, block in pooled.items():
        low, high = block["bootstrap_ci95"]
        effect, metric = blocks[name]["design_effect"], blocks[name]["metric"]
        rows.append(
            [
                name,
                difference(block["delta"], metric),
                p_text(block["fisher_p"]) if "fisher_p" in block else NONE,
                p_text(block["permutation_p"]),
                f"{difference(low, metric)} to {difference(high, metric)}",
                f"{block['cohens_d']:.3f}" if block["cohens_d"] is not None else NONE,
                _text(block["n_per_arm_80"]),
                f"{effect:.1f}" if effect is not None else NONE,
                f"`{block['recommendation']}`",
                "yes" if block["agreement"] else "no",
            ]
        )
    titles = ["metric", "delta", "Fisher p", "permutation p", "bootstrap 95 % CI", "Cohen's d"]
    titles += ["n per arm for 80 %", "design effect", "recommendation", "agrees"]
    note = (
        "These tests treat every completion as independent, which completions of one run are not."
    )
    return [note, "", *_table(titles, rows)]


def litmus_markdown(report: Mapping[str, Any]) -> str:
    """Return a litmus report as markdown."""
    lines = ["# Litmus", "", litmus_sentence(report), ""]
    rows = [
        [
            check["metric"],
            _number(check["baseline"]),
            _number(check["candidate"]),
            _number(check["delta"], sign=True),
            _ends(check["ci95"], ""),
            f"{check['threshold']:g}",
            "yes" if check["passed"] else "no",
        ]
        for check in report["checks"]
    ]
    titles = ["check", report["baseline_label"], report["candidate_label"], "lift"]
    lines += _table([*titles, "95 % CI over seeds", "threshold", "point reached"], rows)
    if report["evidence_failures"]:
        lines += ["", "## Missing evidence", ""]
        lines += [f"- {message}" for message in report["evidence_failures"]]
    lines += ["", "## Legacy: by point", "", f"Point verdict: {report['legacy_verdict']}."]
    return "\n".join(lines) + "\n"


def litmus_sentence(report: Mapping[str, Any]) -> str:
    """Return the litmus verdict in one sentence."""
    name = f"{report['candidate_label']} against {report['baseline_label']}"
    opening = f"{report['verdict']}: {name} under profile {report['profile']}"
    if report["evidence_failures"]:
        return f"{opening}; {len(report['evidence_failures'])} evidence requirement(s) not met."
    by = "intervals over seeds" if report["mode"] == "interval" else "point differences"
    return f"{opening}, judged by {by}."


def comparison_markdown(report: Mapping[str, Any]) -> str:
    """Return a comparison as markdown."""
    metric = report["endpoint"]
    lines = ["# Comparison", ""]
    if report.get("delta", {}).get("correct_rate") is not None:
        lines += [
            f"All completions: {report['candidate']['label']} minus "
            f"{report['baseline']['label']} = "
            f"{difference(report['delta']['correct_rate'], 'correct_rate')} in correct rate "
            "(a description; the verdict is in significance.md).",
            "",
        ]
    rows = []
    for row in report["conditions"]:
        endpoint = row["endpoint"]
        rows.append(
            [
                row["condition"],
                f"{row['finished']} of {row['runs']}"
                + (f", {row['failed']} failed" if row["failed"] else ""),
                str(row["total_generations"]),
                str(row["correct"]),
                _amount(row["correct_rate"], "correct_rate"),
                _number(row["mean_reward"]),
                str(row["training_steps"]),
                f"{_amount(endpoint['mean'], metric)} (n = {endpoint['n']})",
                _interval(endpoint["ci95"], metric),
            ]
        )
    titles = ["condition", "runs finished", "completions", "correct", "correct rate"]
    titles += ["mean reward", "steps", f"{metric} over {report['over']}", "95 % CI (t, runs)"]
    lines += _table(titles, rows)
    lines += ["", "## Runs", "", *_runs(report["runs"], metric)]
    if report["notes"]:
        lines += ["", "## Notes", "", *(f"- {note}" for note in report["notes"])]
    return "\n".join(lines) + "\n"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return head + ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _text(value: Any) -> str:
    return NONE if value is None else str(value)


def _number(value: float | None, *, sign: bool = False) -> str:
    return NONE if value is None else f"{value:{'+' if sign else ''}.4g}"


def _amount(value: float | None, metric: str) -> str:
    return NONE if value is None else amount(value, metric)


def _difference(value: float | None, metric: str) -> str:
    return NONE if value is None else difference(value, metric)


def _ends(ends: Sequence[float | None] | None, metric: str) -> str:
    low, high = ends or (None, None)
    if low is None and high is None:
        return "unbounded" if ends else NONE
    return f"{_difference(low, metric)} to {_difference(high, metric)}"


def _interval(ends: Sequence[float | None] | None, metric: str) -> str:
    low, high = ends or (None, None)
    return NONE if low is None else f"{_amount(low, metric)} to {_amount(high, metric)}"
