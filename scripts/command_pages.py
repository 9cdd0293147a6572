"""The reference page of the program: what every command's `--help` says, in one place.

Knows how to walk the commands and to ask each for its help at one fixed width. Refuses to know
what any of them does: the words are those of the program.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from cupel.cli.app import SECTIONS, program

WIDTH = 88


def commands_page() -> str:
    """Return docs/reference/cli.md."""
    lines = [
        "# Commands",
        "",
        "What `--help` says, of every command. Exit codes: 0 success; 1 a gate or a verdict says",
        "no; 2 bad usage or bad input, told in one line; 3 runs failed; 4 a litmus test is",
        "inconclusive; 130 interrupted, and the same command continues.",
        "",
    ]
    for section, words in SECTIONS.items():
        lines += [f"## {section}", ""]
        for word in words:
            for context in _contexts(word):
                name = context.command_path
                depth = "#" * (2 + len(name.split()) - 1)
                text = context.command.get_help(context).rstrip()
                lines += [f"{depth} `{name}`", "", "```text", text, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _contexts(word: str) -> Iterator[click.Context]:
    settings = {**program.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    root = click.Context(program, info_name="cupel", **settings)
    found = program.get_command(root, word)
    assert found is not None, word
    yield from _walk(click.Context(found, parent=root, info_name=word))


def _walk(context: click.Context) -> Iterator[click.Context]:
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            assert found is not None, name
            yield from _walk(click.Context(found, parent=context, info_name=name))
