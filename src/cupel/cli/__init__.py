"""The command line: parses, calls the library, prints, and sets the exit code.

Knows the words of the commands. Refuses to hold any logic of its own, and to import torch, numpy
or pydantic before a command that needs them runs.
"""

from __future__ import annotations

from typing import NoReturn

from cupel.cli.app import program

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line of this process and exit with its code."""
    program.main()
    raise AssertionError("program.main always exits")
