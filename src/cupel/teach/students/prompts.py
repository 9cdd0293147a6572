"""The prompt of a student: one function, used in acting, scoring, labelling and training alike.

Knows the order of the parts. Refuses to shorten: every valid action and the whole observation
stand in every prompt, and a model too small for that is told so by its own length check.
"""

from __future__ import annotations

from collections.abc import Sequence

TEMPLATE_VERSION = "teach-1"
"""Enters every cache key; changes whenever `build_prompt` does."""


def build_prompt(
    task: str, observation: str, actions: Sequence[str], *, patch: str | None = None
) -> str:
    """Return the text after which the model writes one of `actions`, then ends.

    Args:
        patch: a note placed between instruction and observation; None leaves no trace.
    """
    note = "" if patch is None else f"\nnote: {patch}"
    return f"task: {task}{note}\nstate: {observation}\nactions: {' ; '.join(actions)}\naction:"


def completion_of(action: str) -> str:
    """Return what stands behind the prompt when this action is taken; the end token follows."""
    return f" {action}"
