"""Planning tokens: the tokens that spell a planning phrase, found on the decoded bytes.

Pure. Searches one text for all completions with one compiled expression, then maps the matched
spans back to tokens, so that how a tokenizer splits words changes nothing. Refuses to know models,
rewards and what the mask is for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cupel.config import did_you_mean
from cupel.errors import ConfigError, DataError

GRAM_SETS: dict[str, tuple[str, ...]] = {
    "default": (
        "wait let me",
        "let me think",
        "on second thought",
        "let me check",
        "let me verify",
        "is this right",
        "double check",
        "try another approach",
        "go back and",
        "start over",
        "that's not right",
        "that doesn't work",
        "another way to",
        "or we could",
        "what if we",
        "notice that",
        "the key is",
        "the key insight",
    ),
    "arithmetic": (
        "first",
        "then",
        "next",
        "wait",
        "looks right",
        "let me check",
        "let me guess",
        "let me work step by step",
        "the answer is",
        "so the answer is",
    ),
}
"""Named sets of planning phrases: the field's, and those of the arithmetic language."""

_LETTER = rb"[0-9a-z_]|\xc3[\x80-\xbf]"
_SPACE = rb"(?:\s|\xc2\xa0|\xe2\x80[\x80-\x8a\xaf])"
_DASH_OR_COMMA = rb"(?:,|-|\xe2\x80[\x90-\x95]|\xe2\x80\xa6|\.\.\.)"
_BETWEEN = rb"(?:%(space)b+|%(space)b*%(mark)b+%(space)b*)" % {
    b"space": _SPACE,
    b"mark": _DASH_OR_COMMA,
}
_APOSTROPHE = rb"(?:['`]|\xe2\x80[\x98\x99\x9b]|\xca\xbc)"
_ROW_END = b"\x00"


class PlanningDetector:
    """Finds planning phrases in batches of completions of one tokenizer."""

    def __init__(self, grams: str | Sequence[str], piece_bytes: Sequence[bytes]) -> None:
        """Compile the phrases.

        Args:
            grams: the name of a set in GRAM_SETS, or phrases.
            piece_bytes: the UTF-8 bytes of every token id; special tokens are empty.

        Raises:
            ConfigError: an unknown set, no phrase, or a phrase without a word.
        """
        self.grams = named_grams(grams) if isinstance(grams, str) else tuple(grams)
        self._pattern = compile_grams(self.grams)
        self._pieces = [bytes(piece) for piece in piece_bytes]
        self._lengths_V = np.array([len(piece) for piece in self._pieces], dtype=np.int64)

    def mask(self, tokens_NT: NDArray[np.int32], lengths_N: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return True on the tokens that overlap a planning phrase, False elsewhere and on padding.

        Raises:
            DataError: a token id that the tokenizer does not have.
        """
        valid_NT = np.arange(tokens_NT.shape[1]) < lengths_N[:, None]
        tokens = tokens_NT[valid_NT]
        self._check_ids(tokens)
        sizes = self._lengths_V[tokens]
        # one byte is added after the last token of every row, so that no phrase spans two rows
        rows = np.repeat(np.arange(len(lengths_N)), lengths_N)
        ends = np.cumsum(sizes) + rows
        buffer = self._joined(tokens, lengths_N)
        marked = _overlapping(_spans(self._pattern, buffer), ends - sizes, ends) & (sizes > 0)
        mask_NT = np.zeros(tokens_NT.shape, dtype=np.bool_)
        mask_NT[valid_NT] = marked
        return mask_NT

    def _joined(self, tokens: NDArray[np.int32], lengths_N: NDArray[np.int32]) -> bytes:
        text = [self._pieces[token] for token in tokens.tolist()]
        ends_N = np.cumsum(lengths_N).tolist()
        starts_N = [0, *ends_N[:-1]]
        rows = [b"".join(text[a:b]) for a, b in zip(starts_N, ends_N, strict=True)]
        return (_ROW_END.join(rows)).lower()

    def _check_ids(self, tokens: NDArray[np.int32]) -> None:
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < len(self._pieces):
            raise DataError(
                f"PlanningDetector: token ids span {tokens.min()} to {tokens.max()}, the tokenizer "
                f"has {len(self._pieces)} pieces; use the tokenizer that sampled them"
            )


def named_grams(name: str) -> tuple[str, ...]:
    """Return a named set of phrases.

    Raises:
        ConfigError: no such set.
    """
    if name not in GRAM_SETS:
        raise ConfigError(
            f"strategic_grams = '{name}': no such set; {did_you_mean(name, sorted(GRAM_SETS))}"
        )
    return GRAM_SETS[name]


def compile_grams(grams: Sequence[str]) -> re.Pattern[bytes]:
    """Compile phrases into one alternation over lower-case UTF-8 text.

    Words must be whole. Between two words any white space, commas, dashes or dots of omission may
    stand; an apostrophe may be typographic. Case is ignored for the letters a to z.

    Raises:
        ConfigError: no phrase, or a phrase without a word.
    """
    if not grams:
        raise ConfigError("strategic_grams is empty; give at least one phrase, or a named set")
    by_first: dict[bytes, list[bytes]] = {}
    for gram in sorted(grams, key=len, reverse=True):
        words = gram.lower().replace("’", "'").encode().split()
        if not words:
            raise ConfigError(f"strategic_grams: {gram!r} has no word")
        first, body = words[0][:1], _BETWEEN.join(map(_escaped, words))
        by_first.setdefault(first, []).append(body[len(_escaped(first)) :])
    # The first byte stands before its look-behind: only so can the engine skip to candidates.
    branches = [
        re.escape(first)
        + rb"(?<![0-9a-z_]%b)(?<!\xc3[\x80-\xbf]%b)" % (re.escape(first), re.escape(first))
        + rb"(?:%b)" % rb"|".join(bodies)
        for first, bodies in by_first.items()
    ]
    return re.compile(rb"(?:%b)(?!%b)" % (rb"|".join(branches), _LETTER))


def _escaped(word: bytes) -> bytes:
    return re.escape(word).replace(b"'", _APOSTROPHE)


def _spans(pattern: re.Pattern[bytes], buffer: bytes) -> NDArray[np.int64]:
    """Return [start, end) of every match, overlapping ones included."""
    spans: list[tuple[int, int]] = []
    search = pattern.search
    found = search(buffer)
    while found is not None:
        span = found.span()
        spans.append(span)
        found = search(buffer, span[0] + 1)
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _overlapping(
    spans: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return True where the token [start, end) overlaps a span."""
    first = np.searchsorted(ends, spans[:, 0], side="right")
    beyond = np.searchsorted(starts, spans[:, 1], side="left")
    steps = np.bincount(first, minlength=len(ends) + 1)
    steps -= np.bincount(beyond, minlength=len(ends) + 1)
    marked: NDArray[np.bool_] = np.cumsum(steps[:-1]) > 0
    return marked
