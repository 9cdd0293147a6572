"""Planning tokens: exactly the tokens of the matched phrase, however words are split."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import ConfigError, DataError
from cupel.rlvr.arithmetic import SPECIALS, WORDS, pieces
from cupel.rlvr.planning import GRAM_SETS, PlanningDetector


def marked(rows: list[list[str]], grams: str | list[str] = "default") -> list[list[str]]:
    """Return the marked pieces of every row, with a vocabulary made of the rows' own pieces."""
    vocabulary = sorted({piece for row in rows for piece in row})
    detector = PlanningDetector(grams, [piece.encode() for piece in vocabulary])
    lengths_N = np.array([len(row) for row in rows], dtype=np.int32)
    tokens_NT = np.zeros((len(rows), lengths_N.max()), dtype=np.int32)
    for n, row in enumerate(rows):
        tokens_NT[n, : len(row)] = [vocabulary.index(piece) for piece in row]
    mask_NT = detector.mask(tokens_NT, lengths_N)
    assert not mask_NT[np.arange(tokens_NT.shape[1]) >= lengths_N[:, None]].any()
    return [
        [piece for piece, hit in zip(row, mask_T[: len(row)], strict=True) if hit]
        for row, mask_T in zip(rows, mask_NT, strict=True)
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (["So", " now", " wait", " let", " me"], [" wait", " let", " me"]),
        (["a", " b", " c", " d", " Notice", " that", " e"], [" Notice", " that"]),
        (["foo", " bar", " let", " me", " check"], [" let", " me", " check"]),
        (["foo ", "let ", "me ", "check ", "it"], ["let ", "me ", "check "]),
    ],
)
def test_no_token_before_or_after_the_phrase_is_marked(row: list[str], expected: list[str]) -> None:
    assert marked([row]) == [expected]


@pytest.mark.parametrize(
    "row",
    [
        [" dou", "ble", " che", "ck"],
        ["double", " ", "check"],
        ["double", "\n", "\n  ", "check"],
        ["DOUBLE", "\tCHECK"],
        ["double", "-", "check"],
        ["double", "\u00a0", "check"],
        [*"double check"],
    ],
)
def test_split_words_white_space_and_case_do_not_hide_a_phrase(row: list[str]) -> None:
    assert marked([["x ", *row, " y"]]) == [row]


@pytest.mark.parametrize("apostrophe", ["'", "’", "ʼ", "`"])
@pytest.mark.parametrize("phrase", ["That{}s not right", "that doesn{}t work"])
def test_apostrophes_match_straight_or_typographic(apostrophe: str, phrase: str) -> None:
    head, tail = phrase.format(apostrophe).split(apostrophe)
    assert marked([["so ", head, apostrophe + tail[0], tail[1:], " ."]]) == [
        [head, apostrophe + tail[0], tail[1:]]
    ]


@pytest.mark.parametrize(
    "text", ["Wait, let me", "wait — let me", "wait… let me", "wait... let me"]
)
def test_commas_dashes_and_omission_dots_may_stand_between_words(text: str) -> None:
    assert marked([[text]]) == [[text]]


@pytest.mark.parametrize(
    "text",
    [
        "await let me",
        "wait let met",
        "let me checkmate",
        "let me check_it",
        "éwait let me",
        "the keyis",
        "wait. let me",
        "double ( check",
        "lets check",
    ],
)
def test_words_must_be_whole_and_sentences_are_not_bridged(text: str) -> None:
    assert marked([[text]]) == [[]]


def test_a_character_split_over_two_tokens_does_not_break_a_phrase() -> None:
    apostrophe = "’".encode()
    detector = PlanningDetector(
        "default", [b"that", apostrophe[:1], apostrophe[1:], b"s not right", b"\xf0\x9f"]
    )
    tokens_NT = np.array([[4, 0, 1, 2, 3, 4]], dtype=np.int32)
    found = detector.mask(tokens_NT, np.array([6], dtype=np.int32))
    assert found.tolist() == [[False, True, True, True, True, False]]


def test_phrases_do_not_run_across_rows_or_into_padding() -> None:
    rows = [["let", " me"], [" check", " it"], ["notice", " that"]]
    assert marked(rows) == [[], [], ["notice", " that"]]


def test_overlapping_phrases_are_all_marked() -> None:
    grams = ["let me check", "check again", "me check"]
    assert marked([["let", " me", " check", " again", " now"]], grams) == [
        ["let", " me", " check", " again"]
    ]
    assert marked([["so", " the", " answer", " is", " 4"]], "arithmetic") == [
        ["so", " the", " answer", " is"]
    ]


def test_a_shorter_phrase_matches_where_the_longer_does_not() -> None:
    assert marked([["the", " key", " is", " here"]], ["the key is", "the key is heresy"]) == [
        ["the", " key", " is"]
    ]


def test_one_token_that_holds_part_of_two_words_is_marked() -> None:
    assert marked([["x not", "ice th", "at y"]]) == [["x not", "ice th", "at y"]]


def test_special_tokens_are_never_marked() -> None:
    detector = PlanningDetector("default", [b"", b"let me", b" check"])
    tokens_NT = np.array([[1, 0, 2, 0]], dtype=np.int32)
    found = detector.mask(tokens_NT, np.array([4], dtype=np.int32))
    assert found.tolist() == [[True, False, True, False]]


def test_the_arithmetic_set_on_the_arithmetic_language() -> None:
    text = " first , 60 - 4 = 56 . let me check : looks right . so the answer is \\boxed{56}"
    row = pieces(text)
    assert "".join(marked([row], "arithmetic")[0]) == (
        " first let me check looks right so the answer is"
    )
    assert set(row) <= set(WORDS)
    assert "<eos>" in SPECIALS


@given(st.integers(0, 2**32 - 1), st.sampled_from(GRAM_SETS["default"]))
def test_the_marked_bytes_do_not_depend_on_the_tokenizer(seed: int, gram: str) -> None:
    """Cut one text at random places: the pieces marked are those that touch the phrase."""
    rng = np.random.default_rng(seed)
    before, after = "0 1 2 " * int(rng.integers(0, 3)), " 3 4 5" * int(rng.integers(0, 3))
    text = before + gram.upper() + after
    cuts = sorted({0, len(text), *rng.integers(0, len(text) + 1, rng.integers(0, 12)).tolist()})
    row = [text[a:b] for a, b in itertools.pairwise(cuts)]
    start, end = len(before), len(before) + len(gram)
    expected = [text[a:b] for a, b in itertools.pairwise(cuts) if a < end and b > start]
    assert marked([row]) == [expected]


@pytest.mark.parametrize(
    ("grams", "message"),
    [
        ("arithmetics", "did you mean 'arithmetic'"),
        ([], "at least one phrase"),
        (["wait", "  "], "has no word"),
    ],
)
def test_phrases_that_cannot_be_used_are_refused(grams: str | list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlanningDetector(grams, [b"a"])


def test_ids_of_another_tokenizer_are_refused() -> None:
    detector = PlanningDetector("default", [b"a", b"b"])
    with pytest.raises(DataError, match="the tokenizer has 2 pieces"):
        detector.mask(np.array([[0, 2]], dtype=np.int32), np.array([2], dtype=np.int32))


def test_phrases_with_signs_are_taken_literally() -> None:
    assert marked([["a+b (c)", " a+b", " (c)"]], ["a+b (c)"]) == [["a+b (c)", " a+b", " (c)"]]
    assert marked([["aab (c)"]], ["a+b (c)"]) == [[]]
