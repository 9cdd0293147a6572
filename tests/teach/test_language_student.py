"""The language-model student: one distribution a state, whatever the company, process or cache."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cupel.errors import ConfigError, DataError
from cupel.policy import PolicyConfig
from cupel.policy.actions import ActionRequest, ActionScorer
from cupel.policy.tiny import tiny_model, tiny_tokenizer
from cupel.policy.tokens import PieceTokenizer
from cupel.policy.torch_policy import TorchPolicy
from cupel.teach.environments.corridor import Corridor
from cupel.teach.students.language import LanguageStudent, build_student
from cupel.teach.students.prompts import build_prompt, completion_of
from cupel.teach.students.student import Query, StudentConfig, UniformStudent, tempered

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
WORDS = (
    "task:", "\nnote:", "\nstate:", "\nactions:", "\naction:", " ;", " reach", " cell", " of",
    " corridor", " pit", " left", " right", " leap", " wait", *(f" {n}" for n in range(7)),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    model = tiny_model(len(SPECIALS) + len(WORDS), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    TorchPolicy(
        model, tiny_tokenizer(SPECIALS, WORDS), PolicyConfig(backend="torch"), threads=1
    ).save_model(made)
    return made


def student(folder: Path, cache: Path | None = None, **settings: object) -> LanguageStudent:
    config = StudentConfig(backend="torch", model=str(folder), **settings)  # type: ignore[arg-type]
    made = build_student(config, device="cpu", threads=1, cache=cache)
    assert isinstance(made, LanguageStudent)
    return made


def queries() -> list[Query]:
    found = []
    for seed in range(2):
        corridor = Corridor()
        corridor.reset(seed)
        for action in ("right", "leap", "right"):
            found.append(query(corridor))
            if action in corridor.valid_actions():
                corridor.step(action)
    return found


def query(corridor: Corridor) -> Query:
    actions = corridor.valid_actions()
    return Query(prompt=build_prompt(corridor.task(), corridor.observe(), actions), actions=actions)


def bits(distributions: list[np.ndarray]) -> list[bytes]:
    return [each.tobytes() for each in distributions]


def test_a_distribution_is_the_softmax_of_the_actions_scores(folder: Path) -> None:
    made = student(folder, temperature=0.7)
    assert isinstance(made.policy.tokenizer, PieceTokenizer)
    scorer = ActionScorer(made.policy.lm, made.policy.tokenizer)
    for asked, found in zip(queries(), made.distributions(queries()), strict=True):
        completions = tuple(map(completion_of, asked.actions))
        [scores] = scorer.log_scores([ActionRequest(prompt=asked.prompt, completions=completions)])
        np.testing.assert_array_equal(found, tempered(scores, 0.7))
        assert found.sum() == pytest.approx(1.0, abs=1e-12)
        assert len(asked.actions) == 1 or float(np.ptp(found)) > 1e-3


def test_company_order_and_cache_do_not_change_a_bit(folder: Path, tmp_path: Path) -> None:
    asked = queries()
    alone = [student(folder).distributions([each])[0].tobytes() for each in asked]
    assert bits(student(folder).distributions(asked[::-1])) == alone[::-1]
    assert bits(student(folder).distributions(asked + asked)) == alone + alone
    cache = tmp_path / "scores.sqlite"
    assert bits(student(folder, cache).distributions(asked[:3])) == alone[:3]
    resumed = student(folder, cache)
    assert bits(resumed.distributions(asked)) == alone
    assert resumed.counters.cache_hits == len(set(asked[:3]))


def test_counters_say_what_was_computed(folder: Path, tmp_path: Path) -> None:
    asked = queries()
    distinct = len(set(asked))
    made = student(folder, tmp_path / "scores.sqlite")
    made.distributions([*asked, asked[0]])
    made.distributions(asked)
    counters = made.counters
    assert (counters.queries, counters.scored) == (2 * len(asked) + 1, distinct)
    assert counters.repeats == counters.queries - distinct
    assert counters.cache_hits == 0
    assert counters.unknown_tokens == 0
    assert counters.tokens > 10 * distinct


def test_temperatures_share_scores(folder: Path) -> None:
    made = student(folder)
    warm = made.distributions(queries())
    scored = made.counters.scored
    greedy = made.with_temperature(0.0)
    found = greedy.distributions(queries())
    assert made.counters.scored == greedy.counters.scored == scored
    for hot, cold in zip(warm, found, strict=True):
        assert cold.tolist() == np.eye(len(hot))[int(np.argmax(hot))].tolist()
    assert greedy.config.temperature == 0.0
    assert bits(made.distributions(queries())) == bits(warm)
    direct = student(folder, temperature=0.0)
    assert direct.identity == greedy.identity != made.identity
    assert bits(direct.distributions(queries())) == bits(found)


def test_ties_go_to_the_first_action() -> None:
    assert tempered(np.array([-2.0, -1.0, -1.0]), 0.0).tolist() == [0.0, 1.0, 0.0]


def test_the_identity_is_of_what_the_distribution_depends_on(folder: Path, tmp_path: Path) -> None:
    same = student(folder, tmp_path / "scores.sqlite")
    assert same.identity == student(folder).identity
    others = {student(folder, length="mean").identity, student(folder, temperature=0.5).identity}
    with torch.no_grad():
        same.policy.lm.head_weight.mul_(1.01)
    others.add(LanguageStudent(same.policy, same.config, same.cache).identity)
    assert len(others | {student(folder).identity}) == 4


def test_a_cache_is_shared_by_models_without_mixing_them(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "scores.sqlite"
    summed, mean = student(folder, cache), student(folder, cache, length="mean")
    asked = queries()
    found = summed.distributions(asked), mean.distributions(asked)
    assert mean.counters.cache_hits == 0
    assert bits(found[0]) != bits(found[1])
    assert bits(student(folder, cache).distributions(asked)) == bits(found[0])
    assert bits(student(folder, cache, length="mean").distributions(asked)) == bits(found[1])


def test_another_process_gets_the_same_bits(folder: Path) -> None:
    code = (
        "import sys; from tests.teach.test_language_student import *\n"
        "print([each.hex() for each in bits(student(Path(sys.argv[1])).distributions(queries()))])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True, text=True, cwd=root, check=True,
    )  # fmt: skip
    here = [each.hex() for each in bits(student(folder).distributions(queries()))]
    assert done.stdout.strip() == str(here)


def test_a_distribution_cannot_be_changed(folder: Path) -> None:
    [found] = student(folder).distributions(queries()[:1])
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1.0


def test_no_model_is_needed_for_the_uniform_student() -> None:
    made = build_student(StudentConfig(backend="uniform"), device="cpu", threads=1, cache=None)
    assert isinstance(made, UniformStudent)
    [found] = made.distributions([Query(prompt="", actions=("a", "b"))])
    assert found.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("settings", "error", "named"),
    [
        ({"backend": "uniform", "model": "x"}, ConfigError, "uniform"),
        ({"backend": "torch"}, ConfigError, "student.model"),
        ({"backend": "torch", "model": "./nowhere"}, DataError, "nowhere"),
        ({"backend": "tiny", "model": "./nowhere"}, DataError, "nowhere"),
    ],
)
def test_a_student_that_cannot_be_built_is_named(
    settings: dict[str, str], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        build_student(StudentConfig(**settings), device="cpu", threads=1, cache=None)  # type: ignore[arg-type]


def test_a_damaged_cache_is_named(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "scores.sqlite"
    student(folder, cache).distributions(queries())
    with sqlite3.connect(cache) as file:
        file.execute("UPDATE scores SET crc = crc + 1")
    with pytest.raises(DataError, match="damaged"):
        student(folder, cache).distributions(queries())


def test_the_uniform_student_needs_no_torch_and_a_model_says_so() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        "from cupel.teach.students.language import build_student\n"
        "from cupel.teach.students.student import StudentConfig\n"
        "def build(**settings):\n"
        "    config = StudentConfig(**settings)\n"
        "    return build_student(config, device='cpu', threads=1, cache=None)\n"
        "print(build(backend='uniform').identity)\n"
        "try: build()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    uniform, missing = done.stdout.splitlines()
    assert uniform == "uniform"
    assert missing.startswith("MissingExtraError student.backend 'tiny' needs the extra 'torch'")
