"""Reads the code blocks of the pages: whole commands, without prompts, comments and continuations.

Knows Markdown fences and how a shell line is written in these pages. Refuses to know which blocks
can be run here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHELLS = ("console", "sh")
LANGUAGES = (*SHELLS, "python", "toml", "text")
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"^# ([\w./-]+\.(?:py|toml))\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block: the page it stands on, its language and its text."""

    page: Path
    language: str
    text: str

    @property
    def file_name(self) -> str | None:
        """The file a reader would save the block in, where its first line names one."""
        found = _FILE_NAME.match(self.text)
        return found.group(1) if found else None

    def commands(self) -> list[str]:
        """Return the shell commands of the block, one a string."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        bare = (re.sub(r"\s+#.*$", "", line).strip() for line in lines)
        return [line for line in bare if line and not line.startswith("#")]


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    return [
        Block(page=page, language=language.strip(), text=text)
        for language, text in _FENCE.findall(page.read_text())
    ]


def words_of(command: str) -> tuple[dict[str, str], list[str]]:
    """Split a command into the variables set before it and its words, without placeholders."""
    words = [word for word in shlex.split(command) if word not in ("...", "…")]
    variables = {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return variables, words


def documented_exceptions() -> Iterator[tuple[str, str, str]]:
    """Yield (start of a command, what is checked, why not more) from the page that lists them."""
    text = (ROOT / "docs" / "reference" / "code-blocks.md").read_text()
    yield from re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
