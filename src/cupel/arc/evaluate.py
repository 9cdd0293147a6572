"""The recipe `arc.evaluate`: every test input in many variants, votes, pass@k, a submission.

Knows a training's run folder, which puzzles a view names, and the files of an evaluation. Refuses
to judge on puzzles that were trained on, and to compute a number from anything but the rows this
evaluation wrote. Puzzles are done in blocks: killed and resumed, the files are the same bytes.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cupel.arc.checkpoints import load_model_weights
from cupel.arc.evaluation_config import EvaluateConfig
from cupel.arc.evaluation_metrics import EVALUATIONS as EVALUATION_METRICS
from cupel.arc.evaluation_metrics import METRICS, prediction_values, score_values
from cupel.arc.evaluation_pass import Outcome, answer_items
from cupel.arc.evaluation_rows import (
    EVALUATIONS,
    PREDICTIONS,
    PUZZLES,
    grid_text,
    prediction_of,
    puzzle_row,
    solved_within,
)
from cupel.arc.grids import Puzzle
from cupel.arc.items import Item, evaluation_items
from cupel.arc.model import ARCModel
from cupel.arc.puzzles import load_puzzles, refuse_contamination
from cupel.arc.submission import submission, write_submission
from cupel.arc.tokens import decode
from cupel.arc.trained import Trained, find_checkpoint, open_trained
from cupel.arc.views import make_views
from cupel.arc.voting import Prediction, ballots, same, score
from cupel.lab.files import read_json_lines
from cupel.lab.metrics import Metric, Scalar
from cupel.lab.recipe import Forecast, Result, RunContext

SUBMISSION = "submission.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be evaluated.

    Attributes:
        puzzles: in the order of their rows: by canvas side, then as the view orders them.
        indices: of puzzles that were trained on, by id: their place among the training groups.
        contamination: clean, contaminated or unknown.
    """

    trained: Trained
    puzzles: tuple[Puzzle, ...]
    indices: Mapping[str, int]
    contamination: str

    @property
    def solved(self) -> tuple[Puzzle, ...]:
        """Puzzles whose answers are known; only they are scored."""
        return tuple(puzzle for puzzle in self.puzzles if puzzle.solved)


class EvaluateRecipe:
    """`arc.evaluate`: one checkpoint on one view."""

    name = "arc.evaluate"
    config_type = EvaluateConfig
    streams: Mapping[str, Sequence[Metric] | None] = {
        "metrics.jsonl": METRICS,
        EVALUATIONS: EVALUATION_METRICS,
        PREDICTIONS: None,
        PUZZLES: None,
    }
    preload = ("cupel.arc.evaluate",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Name the very checkpoint, so that a training that went on is another evaluation."""
        if not isinstance(data.get("checkpoint"), str):
            return data
        return {**data, "checkpoint": str(find_checkpoint(Path(data["checkpoint"])))}

    def forecast(self, config: EvaluateConfig) -> Forecast:
        """Bound the predictions; whatever refuses the input does so before anything is written."""
        work = open_work(config)
        inputs = sum(len(puzzle.tests) for puzzle in work.puzzles)
        unsolved = len(work.puzzles) - len(work.solved)
        return Forecast(
            costs={
                "steps": len(work.puzzles),
                "predictions": inputs * config.n_augmentations,
            },
            notes=[
                f"{len(work.puzzles)} puzzles of the view {config.view}: {work.contamination}",
                *([f"{unsolved} without solution: predicted, not scored"] if unsolved else []),
            ],
        )

    def run(self, config: EvaluateConfig, context: RunContext) -> Result:
        """Predict block after block, then count the votes from the rows."""
        return evaluate(config, context)


RECIPE = EvaluateRecipe()


def evaluate(config: EvaluateConfig, context: RunContext) -> Result:
    """Evaluate from the start, or from the block after the checkpoint in `context`."""
    work = open_work(config)
    done = context.resume.state["done"] if context.resume is not None else 0
    if done == 0:
        context.recorder.event(_begun(work, config))
    model = _model(work.trained, config, context)
    for block in blocks(work, config, skip=done, seed=context.seed):
        context.recorder.doing = f"answering puzzle {done + 1} of {len(work.puzzles)}"
        answer_block(block, model, work, config, context, done)
        done += len(block)
        context.checkpoints.save(done, lambda folder: None, {"done": done})
    return conclude(work, config, context)


def open_work(config: EvaluateConfig) -> Work:
    """Find the checkpoint and the puzzles of the view.

    Raises:
        DataError: no such checkpoint, no such puzzle source, or held-out puzzles that were
            trained on although the training did not ask for that.
    """
    trained = open_trained(Path(config.checkpoint))
    train = trained.config
    source = train.source
    if config.evaluation is not None:
        source = source.model_copy(update={"evaluation": config.evaluation})
    views = make_views(
        load_puzzles(source),
        max_train_groups=train.max_train_groups,
        max_eval_groups=config.max_eval_groups,
        max_side=config.max_side or train.max_side,
        order_seed=train.order_seed,
        train_on_heldout_demos=train.train_on_heldout_demos,
    )
    puzzles = views.heldout
    if config.view == "train_probe":
        puzzles = views.train_probe[: config.max_probe_groups]
    elif not (train.train_on_heldout_demos or source.known_twins == "keep"):
        refuse_contamination(views.train_groups, views.heldout)
    contamination: str = views.contamination
    if config.view == "train_probe":
        contamination = "contaminated"
    if contamination == "clean" and train.load_pretrained_decoder is not None:
        contamination = "unknown"
    return Work(
        trained=trained,
        puzzles=puzzles,
        indices={puzzle.id: index for index, puzzle in enumerate(views.train_groups)},
        contamination=contamination,
    )


def blocks(
    work: Work, config: EvaluateConfig, *, skip: int, seed: int
) -> Iterator[list[tuple[Puzzle, list[Item]]]]:
    """Yield puzzles of one side together until a batch is full; a puzzle is never cut in two."""
    by_id = {puzzle.id: puzzle for puzzle in work.puzzles}
    stream = evaluation_items(work.puzzles, config.n_augmentations, seed, work.trained.config.sides)
    grouped = itertools.groupby(stream, key=lambda item: item.puzzle_id)
    block: list[tuple[Puzzle, list[Item]]] = []
    for number, (puzzle_id, group) in enumerate(grouped):
        if number < skip:
            continue
        items = [_placed(item, work) for item in group]
        if block and block[0][1][0].side != items[0].side:
            yield block
            block = []
        block.append((by_id[puzzle_id], items))
        if sum(len(each) for _, each in block) >= config.batch_size:
            yield block
            block = []
    if block:
        yield block


def answer_block(
    block: Sequence[tuple[Puzzle, Sequence[Item]]],
    model: ARCModel,
    work: Work,
    config: EvaluateConfig,
    context: RunContext,
    done: int,
) -> None:
    """Answer all items of a block and write their rows."""
    started = time.perf_counter()
    train = work.trained.config
    items = [item for _, each in block for item in each]
    outcomes: list[Outcome] = []
    for first in range(0, len(items), config.batch_size):
        outcomes += answer_items(
            model,
            items[first : first + config.batch_size],
            steps=config.halt_max_steps or train.halting.halt_max_steps,
            early_exit=config.early_exit,
            loss_type=train.loss.loss_type,
            device=torch.device(context.slot.device),
        )
    elapsed = time.perf_counter() - started
    remaining = iter(outcomes)
    for number, (puzzle, each) in enumerate(block, done):
        _write_puzzle(
            puzzle, list(itertools.islice(remaining, len(each))), context, number, elapsed
        )


def conclude(work: Work, config: EvaluateConfig, context: RunContext) -> Result:
    """Count the votes from the rows on disk, write the submission and the one evaluation row.

    Raises:
        DataError: the rows are not those of the puzzles to be evaluated.
    """
    path = context.folder / PREDICTIONS
    rows = read_json_lines(path)
    votes = [prediction_of(row, where=f"{path} row {n}") for n, row in enumerate(rows, 1)]
    counted = ballots(votes)
    made = submission(counted, {puzzle.id: len(puzzle.tests) for puzzle in work.puzzles})
    write_submission(context.folder / SUBMISSION, made)
    variants = {row["puzzle"]: set[str]() for row in rows}
    for row in rows:
        variants[row["puzzle"]].add(row["augmentation"])
    values: dict[str, Scalar] = {
        "step": work.trained.step,
        "condition": context.condition,
        "seed": context.seed,
        "view": config.view,
        "weights": config.weights,
        "contamination": work.contamination,
        "puzzles": len(work.puzzles),
        "inputs": sum(len(puzzle.tests) for puzzle in work.puzzles),
        "augmentations": max(len(names) for names in variants.values()),
        "empty": sum(ballot.empty for ballot in counted.values()),
        "placeholders": len(made.placeholders),
        **prediction_values(rows),
        **_scored(votes, work.solved),
    }
    context.recorder.log(EVALUATIONS, values)
    return Result(values={k: v for k, v in values.items() if k not in ("condition", "seed")})


def _scored(votes: Sequence[Prediction], solved: Sequence[Puzzle]) -> dict[str, Scalar]:
    if not solved:
        return score_values(None)
    ids = [puzzle.id for puzzle in solved]
    truths = {p.id: [pair.output for pair in p.tests if pair.output is not None] for p in solved}
    known = [vote for vote in votes if vote.puzzle_id in truths]
    return score_values(score(known, truths, evaluated=ids))


def _write_puzzle(
    puzzle: Puzzle, outcomes: Sequence[Outcome], context: RunContext, number: int, elapsed: float
) -> None:
    rows = [prediction_row(puzzle, outcome) for outcome in outcomes]
    votes = [prediction_of(row, where=f"puzzle {puzzle.id}") for row in rows]
    row = puzzle_row(puzzle, ballots(votes))
    exact = [outcome.exact for outcome in outcomes if outcome.exact is not None]
    context.recorder.log_many(PREDICTIONS, rows)
    context.recorder.log(PUZZLES, row)
    context.recorder.log(
        "metrics.jsonl",
        {
            "step": number,
            "condition": context.condition,
            "seed": context.seed,
            "puzzle": puzzle.id,
            "side": outcomes[0].item.side,
            "inputs": len(puzzle.tests),
            "predictions": len(rows),
            "exact_accuracy": exact.count(True) / len(exact) if exact else None,
            "solved@1": solved_within(row, 1),
            "solved@2": solved_within(row, 2),
            "batch_time_s": elapsed,
        },
    )


def prediction_row(puzzle: Puzzle, outcome: Outcome) -> dict[str, Any]:
    """Return one row: the answer in the puzzle's own frame, and how it was reached."""
    item = outcome.item
    assert item.test_index is not None
    predicted = item.augmentation.inverse().apply(decode(outcome.tokens, item.side, item.offset))
    truth = puzzle.tests[item.test_index].output
    return {
        "puzzle": puzzle.id,
        "test_index": item.test_index,
        "augmentation": item.augmentation.name(puzzle.id),
        "predicted": grid_text(predicted),
        "q": outcome.q,
        "correct": None if truth is None else same(predicted, truth),
        "steps": outcome.steps,
        "halted_at": outcome.halted_at,
        "accuracy": outcome.accuracy,
        "exact": outcome.exact,
        "exact_at_halt": outcome.exact_at_halt,
        "lm_loss": outcome.lm_loss,
        "q_halt_loss": outcome.q_halt_loss,
        "halt_right": outcome.halt_right,
    }


def _model(trained: Trained, config: EvaluateConfig, context: RunContext) -> ARCModel:
    torch.set_num_threads(context.slot.threads)
    model = ARCModel(trained.config.model, generator=torch.Generator().manual_seed(0))
    load_model_weights(trained.folder, model, which=config.weights)
    return model.to(context.slot.device)


def _placed(item: Item, work: Work) -> Item:
    """Give an item the place of its puzzle among the training groups; -1 where it has none."""
    return dataclasses.replace(item, puzzle_index=work.indices.get(item.puzzle_id, -1))


def _begun(work: Work, config: EvaluateConfig) -> str:
    return (
        f"evaluates step {work.trained.step} of {work.trained.run_folder.name} ({config.weights} "
        f"weights) on {len(work.puzzles)} puzzles of the view {config.view}: {work.contamination}"
    )
