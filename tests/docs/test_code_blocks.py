"""Every code block of the pages is executed, or stands in the one list that says why not."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import pytest
from click.testing import CliRunner

from cupel.cli.app import program
from cupel.config import validate
from cupel.lab import load_recipe, plan_study
from cupel.lab.study import StudyConfig
from cupel.rlvr.config import TrainConfig
from tests.docs.code_blocks import (
    LANGUAGES,
    PAGES,
    ROOT,
    SHELLS,
    Block,
    blocks_of,
    documented_exceptions,
    words_of,
)
from tests.e2e.program import ASSET, NO_TINY
from tests.e2e.test_own_model import save_model

EXCEPTIONS = list(documented_exceptions())
WITH_CODE = [page for page in PAGES if any(b.language != "text" for b in blocks_of(page))]
COMMANDS = [
    command
    for page in PAGES
    for block in blocks_of(page)
    if block.language in SHELLS
    for command in block.commands()
]
SMALL = {
    "--max-steps": "1",
    "--batch-size": "4",
    "--group-size": "4",
    "--eval-problems": "4",
    "--max-tokens": "12",
    "--save-every": "1",
}
"""A run that shows that a command starts, trains and writes; it says nothing of learning."""
SMALL_STUDY = {
    "seeds": [42, 101],
    "config.max_steps": 1,
    "config.batch_size": 4,
    "config.group_size": 4,
    "config.evaluation.problems": 64,
}
HUB = ("math", "gsm8k", "datasets")
"""Sources of problems that a plan would look up in the network."""
MATH = [
    {"question": f"How much is {a} plus {b}?", "answer": f"so #### {a + b}", "problem": f"{a}+{b}"}
    for a in range(40)
    for b in range(40)
]


def exception_for(command: str) -> str | None:
    """Return the listed start that a command falls under: the longest one."""
    words = words_of(command)[1]
    if words[0] == "cupel":
        words = words[1:]
    line = f"{' '.join(words)} "
    starts = [start for start, _, _ in EXCEPTIONS if line.startswith(f"{start} ")]
    options = [
        start
        for start, _, _ in EXCEPTIONS
        if " … " in start
        and line.startswith(f"{start.split(' … ')[0]} ")
        and f" {start.split(' … ')[1]} " in line
    ]
    return max([*starts, *options], key=len, default=None)


def found_command(words: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """Return the command that words name, its context and the words left for it."""
    context = click.Context(program, info_name="cupel")
    found: click.Command = program
    while isinstance(found, click.Group):
        inner = found.get_command(context, words[0])
        assert inner is not None, f"no command {' '.join(words)}"
        found, words = inner, words[1:]
        context = click.Context(found, parent=context, info_name=found.name)
    return found, context, words


def check_words(words: list[str]) -> None:
    """Hold options, choices and numbers against the command, without starting it."""
    found, context, rest = found_command(words)
    values, left, _ = found.make_parser(context).parse_args(list(rest))
    assert not left, f"{words}: {left} is left over"
    for parameter in found.params:
        given = values.get(parameter.name or "")
        if not isinstance(given, str) or isinstance(parameter.type, click.Path):
            continue
        if not getattr(parameter, "is_flag", False) and parameter.nargs == 1:
            parameter.type.convert(given, parameter, context)


def test_every_block_names_its_language() -> None:
    unknown = {
        (block.page.name, block.language)
        for page in PAGES
        for block in blocks_of(page)
        if block.language not in LANGUAGES
    }
    assert not unknown, f"known languages: {', '.join(LANGUAGES)}"


def test_every_listed_exception_is_needed_and_gives_a_reason() -> None:
    used = {exception_for(command) for command in COMMANDS}
    assert {start for start, _, _ in EXCEPTIONS} <= used
    assert all(len(why.split()) >= 3 for _, _, why in EXCEPTIONS)


@pytest.mark.parametrize("command", sorted({c for c in COMMANDS if exception_for(c)}))
def test_a_command_that_is_not_executed_has_words_that_exist(command: str) -> None:
    _, words = words_of(command)
    if words[0] == "cupel":
        check_words(words[1:])


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Path
) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for block in blocks_of(page):
        if block.language in SHELLS:
            for command in block.commands():
                if not exception_for(command):
                    run_command(command, tmp_path)
        elif block.language == "toml":
            read_settings(block, tmp_path)
        elif block.language == "python":
            if block.file_name:
                (tmp_path / block.file_name).write_text(block.text)
            exec(compile(block.text, f"{page.name}, a block", "exec"), {})


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what readers are told to bring: a model, problems, the shipped studies."""
    if not ASSET.is_file():
        pytest.skip(NO_TINY)
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "studies", folder / "studies")
    save_model(folder / "models" / "my-model", [row["question"] for row in MATH])
    text = "".join(json.dumps(row) + "\n" for row in MATH)
    (folder / "problems.jsonl").write_text(text)
    (folder / "mine.jsonl").write_text(
        "".join(
            json.dumps({"problem": row["problem"], "answer": row["answer"].split()[-1]}) + "\n"
            for row in MATH
        )
    )
    study = [
        "run",
        str(folder / "studies/quickstart.toml"),
        "--out",
        str(folder / "results/quickstart"),
    ]
    done = CliRunner().invoke(program, small(study))
    assert done.exit_code == 0, done.output
    return folder


def run_command(command: str, folder: Path) -> None:
    """Run one command of a page as its reader would, made small where it trains."""
    variables, words = words_of(command)
    if words[0] != "cupel":
        subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
        return
    outcome = CliRunner().invoke(program, small(words[1:]), env=variables)
    assert outcome.exit_code in (0, 1), f"{command}\n{outcome.output[-2000:]}"
    if "--log-dir" in words and "train" in words:
        name_last_checkpoint(folder / words[words.index("--log-dir") + 1] / "checkpoints")


def small(words: list[str]) -> list[str]:
    """Return the words of a command that takes seconds where the page's takes minutes."""
    if words[0] == "train":
        log_dir = [] if "--log-dir" in words else ["--log-dir", f"logs/{uuid4()}"]
        kept = ("--max-steps", "--save-every")
        sizes = [
            word
            for name, size in SMALL.items()
            if name not in kept or name not in words
            for word in (name, size)
        ]
        return [*words, *log_dir, *sizes]
    if words[0] == "run":
        settings = [["--set", f"{key}={json.dumps(value)}"] for key, value in SMALL_STUDY.items()]
        return [*words, "--executor", "inline", "--no-figures", *itertools.chain(*settings)]
    if words[0] == "evaluate":
        return [*words, "--problems", "4"]
    return [word for word in words if word not in ("--execute", "--open")]


def name_last_checkpoint(folder: Path) -> None:
    """Let the last checkpoint of a shortened run also answer to the name the pages use."""
    steps = sorted(folder.glob("step_*"))
    if steps and not (folder / "step_000100").exists():
        os.symlink(steps[-1].name, folder / "step_000100")


def read_settings(block: Block, folder: Path) -> None:
    """Read a block as what it is: a study or a part of one, which is planned, or settings."""
    data: dict[str, Any] = tomllib.loads(block.text)
    where = f"{block.page.name}, a block"
    if block.file_name:
        (folder / block.file_name).write_text(block.text)
    settings = data.get("config", {} if data.keys() <= StudyConfig.model_fields.keys() else data)
    if settings is data or settings.get("problems", {}).get("source") in HUB:
        load_recipe("rlvr.train")
        validate(TrainConfig, settings, where=where)
        return
    study = validate(StudyConfig, {"conditions": [{"label": "one"}], **data}, where=where)
    plan_study(study, load_recipe(study.recipe))
    (folder / f"{study.name}.toml").write_text(block.text)
