"""A command whose options take every word up to the next option, as a shell expands a glob.

`--baseline runs/a_s* --candidate runs/b_s*` reaches the program as many words after one flag.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click


class GreedyOption(click.Option):
    """A repeatable option that also takes several values after one flag."""

    def __init__(self, param_decls: Sequence[str] | None = None, **attrs: Any) -> None:
        attrs["multiple"] = True
        super().__init__(param_decls, **attrs)


class GreedyCommand(click.Command):
    """Repeats a greedy option's flag before each of its values, then parses as usual."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse after the expansion."""
        flags = {
            name for param in self.params if isinstance(param, GreedyOption) for name in param.opts
        }
        return super().parse_args(ctx, repeat_flags(args, flags))


def repeat_flags(words: Sequence[str], flags: set[str]) -> list[str]:
    """Write a greedy flag before each of its values.

    >>> repeat_flags(["--baseline", "a", "b", "--alpha", ".1"], {"--baseline"})
    ['--baseline', 'a', '--baseline', 'b', '--alpha', '.1']
    """
    expanded: list[str] = []
    current: str | None = None
    waiting = False
    for position, word in enumerate(words):
        if word == "--":
            return [*expanded, *words[position:]]
        if word in flags:
            current, waiting = word, True
            expanded.append(word)
        elif word.startswith("-") and word != "-":
            name = word.partition("=")[0]
            current, waiting = (name, False) if name in flags else (None, False)
            expanded.append(word)
        elif current is not None and not waiting:
            expanded += [current, word]
        else:
            expanded.append(word)
            waiting = False
    return expanded
