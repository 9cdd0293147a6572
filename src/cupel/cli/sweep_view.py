"""How a sweep is printed: one row a probe, one row a rate, and the command that uses the choice.

Knows words and columns. Refuses to compute anything.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupel.cli import console

if TYPE_CHECKING:
    from cupel.analysis.probes import SweepReading
    from cupel.analysis.sweep import Choice, ValueSummary

ARMS = 2
SMALL = 0.01


def show_choices(reading: SweepReading, commands: Sequence[str]) -> None:
    """Print the probes, the rates with what is known of them, the choices and the next command."""
    seeds = reading.results["probe_seeds"]
    columns = ["Algorithm", "LR", "Seed", "Steps", "Datums", "Correct%", "Running%", "MeanLoss"]
    rows = [_probe_row(row) for row in reading.results["results"]]
    if len(seeds) == 1:
        columns.remove("Seed")
        rows = [[*row[:2], *row[3:]] for row in rows]
    console.line()
    console.table([*columns, "Status"], rows, title="LEARNING RATE SWEEP RESULTS")
    console.line()
    score = reading.results["score"]
    console.table(
        [
            "Algorithm",
            "LR",
            "Seeds",
            "Mean ± SE",
            "P(best)",
            "Within 1 SE",
            "Chosen",
        ],
        [_rate_row(value, one) for one in reading.choices for value in one.values],
        title=f"{score['metric']} over {score['over']} of the steps, by rate",
    )
    console.line()
    for choice in reading.choices:
        console.line(_choice_line(choice))
    if commands:
        console.line("at these rates:")
        for command in commands:
            console.line(f"  {command}")


def campaign_command(folder: Path, reading: SweepReading) -> list[str]:
    """Return the commands that use the chosen rates; none when a rate is missing.

    Two algorithms: the A/B with both rates spelled out, and its short form. One: a single run.
    More: a campaign, whose rates only `--lr-from` can give.
    """
    chosen = {one.algorithm: one.value for one in reading.choices}
    if any(value is None for value in chosen.values()):
        return []
    labels, flags = list(chosen), _flags(folder)
    source = ["--lr-from", str(folder)]
    if len(labels) == 1:
        rate = ["--lr", repr(chosen[labels[0]])]
        return [shlex.join(["cupel", "train", *_arm_flags(labels[0]), *rate, *flags])]
    if len(labels) > ARMS:
        return [
            shlex.join(["cupel", "campaign", "--conditions", ",".join(labels), *source, *flags])
        ]
    arms = ["cupel", "ab", "--baseline", labels[0], "--candidate", labels[1]]
    rates = ["--baseline-lr", repr(chosen[labels[0]]), "--candidate-lr", repr(chosen[labels[1]])]
    return [
        shlex.join([*arms, *rates, *flags, "--execute"]),
        shlex.join([*arms, *source, *flags, "--execute"]),
    ]


def lr_text(lr: float) -> str:
    """Return a rate exactly, and short where that is exact too: `2e-04`, `1.5e-05`, `100`."""
    short = f"{lr:.0e}" if lr < SMALL else f"{lr:g}"
    return short if float(short) == lr else repr(lr)


def _probe_row(row: Mapping[str, Any]) -> list[console.Cell]:
    return [
        row["algorithm"],
        lr_text(row["lr"]),
        row["seed"],
        row["training_steps"],
        row["total_datums"],
        _percent(row["final_correct_rate"]),
        _percent(row["final_running_correct_rate"]),
        None if row["mean_loss"] is None else f"{row['mean_loss']:.4f}",
        row["status"],
    ]


def _rate_row(value: ValueSummary, choice: Choice) -> list[console.Cell]:
    return [
        value.algorithm,
        lr_text(value.value),
        value.seeds,
        _mean_text(value),
        None if value.rank_probability is None else f"{value.rank_probability:.2f}",
        "yes" if value.within_1se else "",
        "<" if value.value == choice.value else "",
    ]


def _mean_text(value: ValueSummary) -> str:
    if value.mean is None:
        return value.state
    error = "SE unknown" if value.se is None else f"± {100 * value.se:.1f}"
    return f"{100 * value.mean:.1f}% {error}"


def _choice_line(choice: Choice) -> str:
    if choice.value is None:
        return f"{choice.algorithm}: no learning rate could be chosen"
    level = console.MISSING if choice.level is None else f"{100 * choice.level:.1f}%"
    how = "mean score" if choice.select == "within_1se" else "final running_correct_rate"
    edge = " (edge of the grid)" if choice.edges else ""
    return f"{choice.algorithm}: best lr {choice.value!r}{edge}, {how} {level}"


def _percent(rate: float | None) -> str | None:
    return None if rate is None else f"{100 * rate:.1f}%"


def _flags(folder: Path) -> list[str]:
    """Return the settings the probes shared, as flags."""
    from cupel.cli.diff import flat
    from cupel.lab.store import read_study

    words: list[str] = []
    config = {k: v for k, v in read_study(folder).study.config.items() if k != "max_steps"}
    for path, value in flat("", config).items():
        key = path.lstrip(".")
        if value is None:
            continue
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            words += [_flag(key), str(value)]
        else:
            words += ["--set", f"{key}={json.dumps(value)}"]
    return words


def _flag(key: str) -> str:
    """Return the flag of a setting, the short one of the documented commands where it has one."""
    from cupel.cli.rlvr_flags import BASE_URL, SHORT_NAMES

    if key.startswith("policy.") and key.endswith(BASE_URL):
        return "--base-url"
    return next(iter(SHORT_NAMES.get(key, ())), "--" + key.replace("_", "-"))


def _arm_flags(label: str) -> list[str]:
    from cupel.rlvr.campaign import condition_settings

    words: list[str] = []
    for key, value in condition_settings(label).items():
        flag = "--" + key.replace("_", "-")
        words += [flag] if value is True else [flag, str(value)]
    return words
