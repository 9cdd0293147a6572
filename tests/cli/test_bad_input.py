"""Each kind of bad input: exit code 2, one clear line, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke, says_one_line

STUDY = """
name = "toy"
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


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write a valid study of the toy backend."""
    path = tmp_path / "toy.toml"
    path.write_text(STUDY)
    return path


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("max_steps = 2", "max_stpes = 2", "did you mean 'max_steps'?"),
        ('name = "toy"', 'nmae = "toy"', "unknown key 'nmae'; did you mean 'name'?"),
        ("seeds = [1, 2]", "seeds = []", "the list of seeds is empty"),
        ("seeds = [1, 2]", "seeds = [1, 1]", "seed 1 appears twice"),
        ("seeds = [1, 2]", "seeds = [1, -2]", "a seed must be >= 0"),
        ('label = "full"', 'label = "grpo"', "condition 'grpo' appears twice"),
        ('backend = "toy"', 'backend = "toy"\nproblems = { source = "arithmetic" }', "toy"),
        ('backend = "toy"', 'backend = "torch"', "needs a model"),
        ('backend = "toy"', 'backend = "torch"\nmodel = "./nowhere"', "./nowhere"),
        ('backend = "toy"', 'backend = "tinkre"', "backend"),
        ('algorithm = "full"', 'algorithm = "fully"', "algorithm"),
        ("max_steps = 2", "max_steps = 0", "max_steps = 0"),
        ("[config]", "[config", "not valid TOML"),
        ('name = "toy"', 'name = "toy"\nrecipe = "rlvr.trian"', "rlvr.train"),
        ('name = "toy"', 'name = "a/b"', "may hold letters"),
    ],
)
def test_a_bad_study_is_refused_before_anything_is_written(
    cupel: Invoke, study: Path, old: str, new: str, says: str
) -> None:
    assert old in STUDY
    study.write_text(STUDY.replace(old, new, 1))
    for command in ("plan", "run"):
        says_one_line(cupel(command, study), says)
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["campaign", "--seeds", ""], "--seeds"),
        (["campaign", "--seeds", "1,1"], "seed 1 appears twice"),
        (["campaign", "--seeds", "1,x"], "'x' is not a seed"),
        (["campaign", "--conditions", "grpo+nnoe"], "did you mean 'none'"),
        (["campaign", "--conditions", "grpo+none", "--candidate", "x"], "x"),
        (["ab", "--candidate", "ful"], "did you mean 'full'"),
        (["ab", "--base-url", "http://x"], "--base-url"),
        (["ab", "--lora-rank", "64"], "--lora-rank) with backend 'tiny'"),
        (["ab", "--alpha", "2"], "alpha"),
        (["ab", "--lr", "-1"], "lr = -1"),
        (["train", "--config", "none.toml"], "none.toml: no such file"),
        (["train", "--backend", "torch", "--model", "./nowhere"], "./nowhere"),
        (["train", "--set", "max_steps"], "expected key.path=value"),
        (["train", "--set", "loss.knid=ppo"], "did you mean 'kind'?"),
        (["train", "--backend", "toy", "--lr", "nan"], "'nan' is not finite"),
        (["power", "seeds", "--effect", "nan", "--run-sd", "1"], "--effect nan"),
        (["status", __file__], "not a folder"),
        (["status", "nowhere"], "nowhere: no such folder"),
        (["resume", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["diff", "a", "b"], "a: no such folder"),
        (["significance"], "--baseline"),
        (["significance", "--baseline", "a"], "--candidate"),
        (["significance", "x", "--baseline", "a"], "not both"),
        (["litmus", "--baseline", "a", "--candidate", "b"], "a: no such folder"),
        (["models", "build", "tini"], "did you mean 'tiny'?"),
    ],
)
def test_bad_words_are_one_line(cupel: Invoke, words: list[str], says: str) -> None:
    says_one_line(cupel(*words), says)
    assert not any(Path().iterdir())


def test_an_unwritable_folder_is_named(cupel: Invoke, study: Path) -> None:
    Path("taken").write_text("a file")
    says_one_line(cupel("plan", study, "--out", "taken/study"), "taken")
    says_one_line(cupel("run", study, "--out", "taken/study"), "taken")
    says_one_line(cupel("train", "--backend", "toy", "--log-dir", "taken/run"), "taken")
    says_one_line(cupel("train", "--backend", "toy", "--log-dir", "taken"), "taken is a file")
    says_one_line(cupel("init", "taken/study.toml"), "taken")
    assert Path("taken").read_text() == "a file"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (b'{"step": 0, "correct_rate": NaN}\n', "metrics.jsonl:1: not strict JSON"),
        (b'{"step": 0, "correct_rate": 0.5}\n{"step": 1, "cor', "metrics.jsonl:2: truncated"),
    ],
)
def test_a_damaged_metrics_file_is_named_by_line_and_kept(
    cupel: Invoke, tmp_path: Path, damage: bytes, says: str
) -> None:
    arms = {}
    for arm in ("b", "c"):
        for seed in (1, 2):
            folder = tmp_path / f"{arm}_s{seed}"
            folder.mkdir()
            (folder / "metrics.jsonl").write_text('{"step": 0, "correct_rate": 0.5}\n')
            arms.setdefault(arm, []).append(folder)
    (arms["c"][1] / "metrics.jsonl").write_bytes(damage)
    words = ["--baseline", *arms["b"], "--candidate", *arms["c"]]
    for command in ("significance", "litmus", "compare"):
        says_one_line(cupel(command, *words), "c_s2", says)
    assert (arms["c"][1] / "metrics.jsonl").read_bytes() == damage


def test_a_mistyped_run_folder_gets_the_nearest(cupel: Invoke, tmp_path: Path) -> None:
    for name in ("base_s1", "cand_s1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 0, "correct_rate": 0.5}\n')
    wrong = cupel("significance", "--baseline", "base_s1", "--candidate", "cnad_s1")
    says_one_line(wrong, "cnad_s1: no such folder", "did you mean 'cand_s1'?")


def test_a_mistyped_study_file_gets_the_nearest(cupel: Invoke, study: Path) -> None:
    says_one_line(cupel("plan", "tyo.toml"), "tyo.toml: no such file or folder", "toy.toml")
