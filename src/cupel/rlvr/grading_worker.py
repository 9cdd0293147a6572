"""One grader in a process of its own, which may be killed at any moment.

Knows how to compare two answers by algebra (the math-verify library) or by a function of the user,
and how to answer one line of JSON with one line of JSON. Refuses torch, run folders, and to decide
how long it may take: a timer of the kernel ends the process when an item has used up its
processor time, whatever the interpreter is busy with.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MATH = "math-verify"
"""The task of comparing by algebra; any other task is `module:function`."""

ADDRESS_SPACE = 4 << 30
"""Bytes a math-verify worker may map; a tower of powers ends in a MemoryError, not in a dead
machine. A user's grader is not bounded: it may load a model."""

Compare = Callable[[str, str], tuple[str, str]]
"""(first text, reference) to (outcome or cause, reason)."""


def main() -> None:
    """Serve until the input ends: one greeting, then one answer a line."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a grader prints must not be taken for an answer
    request = json.loads(sys.stdin.readline())
    try:
        compare = load(request["task"])
    except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
        _say(answers, {"failed": _named(error)})
        return
    _say(answers, {"ready": True})
    for line in sys.stdin:
        text, reference = json.loads(line)
        with _timer(request["deadline_s"]):
            try:
                outcome, reason = compare(text, reference)
            except Exception as error:  # noqa: BLE001 - a grader's failure is an outcome
                outcome, reason = "error", _named(error)
        _say(answers, {"outcome": outcome, "reason": reason})


def load(task: str) -> Compare:
    """Return the comparison a task names, warmed up.

    Raises:
        ImportError, AttributeError, TypeError: it cannot be loaded.
    """
    if task != MATH:
        return _custom(task)
    _bound_memory()
    compare = _math_verify()
    compare(r"\frac{1}{2}", "0.5")
    return compare


def _math_verify() -> Compare:
    import logging

    from math_verify import LatexExtractionConfig, parse, verify
    from sympy.core import random

    logging.disable(logging.CRITICAL)
    latex = [LatexExtractionConfig()]

    def read(text: str) -> list[Any]:
        # its own time-outs are off: they raise SIGALRM, and swallow what they interrupt
        flat = " ".join(text.replace("\\$", "").replace("$", "").split())
        found: list[Any] = parse(
            f"${flat}$",
            extraction_config=latex,
            fallback_mode="no_fallback",
            parsing_timeout=None,
            raise_on_error=True,
        )
        return found

    def compare(text: str, reference: str) -> tuple[str, str]:
        random.seed(0)  # numeric tests of equality draw points: the same ones for every item
        expected = read(reference)
        if not expected:
            return "unparsable", f"math-verify cannot read the reference {_short(reference)}"
        given = read(text)
        if not given:
            return "unparsable", f"math-verify cannot read {_short(text)}"
        same = verify(expected, given, timeout_seconds=None, raise_on_error=True)
        return ("correct", "") if same else ("incorrect", "")

    return compare


def _custom(task: str) -> Compare:
    module, _, name = task.partition(":")
    function = getattr(importlib.import_module(module), name)
    if not callable(function):
        raise TypeError(f"{task} is not a function")

    def compare(text: str, reference: str) -> tuple[str, str]:
        verdict = function(text, reference)
        match verdict:
            case True:
                return "correct", ""
            case False:
                return "incorrect", ""
            case None:
                return "unparsable", f"{task} found no answer"
        return "error", f"{task} returned {_short(repr(verdict))}; return True, False or None"

    return compare


@contextmanager
def _timer(deadline_s: float) -> Iterator[None]:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the kernel ends the process
    signal.setitimer(signal.ITIMER_PROF, deadline_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _bound_memory() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > ADDRESS_SPACE:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, hard))


def _say(stream: Any, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


def _named(error: Exception) -> str:
    return _short(f"{type(error).__name__}: {error}")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:197] + "..."
