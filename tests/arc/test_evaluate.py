"""An evaluation end to end: its files, its denominators, resumption, and what it refuses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cupel.arc.augmentations import parse_name
from cupel.arc.checkpoints import write_checkpoint
from cupel.arc.config import ArcTrainConfig
from cupel.arc.evaluate import (
    RECIPE,
    Work,
    answer_block,
    blocks,
    evaluate,
    open_work,
    prediction_row,
)
from cupel.arc.evaluation_config import EvaluateConfig
from cupel.arc.evaluation_pass import answer_items, share_encoding
from cupel.arc.evaluation_rows import grid_of
from cupel.arc.items import Item, evaluation_items
from cupel.arc.model import ARCModel
from cupel.arc.slots import collate
from cupel.arc.submission import read_submission
from cupel.arc.trained import find_checkpoint, open_trained
from cupel.cli.teach.phase import run_phase
from cupel.config import to_dict, validate
from cupel.errors import DataError, UsageError
from cupel.lab.checkpoint import Checkpoints
from cupel.lab.files import read_json_lines, write_json
from cupel.lab.randomness import Randomness
from cupel.lab.recipe import RunContext
from cupel.lab.recorder import Recorder

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_heads": 2,
    "L_layers": 1,
    "H_cycles": 1,
    "L_cycles": 1,
    "n_context": 2,
    "halt_max_steps": 3,
    "items": {"sides": [4, 6]},
    "max_side": 6,
    "encoder": {"num_layers": 1},
}


def write_tasks(folder: Path, shapes: Sequence[tuple[int, int]], *, first: int, tests: int) -> None:
    """Write tasks of random grids, so that no two share a pair."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, shape in enumerate(shapes, first):
        rng = np.random.default_rng(number)

        def pair(rng: np.random.Generator = rng, shape: tuple[int, int] = shape) -> dict[str, Any]:
            grids = rng.integers(0, 10, (2, *shape)).tolist()
            return {"input": grids[0], "output": grids[1]}

        task = {"train": [pair(), pair()], "test": [pair() for _ in range(tests)]}
        (folder / f"task{number}.json").write_text(json.dumps(task))


@pytest.fixture
def training(tmp_path: Path) -> Callable[..., Path]:
    """Make the run folder of a training that took no step."""
    write_tasks(tmp_path / "train", [(3, 3), (5, 4), (2, 3)], first=0, tests=1)
    write_tasks(tmp_path / "judged", [(3, 4), (5, 5), (2, 2), (4, 4)], first=100, tests=2)

    def make(name: str = "run", **changes: Any) -> Path:
        folder = tmp_path / name
        source = {
            "train": [f"folder:{tmp_path}/train"],
            "evaluation": [f"folder:{tmp_path}/judged"],
        }
        config = validate(ArcTrainConfig, {**SMALL, "source": source, **changes}, where="test")
        model = ARCModel(config.model, generator=torch.Generator().manual_seed(1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        folder.mkdir()
        write_json(folder / "config.json", {"recipe": "arc.train", "resolved": to_dict(config)})
        Checkpoints(folder / "checkpoints").save(
            7,
            lambda to: write_checkpoint(
                to, model=model, ema=None, optimizer=optimizer, pools={}, streams={}, config=config
            ),
            {},
        )
        return folder

    return make


def settings(run: Path, **changes: Any) -> dict[str, Any]:
    return {"checkpoint": str(run), "weights": "raw", "n_augmentations": 3, **changes}


def config_of(run: Path, **changes: Any) -> EvaluateConfig:
    return validate(EvaluateConfig, settings(run, **changes), where="test")


def opened(run: Path, **changes: Any) -> tuple[Work, ARCModel, list[Item]]:
    work = open_work(config_of(run, **changes))
    model = ARCModel(work.trained.config.model, generator=torch.Generator().manual_seed(1))
    items = [item for item in evaluation_items(work.puzzles, 3, 0, (4, 6)) if item.side == 4]
    return work, model, items


def test_an_evaluation_leaves_its_rows_its_score_and_a_submission(
    training: Callable[..., Path], tmp_path: Path
) -> None:
    values = run_phase("arc.evaluate", settings(training()), folder=tmp_path / "e", seed=0)
    rows = read_json_lines(tmp_path / "e/predictions.jsonl")
    assert len(rows) == values["predictions"] == 4 * 2 * 3
    assert {row["steps"] for row in rows} == {3}
    assert values["all.steps"] == 3
    assert (values["puzzles"], values["inputs"], values["ARC/pass@1_n"]) == (4, 8, 4)
    assert (values["step"], values["contamination"]) == (7, "clean")
    assert values["ARC/pass@1"] == 0.0  # random weights
    assert values["ARC/pass@1_hi"] > 0.4  # and yet 4 puzzles show little
    answers = read_submission(tmp_path / "e/submission.json")
    assert sorted(answers) == ["task100", "task101", "task102", "task103"]
    assert all(len(each) == 2 for each in answers.values())
    assert [row["step"] for row in read_json_lines(tmp_path / "e/metrics.jsonl")] == [0, 1, 2, 3]


def test_predictions_are_mapped_back_into_the_puzzles_frame(
    training: Callable[..., Path],
) -> None:
    """Answered with its own tokens, every variant of an input is the input again."""
    work, model, items = opened(training())
    by_id = {puzzle.id: puzzle for puzzle in work.puzzles}
    outcomes = answer_items(model, items, steps=1)
    assert len({outcome.item.augmentation for outcome in outcomes}) > 1
    for outcome in outcomes:
        puzzle = by_id[outcome.item.puzzle_id]
        row = prediction_row(puzzle, replace(outcome, tokens=outcome.item.query))
        asked = puzzle.tests[row["test_index"]].input
        assert np.array_equal(grid_of(row["predicted"], where="row"), asked)
        assert prediction_row(puzzle, replace(outcome, tokens=outcome.item.label))["correct"]
        assert parse_name(row["augmentation"])[0] == puzzle.id


@contextmanager
def context_for(folder: Path, seed: int = 0) -> Iterator[RunContext]:
    folder.mkdir(exist_ok=True)
    checkpoints = Checkpoints(folder / "checkpoints")
    resume = checkpoints.latest()
    offsets = resume.offsets if resume is not None else None
    with Recorder(folder, RECIPE.streams, offsets=offsets) as recorder:
        checkpoints.follow(recorder.sync)
        yield RunContext(
            folder=folder,
            condition="evaluate",
            seed=seed,
            randomness=Randomness(seed),
            recorder=recorder,
            checkpoints=checkpoints,
            resume=resume,
        )


FILES = ("predictions.jsonl", "puzzles.jsonl", "evaluations.jsonl", "submission.json")


def run_through(config: EvaluateConfig, folder: Path) -> None:
    with context_for(folder) as context:
        evaluate(config, context)


def run_until_killed(config: EvaluateConfig, work: Work, folder: Path, after: int) -> None:
    """Do so many blocks as an evaluation does, then leave a torn row."""
    model = ARCModel(work.trained.config.model, generator=torch.Generator().manual_seed(1))
    done = 0
    with context_for(folder) as context:
        for block in itertools.islice(blocks(work, config, skip=0, seed=0), after):
            answer_block(block, model, work, config, context, done)
            done += len(block)
            context.checkpoints.save(done, lambda folder: None, {"done": done})
        context.recorder.log("predictions.jsonl", {"torn": True})


def test_killed_after_every_block_and_resumed_it_leaves_the_same_bytes(
    training: Callable[..., Path], tmp_path: Path
) -> None:
    run = training()
    config = config_of(run, batch_size=4)
    run_through(config, tmp_path / "whole")
    work = open_work(config)
    count = len(list(blocks(work, config, skip=0, seed=0)))
    assert count > 2
    for killed in range(1, count):
        folder = tmp_path / f"killed{killed}"
        run_until_killed(config, work, folder, after=killed)
        run_through(config, folder)
        for name in FILES:
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_batch_size_changes_no_vote(training: Callable[..., Path], tmp_path: Path) -> None:
    run = training()
    names = ("puzzle", "test_index", "augmentation", "predicted", "exact", "halted_at")
    kept = []
    for batch_size in (1, 5, 64):
        folder = tmp_path / f"batch{batch_size}"
        run_through(config_of(run, batch_size=batch_size), folder)
        rows = read_json_lines(folder / "predictions.jsonl")
        kept.append([{name: row[name] for name in names} for row in rows])
    assert kept[0] == kept[1] == kept[2]


@pytest.mark.parametrize("kind", ["standard", "recurrent", "cross_attention"])
def test_demonstrations_encoded_once_give_what_encoding_every_time_gives(
    training: Callable[..., Path], kind: str
) -> None:
    encoder = {"kind": kind, "num_layers": 1}
    _, model, items = opened(training(encoder=encoder))
    outcomes = answer_items(model, items, steps=3)
    batch = collate(items, 4)
    model.eval()
    carry = None
    with torch.inference_mode():
        shared = share_encoding(model, batch)
        torch.testing.assert_close(shared.context, model.encode(batch).context)
        for _ in range(3):
            output = model(batch, carry)
            carry = output.carry
    tokens = output.logits.argmax(-1).numpy()
    assert np.array_equal(np.stack([outcome.tokens for outcome in outcomes]), tokens)
    q = torch.sigmoid(output.q_halt).tolist()
    assert [outcome.q for outcome in outcomes] == pytest.approx(q, abs=1e-5)


def test_early_exit_stops_each_prediction_where_it_would_halt(
    training: Callable[..., Path],
) -> None:
    _, model, items = opened(training())
    with torch.no_grad():
        model.core.q_head.weight.normal_(0, 1, generator=torch.Generator().manual_seed(4))
        model.core.q_head.bias.fill_(0.0)
    full = answer_items(model, items, steps=6)
    early = answer_items(model, items, steps=6, early_exit=True)
    halts = [outcome.halted_at for outcome in full]
    assert len(set(halts)) > 1
    assert [outcome.halted_at for outcome in early] == halts
    assert [outcome.steps for outcome in early] == [halt or 6 for halt in halts]
    for outcome, halt in zip(early, halts, strict=True):
        (alone,) = answer_items(model, [outcome.item], steps=halt or 6)
        assert np.array_equal(outcome.tokens, alone.tokens)
        assert outcome.exact_at_halt == outcome.exact


def test_the_same_groups_are_another_view_and_are_called_contaminated(
    training: Callable[..., Path],
) -> None:
    run = training()
    heldout = open_work(config_of(run))
    probe = open_work(config_of(run, view="train_probe"))
    assert not {p.id for p in heldout.puzzles} & {p.id for p in probe.puzzles}
    assert (heldout.contamination, probe.contamination) == ("clean", "contaminated")
    assert set(probe.indices) == {puzzle.id for puzzle in probe.puzzles}


def test_a_cap_evaluates_a_prefix_and_divides_by_it(
    training: Callable[..., Path], tmp_path: Path
) -> None:
    run = training()
    values = run_phase(
        "arc.evaluate", settings(run, max_eval_groups=2), folder=tmp_path / "e", seed=0
    )
    assert (values["puzzles"], values["ARC/pass@1_n"]) == (2, 2)
    with pytest.raises(UsageError, match="max_probe_groups = 2 caps another view"):
        run_phase("arc.evaluate", settings(run, max_probe_groups=2), folder=tmp_path / "f", seed=0)


def test_puzzles_that_were_trained_on_are_refused_as_held_out(
    training: Callable[..., Path], tmp_path: Path
) -> None:
    run = training()
    task = json.loads((tmp_path / "train/task0.json").read_text())
    turned = {
        half: [{key: np.rot90(grid).tolist() for key, grid in pair.items()} for pair in pairs]
        for half, pairs in task.items()
    }
    (tmp_path / "other").mkdir()
    (tmp_path / "other/renamed.json").write_text(json.dumps(turned))
    with pytest.raises(DataError, match="renamed"):
        open_work(config_of(run, evaluation=[f"folder:{tmp_path}/other"]))


def test_puzzles_without_solution_are_predicted_and_not_scored(
    training: Callable[..., Path], tmp_path: Path
) -> None:
    run = training()
    for path in (tmp_path / "judged").glob("*.json"):
        task = json.loads(path.read_text())
        task["test"] = [{"input": pair["input"]} for pair in task["test"]]
        path.write_text(json.dumps(task))
    values = run_phase("arc.evaluate", settings(run), folder=tmp_path / "e", seed=0)
    assert values["ARC/pass@1"] is None
    assert values["all.exact_accuracy"] is None
    assert values["all.steps"] == 3
    assert len(read_submission(tmp_path / "e/submission.json")) == 4


def test_a_decoder_of_unknown_origin_is_said(training: Callable[..., Path]) -> None:
    run = training(load_pretrained_decoder="elsewhere.pt")
    assert open_work(config_of(run)).contamination == "unknown"


def test_what_is_no_checkpoint_is_refused(training: Callable[..., Path], tmp_path: Path) -> None:
    run = training()
    with pytest.raises(DataError, match="no checkpoint and no run folder"):
        find_checkpoint(tmp_path / "nothing")
    weights = find_checkpoint(run) / "weights.pt"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"weights\.pt is missing, or was changed"):
        open_trained(run / "checkpoints/step_000007")
    with pytest.raises(DataError, match="no usable checkpoint"):
        find_checkpoint(run)
