"""The texts a small model is warm-started on, and the measured accuracy that ends the warm start.

Knows the arithmetic language and its training split. Refuses to know how a model is built or
trained: a builder draws (prompt, completion) pairs here and asks here how good its policy is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cupel.policy.protocol import Policy
from cupel.rlvr.arithmetic import (
    MAX_PIECES,
    SPECIALS,
    WORDS,
    Chain,
    careful_completion,
    draw_chain,
    mixed_completion,
)
from cupel.rlvr.grading import grade
from cupel.rlvr.problem import is_held_out


@dataclass(frozen=True, slots=True, kw_only=True)
class ArithmeticCorpus:
    """Endless (prompt, completion) pairs of the arithmetic language, training split only.

    Attributes:
        held_out_fraction: share of problems that never appear here; the same as in the
            problem set's config.
        name: enters the cache key of the model that is built; changes whenever the texts do.
        specials, words: the vocabulary; ids are positions in specials + words.
        max_tokens: longest completion, the end-of-sequence token included.
    """

    name: ClassVar[str] = "arithmetic-1"
    specials: ClassVar[tuple[str, ...]] = SPECIALS
    words: ClassVar[tuple[str, ...]] = WORDS
    max_tokens: ClassVar[int] = MAX_PIECES + 1

    held_out_fraction: float = 0.1

    def clean(self, rng: np.random.Generator) -> tuple[str, str]:
        """Draw a problem and a careful solution without a slip."""
        chain = self._training_chain(rng)
        return chain.text, careful_completion(chain, rng)

    def mixed(self, rng: np.random.Generator) -> tuple[str, str]:
        """Draw a problem and what a careless solver writes: most guess, few work carefully."""
        chain = self._training_chain(rng)
        return chain.text, mixed_completion(chain, rng)

    def accuracy(
        self,
        policy: Policy,
        *,
        probes: int,
        rng: np.random.Generator,
        temperature: float = 1.0,
    ) -> float:
        """Return the share of correct completions on freshly drawn training problems."""
        chains = [self._training_chain(rng) for _ in range(probes)]
        completions = policy.sample(
            [policy.tokenizer.encode(chain.text) for chain in chains],
            group_size=1,
            max_tokens=self.max_tokens,
            temperature=temperature,
            top_p=1.0,
            uniforms_NT=rng.random((probes, self.max_tokens)),
        )
        correct = 0
        for row, chain in enumerate(chains):
            ids = completions.tokens_NT[row, : completions.lengths_N[row]]
            text = policy.tokenizer.decode(ids.tolist())
            correct += grade(text, str(chain.answer), "boxed").outcome == "correct"
        return correct / probes

    def _training_chain(self, rng: np.random.Generator) -> Chain:
        while True:
            chain = draw_chain(rng)
            if not is_held_out(chain.text, self.held_out_fraction):
                return chain
