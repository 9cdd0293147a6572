"""What calls to a model cost, before they are made and after.

Pure. Knows list prices of a few models, and an upper bound of a call's tokens. Refuses to guess:
the price of any other model is None until it is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cupel.errors import ConfigError
from cupel.teach.teachers.teacher import TeacherConfig

LIST_PRICES: Mapping[str, tuple[float, float]] = {
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4o": (2.50, 10.00),
    "gpt-4.1-nano": (0.10, 0.40),
    "gpt-4.1-mini": (0.40, 1.60),
    "gpt-4.1": (2.00, 8.00),
}
"""US dollars per million tokens in and out, as published by OpenAI in 2025."""
CHARACTERS_PER_TOKEN = 4.0
"""Of English text, roughly; used in forecasts only, never in the budget."""
TYPICAL_ANSWER = 90
"""Tokens of a typical answer; used in forecasts only."""
_OVERHEAD = 16
"""Tokens that a message's role and separators take, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens."""

    tokens_in: float
    tokens_out: float

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """Return US dollars.

        >>> round(Price(tokens_in=0.15, tokens_out=0.6).cost(1e6, 1e6), 2)
        0.75
        """
        return (self.tokens_in * tokens_in + self.tokens_out * tokens_out) / 1e6


def price_of(config: TeacherConfig) -> Price | None:
    """Return the price of a config's model, or None where nothing needs it and none is known.

    A dated name such as `gpt-4o-mini-2024-07-18` has the price of its family.

    Raises:
        ConfigError: only one of the two prices is given, or `max_cost` cannot be kept.
    """
    given = (config.price_in, config.price_out)
    if given != (None, None):
        if config.price_in is None or config.price_out is None:
            raise ConfigError("teacher: give both price_in and price_out, or neither")
        return Price(tokens_in=config.price_in, tokens_out=config.price_out)
    family, _, date = config.model.partition("-20")
    name = family if date.replace("-", "").isdigit() else config.model
    if name in LIST_PRICES:
        tokens_in, tokens_out = LIST_PRICES[name]
        return Price(tokens_in=tokens_in, tokens_out=tokens_out)
    if config.max_cost is not None:
        raise ConfigError(
            f"teacher.model '{config.model}': its price is not known, so max_cost = "
            f"{config.max_cost:g} could not be kept; give teacher.price_in and teacher.price_out "
            "in US dollars per million tokens (0 for a model of your own)"
        )
    return None


def most_tokens(messages: Sequence[Mapping[str, str]], response_format: Mapping[str, Any]) -> int:
    """Return a bound on the prompt's tokens: byte-level tokenizers make at most one a byte."""
    texts = [message["content"] for message in messages] + [json.dumps(response_format)]
    return sum(len(text.encode()) for text in texts) + _OVERHEAD * (len(messages) + 1)


def likely_tokens(messages: Sequence[Mapping[str, str]], response_format: Mapping[str, Any]) -> int:
    """Return how many tokens a prompt probably has; for forecasts."""
    texts = [message["content"] for message in messages] + [json.dumps(response_format)]
    return round(sum(map(len, texts)) / CHARACTERS_PER_TOKEN)
