"""`cupel arc` from end to end on a model of a few hundred weights, and its mistakes in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.cli.arc import SECTIONS
from tests.cli.conftest import Invoke, says_one_line

COMMANDS = [name for section in SECTIONS.values() for name in section]
SMALL = (
    "hidden_size=16",
    "num_heads=2",
    "L_layers=1",
    "H_cycles=1",
    "L_cycles=1",
    "n_context=2",
    "halt_max_steps=2",
    "items.sides=[4]",
    "max_side=4",
    "encoder.num_layers=1",
    "global_batch_size=4",
    "max_steps=4",
    "log_every=2",
    "lr_warmup_steps=0",
)


def write_tasks(folder: Path, first: int) -> None:
    folder.mkdir()
    for number in range(first, first + 3):
        rng = np.random.default_rng(number)
        pairs = [
            dict(zip(("input", "output"), rng.integers(0, 10, (2, 3, 3)).tolist(), strict=True))
            for _ in range(3)
        ]
        task = {"train": pairs[:2], "test": pairs[2:]}
        (folder / f"task{number}.json").write_text(json.dumps(task))


@pytest.fixture
def settings(tmp_path: Path) -> tuple[str, ...]:
    """Settings of a training of seconds on three tasks, judged on three others."""
    write_tasks(tmp_path / "learned", 0)
    write_tasks(tmp_path / "judged", 50)
    return (
        *SMALL,
        f"source.train=['folder:{tmp_path}/learned']",
        f"source.evaluation=['folder:{tmp_path}/judged']",
    )


def values_of(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output)
    return found


def test_help_of_every_command_imports_no_torch() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom cupel.cli.app import program\n"
        f"for name in {COMMANDS!r}:\n"
        "    result = CliRunner().invoke(program, ['arc', name, '--help'])\n"
        "    assert result.exit_code == 0 and 'cupel arc ' + name in result.output, name\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_train_health_evaluate_template(
    cupel: Invoke, settings: tuple[str, ...], tmp_path: Path
) -> None:
    done = cupel("arc", "train", *settings, "+project_name=dev", "+run_name=one", "seed=5")
    assert done.exit_code == 0, done.output
    run = tmp_path / "logs/arc/dev/one"
    assert json.loads((run / "config.json").read_text())["seed"] == 5

    health = cupel("arc", "health", run, "--json")
    assert values_of(health.stdout)["step"] == 4

    words = ("--checkpoint", run, "--n-augmentations", 2, "--pictures")
    judged = cupel("arc", "evaluate", *words)
    assert judged.exit_code == 0, judged.output
    folder = run / "evaluations/heldout_step_000004"
    assert (folder / "submission.json").is_file()
    assert "task50" in (folder / "predictions.html").read_text()
    assert len(list((folder / "pictures").glob("*.png"))) == 3
    assert "3 puzzles of the view heldout" in judged.output

    again = cupel("arc", "evaluate", *words, "--json")
    assert values_of(again.stdout)["values"]["ARC/pass@1_n"] == 3

    template = cupel("arc", "template", run, folder, "--name", "First")
    assert "### Experiment: First" in template.output
    assert "- Pass@2: 0.0 %" in template.output


def test_overfit_says_whether_criterion_1_is_met(
    cupel: Invoke, settings: tuple[str, ...], tmp_path: Path
) -> None:
    done = cupel("arc", "overfit", *settings, "--log-dir", tmp_path / "o")
    assert done.exit_code == 1, done.output
    assert "Criterion 1 failed" in done.output
    assert "context_gain" in done.output
    assert (
        json.loads((tmp_path / "o/config.json").read_text())["resolved"]["max_train_groups"] == 32
    )


def test_figures_of_an_overfit_run_of_the_cpu_preset(
    cupel: Invoke, settings: tuple[str, ...], tmp_path: Path
) -> None:
    run = tmp_path / "o"
    done = cupel("arc", "overfit", "--preset", "cpu", *settings, "--log-dir", run)
    assert done.exit_code == 1, done.output
    assert json.loads((run / "run.json").read_text())["status"] == "done"

    drawn = cupel("arc", "figures", run, "--output-dir", "figs", "--panels", "panels.json")
    assert drawn.exit_code == 0, drawn.output
    names = {path.name for path in (tmp_path / "figs").iterdir()}
    assert {"learning.png", "halting.svg", "encoder_health.pdf"} <= names
    assert len(names) == 9
    assert "criteria: 1 failed, 2 not measured" in (tmp_path / "figs/learning.svg").read_text()
    gap = "learning: o/evaluations.jsonl: not measured and not drawn: heldout_em_at_halt"
    assert gap in drawn.stderr
    panels = json.loads((tmp_path / "panels.json").read_text())["panels"]
    assert panels[1]["title"] == "Encoder Health"


def test_preview_draws_named_puzzles(
    cupel: Invoke, settings: tuple[str, ...], tmp_path: Path
) -> None:
    words = ("arc", "preview", "--source", f"folder:{tmp_path}/learned")
    done = cupel(*words, "task1", "--augmentations", 1)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "preview.html").read_text()
    assert "task1|||t" in page
    assert "task2" not in page
    says_one_line(cupel(*words, "task9"), "no puzzle 'task9'", "did you mean 'task")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "halt_max_step=3"], "did you mean 'halt_max_steps'?"),
        (["train", "arch.H_layers=3"], "no counterpart"),
        (["train", "halt_max_steps=many"], "halt_max_steps"),
        (["train", "--config-name", "cfg_pretrain_etrm_arc_agi_2"], "cfg_pretrain_etrm_arc_agi_1"),
        (["overfit", "--preset", "cpus"], "did you mean 'cpu'?"),
        (["evaluate", "--checkpoint", "nowhere"], "nowhere: no checkpoint and no run folder"),
        (["evaluate", "--checkpoint", "x", "--viwe", "heldout"], "did you mean '--view'?"),
        (["evaluate", "--checkpoint", "x", "--view", "held"], "did you mean 'heldout'?"),
        (["template", "."], "not a run folder"),
        (["health", "."], "not a run folder"),
        (["figures", ".", "--output-dir", "out"], "not a run folder"),
        (["figures", "."], "name run folders with --output-dir DIR"),
        (["figures", "--output-dir", "out"], "name run folders with --output-dir DIR"),
        (["figures"], "or --panels FILE"),
    ],
)
def test_a_mistake_is_one_line(cupel: Invoke, words: list[str], says: str) -> None:
    says_one_line(cupel("arc", *words), says)


def test_the_presets_are_listed_as_words(cupel: Invoke) -> None:
    done = cupel("arc", "train", "--list-configs")
    assert "cfg_pretrain_etrm_arc_agi_1" in done.output
    assert "encoder.kind=standard" in done.output
