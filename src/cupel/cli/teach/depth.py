"""`cupel teach depth`: how far back a failure could still be recovered."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.source import json_option

_BINS = ("0", "1", "2", "3+", "never")


@click.command()
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="labeled_snapshots.jsonl with leverage, mined at several offsets a trajectory.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="labeled_snapshots.jsonl and .json go here.",
)
@click.option(
    "--tau",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.5,
    show_default=True,
    help="Success probability from which a state is recoverable.",
)
@json_option
def command(source: Path, output_dir: Path, tau: float, as_json: bool) -> None:
    """Find how many steps back success was still likely, by the expert and by one right action.

    d_expert and d_force are the smallest numbers of steps back, among those that were mined and
    labelled, at which p_expert and p_force reach tau; null where none does.

    \b
    Examples:
      cupel teach depth --input results/phase1/labeled_snapshots.jsonl --output-dir results/phase1
      cupel teach depth --input l.jsonl --output-dir out --tau 0.8 --json
    """
    from cupel.teach.labelling.depth import with_depth
    from cupel.teach.labelling.files import LINES, read_labels, write_labels

    rows = read_labels(source)
    if not any(row.leverage is not None for row in rows):
        raise Stop(f"{source}: no row has leverage; label it first with cupel teach leverage")
    labels = with_depth(rows, tau=tau)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_labels(output_dir, labels)
    depths = [row.depth for row in labels if row.depth is not None]
    counts = {
        name: {step: sum(_bin(getattr(depth, name)) == step for depth in depths) for step in _BINS}
        for name in ("d_expert", "d_force")
    }
    if as_json:
        console.print_json({"output": str(output_dir / LINES), "tau": tau, "counts": counts})
        return
    console.table(
        ["steps back", "d_expert", "d_force"],
        [[step, counts["d_expert"][step], counts["d_force"][step]] for step in _BINS],
    )
    ladders = sum(len(depth.offsets) > 1 for depth in depths)
    if not ladders:
        console.warn(
            "every trajectory has one snapshot only, so depth is 0 or never; mine a ladder of "
            "offsets with cupel teach mine"
        )
    console.line(f"written: {output_dir / LINES}")


def _bin(depth: int | None) -> str:
    return "never" if depth is None else "3+" if depth >= 3 else str(depth)
