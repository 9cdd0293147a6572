"""Bad input through the real program: exit code 2, one clear line on stderr, nothing lost."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.program import call, succeed

STUDY = """
name = "bad"
seeds = [1, 2]

[config]
backend = "toy"
max_steps = 2

[[conditions]]
label = "grpo"
config = { algorithm = "grpo" }

[[conditions]]
label = "full"
config = { algorithm = "full" }
"""


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refuses(folder: Path, *words: object, says: tuple[str, ...]) -> None:
    """Assert exit code 2, one line on stderr, nothing on stdout, and every file as it was."""
    before = hashes(folder)
    done = call(folder, *words)
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("cupel: ")
    assert done.stdout == ""
    for part in says:
        assert part in lines[0], lines[0]
    assert hashes(folder) == before


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seeds = [1, 2]", "seds = [1, 2]", ("unknown key 'seds'", "did you mean 'seeds'?")),
        ("seeds = [1, 2]", "seeds = []", ("the list of seeds is empty",)),
        ("seeds = [1, 2]", "seeds = [7, 7]", ("seed 7 appears twice",)),
        (
            'config = { algorithm = "full" }',
            'config = { algorithm = "full", problems = { source = "arithmetic" } }',
            ("condition 'full'", "backend 'toy' cannot run problems.source 'arithmetic'"),
        ),
        (
            'backend = "toy"',
            'backend = "tiny"\nproblems = { source = "jsonl", path = "p.jsonl" }',
            ("condition 'grpo'", "backend 'tiny' cannot run problems.source 'jsonl'"),
        ),
        (
            'backend = "toy"',
            'backend = "torch"\nmodel = "./no/model"',
            ("condition 'grpo'", "model './no/model': no such model folder"),
        ),
        (
            'config = { algorithm = "full" }',
            'config = { algorithm = "full", loss = { kind = "ppo", clip_eps = 2.0 } }',
            ("condition 'full'", "loss.clip_eps = 2; it must lie in (0, 1)"),
        ),
    ],
)
def test_a_study_that_cannot_run(tmp_path: Path, old: str, new: str, says: tuple[str, ...]) -> None:
    assert old in STUDY
    (tmp_path / "bad.toml").write_text(STUDY.replace(old, new, 1))
    refuses(tmp_path, "run", "bad.toml", says=says)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(STUDY)
    (tmp_path / "taken").write_text("a file")
    refuses(tmp_path, "run", "bad.toml", "--out", "taken/results", says=("taken",))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the study; its record is what bad input must not harm."""
    folder = tmp_path_factory.mktemp("judged")
    (folder / "bad.toml").write_text(STUDY)
    succeed(folder, "run", "bad.toml", "--executor", "inline", "--no-figures")
    return folder


def cut(rows: bytes) -> bytes:
    """Lose the end of the last row."""
    return rows[:-20]


def poison(rows: bytes) -> bytes:
    """Put NaN in the place of a number, every other byte kept."""
    found = re.search(rb'"correct_rate":([0-9.]+),', rows)
    assert found is not None
    return rows[: found.start(1)] + b"NaN".ljust(len(found[1])) + rows[found.end(1) :]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "rows were lost or added since"),
        (poison, "metrics.jsonl:1: not strict JSON"),
    ],
)
def test_a_damaged_run_of_a_study(
    judged: Path, damage: Callable[[bytes], bytes], says: str
) -> None:
    path = judged / "results/bad/runs/full_s2/metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    try:
        for command in ("significance", "compare"):
            refuses(judged, command, "results/bad", says=("full_s2", says))
    finally:
        path.write_bytes(whole)


def test_a_mistyped_run_folder(judged: Path) -> None:
    runs = Path("results/bad/runs")
    arms = ("--baseline", runs / "grpo_s1", "--candidate", runs / "ful_s1")
    refuses(judged, "significance", *arms, says=("ful_s1", "did you mean", "full_s1"))


def test_another_study_in_a_folder_with_results(judged: Path) -> None:
    words = ("run", "bad.toml", "--set", "config.lr=1.0")
    refuses(judged, *words, says=("differs from plan.lock", "conditions"))


def test_no_verdict_comes_from_no_data(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(STUDY)
    succeed(tmp_path, "plan", "bad.toml")
    refuses(tmp_path, "significance", "results/bad", says=("no finished run to judge",))
    for arm in ("one", "other"):
        (tmp_path / arm).mkdir()
        (tmp_path / arm / "metrics.jsonl").touch()
    arms = ("--baseline", "one", "--candidate", "other")
    refuses(tmp_path, "significance", *arms, says=("one: no metric 'correct_rate'",))
    litmus = call(tmp_path, "litmus", *arms)
    assert litmus.returncode == 4
    assert "INCONCLUSIVE" in litmus.stdout
