"""The warm-start corpus: right texts, the right split, and an accuracy that is measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cupel.policy.protocol import Completions
from cupel.rlvr.grading import find_boxed
from cupel.rlvr.problems import is_held_out
from cupel.rlvr.warm_start import ArithmeticCorpus


class _Bytes:
    """A byte tokenizer: id = byte + 1, 0 ends a completion."""

    eos_id = 0
    pad_id = 0
    piece_bytes = (b"", *(bytes([byte]) for byte in range(256)))

    def encode(self, text: str) -> list[int]:
        return [byte + 1 for byte in text.encode()]

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.piece_bytes[i] for i in ids).decode()


class _Solver:
    """A policy that evaluates the sum it is asked, or adds an error to every second one."""

    tokenizer = _Bytes()

    def __init__(self, error: int) -> None:
        self.error = error
        self.asked: list[str] = []

    def sample(self, prompts: Sequence[Sequence[int]], **settings: object) -> Completions:
        rows = []
        for row, prompt in enumerate(prompts):
            text = self.tokenizer.decode(prompt)
            self.asked.append(text)
            result = eval(text.removeprefix("what is ").removesuffix(" ?"))
            wrong = self.error if row % 2 else 0
            rows.append([*self.tokenizer.encode(f" \\boxed{{{result + wrong}}}"), 0])
        width = max(map(len, rows))
        zeros = np.zeros((len(rows), width), dtype=np.float32)
        return Completions(
            prompts=tuple(map(tuple, prompts)),
            group_size=1,
            tokens_NT=np.array([row + [0] * (width - len(row)) for row in rows], dtype=np.int32),
            lengths_N=np.array([len(row) for row in rows], dtype=np.int32),
            finished_N=np.ones(len(rows), dtype=bool),
            sampler_logprobs_NT=zeros,
            policy_logprobs_NT=zeros,
        )


def test_clean_texts_are_correct_and_of_the_training_split() -> None:
    corpus = ArithmeticCorpus()
    rng = np.random.default_rng(0)
    for _ in range(500):
        prompt, completion = corpus.clean(rng)
        assert not is_held_out(prompt, 0.1)
        expected = eval(prompt.removeprefix("what is ").removesuffix(" ?"))
        assert find_boxed(completion)[0] == str(expected)


def test_mixed_texts_are_of_the_training_split_and_mostly_guesses() -> None:
    rng = np.random.default_rng(0)
    texts = [ArithmeticCorpus().mixed(rng) for _ in range(1000)]
    assert not any(is_held_out(prompt, 0.1) for prompt, _ in texts)
    assert 550 < sum(" guess" in completion for _, completion in texts) < 690


def test_the_same_generator_gives_the_same_texts() -> None:
    corpus = ArithmeticCorpus()
    first, second = (
        [draw(rng) for _ in range(20) for draw in (corpus.clean, corpus.mixed)]
        for rng in (np.random.default_rng(7), np.random.default_rng(7))
    )
    assert first == second


@pytest.mark.parametrize(("error", "expected"), [(0, 1.0), (1, 0.5)])
def test_accuracy_is_the_share_of_correct_completions(error: int, expected: float) -> None:
    solver = _Solver(error)
    accuracy = ArithmeticCorpus().accuracy(
        solver,  # type: ignore[arg-type]
        probes=64,
        rng=np.random.default_rng(0),
    )
    assert accuracy == expected
    assert not any(is_held_out(text, 0.1) for text in solver.asked)
