"""The shipped student: its hash, its success, what notes do to it; and that it can be built."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cupel.errors import AlgorithmicFailure
from cupel.policy.built import BUILD_RECORD, SHOP
from cupel.policy.tiny import tiny_tokenizer
from cupel.policy.tokens import PieceTokenizer
from cupel.teach.environments.shop import Shop
from cupel.teach.environments.shop_expert import rationale
from cupel.teach.labelling.patching import neutral_note
from cupel.teach.students.careless import careless_probs
from cupel.teach.students.language import LanguageStudent, build_student
from cupel.teach.students.lessons import FIRST_TASK, SPECIALS, WORDS, lessons
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import Query, StudentConfig
from cupel.teach.students.warm_start import (
    ShopStart,
    build_key,
    build_shop_student,
    cached_build,
    success_rate,
)

RECORD = json.loads((SHOP / BUILD_RECORD).read_text())
QUICK = ShopStart(steps=4, batch=6, probes=5, success_band=(0.0, 1.0))


@pytest.fixture(scope="module")
def shipped() -> LanguageStudent:
    student = build_student(StudentConfig(), device="cpu", threads=1, cache=None)
    assert isinstance(student, LanguageStudent)
    return student


def query(shop: Shop, note: str | None = None) -> Query:
    actions = shop.valid_actions()
    prompt = build_prompt(shop.task(), shop.observe(), actions, patch=note)
    return Query(prompt=prompt, actions=actions)


def states(count: int) -> list[Shop]:
    """Return states on the student's tasks where the expert has an action."""
    rng, found = np.random.default_rng(0), []
    for seed in itertools.count(700):
        shop = Shop()
        shop.reset(seed)
        for _ in range(6):
            if shop.expert() is None:
                break
            found.append(shop.copy())
            if len(found) == count:
                return found
            actions = shop.valid_actions()
            shop.step(actions[int(rng.choice(len(actions), p=careless_probs(shop)))])
    raise AssertionError


def test_the_shipped_weights_are_those_of_its_record(shipped: LanguageStudent) -> None:
    described = shipped.policy.describe()
    assert described["weights_sha256"] == RECORD["weights_sha256"]
    assert described["parameters"] == RECORD["parameters"]
    assert RECORD["key"] == build_key(ShopStart())
    assert cached_build(ShopStart()) == SHOP
    assert sum(file.stat().st_size for file in SHOP.iterdir()) < 1_000_000


def test_the_student_succeeds_in_its_band(shipped: LanguageStudent) -> None:
    low, high = RECORD["recipe"]["success_band"]
    assert low <= RECORD["success_sampled"] <= high
    assert 0.3 <= success_rate(shipped, 150) <= 0.6
    assert shipped.counters.unknown_tokens == 0


def test_notes_that_tell_are_followed_and_neutral_ones_are_not(shipped: LanguageStudent) -> None:
    chosen = states(120)
    experts = [str(shop.expert()) for shop in chosen]
    notes = {
        "none": [None] * len(chosen),
        "placebo": [neutral_note(15)] * len(chosen),
        "demo": [
            f"in a case like this do {expert} . {rationale(shop)}"
            for shop, expert in zip(chosen, experts, strict=True)
        ],
        "hint": [rationale(shop) for shop in chosen],
    }
    mass = {}
    for name, texts in notes.items():
        asked = [query(shop, note) for shop, note in zip(chosen, texts, strict=True)]
        found = shipped.distributions(asked)
        mass[name] = np.mean(
            [
                probs[each.actions.index(expert)]
                for probs, each, expert in zip(found, asked, experts, strict=True)
            ]
        )
    assert abs(mass["placebo"] - mass["none"]) < 0.05
    assert mass["demo"] > mass["none"] + 0.25
    assert mass["hint"] > mass["none"] + 0.08
    assert shipped.counters.unknown_tokens == 0


def test_there_are_states_of_doubt_and_of_sure_mistakes(shipped: LanguageStudent) -> None:
    unsure = wrong = 0
    chosen = states(300)
    for shop, probs in zip(chosen, shipped.distributions(list(map(query, chosen))), strict=True):
        entropy = -float((probs * np.log(probs)).sum()) / np.log(len(probs))
        values = shop.optimal_q(12)
        best = shop.valid_actions()[int(probs.argmax())]
        unsure += entropy > 0.7
        wrong += entropy < 0.7 and values[best] == 0.0
    assert unsure >= 30
    assert wrong >= 6


def test_every_lesson_can_be_read_and_is_of_no_study() -> None:
    tokenizer = PieceTokenizer(tiny_tokenizer(SPECIALS, WORDS, spaced=True))
    drawn = list(itertools.islice(lessons(np.random.default_rng(1), note_share=0.5), 800))
    assert FIRST_TASK >= 10_000_000
    for lesson in drawn:
        ids = tokenizer.encode(lesson.prompt)
        assert tokenizer.unknown_id not in ids
        assert tokenizer.decode(ids) == lesson.prompt
        assert lesson.probs.sum() == pytest.approx(1.0)
        assert (lesson.probs > 0).all()
        assert len(lesson.probs) == len(lesson.actions)
    noted = [lesson for lesson in drawn if "\nnote: " in lesson.prompt]
    assert 0.2 < len(noted) / len(drawn) < 0.5


def test_a_build_is_repeatable_and_leaves_no_random_state(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        record = build_shop_student(QUICK, tmp_path / name)
        made.append((tmp_path / name / "model.safetensors").read_bytes())
        assert record["key"] == build_key(QUICK) != RECORD["key"]
    assert made[0] == made[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_build_outside_its_band_fails_and_leaves_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setenv("CUPEL_CACHE", str(tmp_path))
    with pytest.raises(AlgorithmicFailure, match=r"outside \[0\.9, 1\.0\]"):
        cached_build(replace(QUICK, success_band=(0.9, 1.0)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_recipe_makes_the_shipped_weights_again(tmp_path: Path) -> None:
    record = build_shop_student(ShopStart(), tmp_path)
    same_machine = ("torch", "cpu_capability", "matmul_precision", "threads")
    if all(record[key] == RECORD[key] for key in same_machine):
        assert record["weights_sha256"] == RECORD["weights_sha256"]
        shipped = (SHOP / "model.safetensors").read_bytes()
        assert (tmp_path / "model.safetensors").read_bytes() == shipped
    else:
        print("another torch or CPU than the shipped build's: only its success is compared")
        low, high = ShopStart().success_band
        assert low <= record["success_sampled"] <= high
