"""Graders as users write them: good, lax, broken, and endless."""

from __future__ import annotations

import os
import time


def lax(completion: str, answer: str) -> bool:
    return bool(completion) and bool(answer)


def by_word(completion: str, answer: str) -> bool | None:
    print("a grader may print")
    if not completion.strip():
        return None
    return completion.split()[-1] == answer


def broken(completion: str, answer: str) -> object:
    match completion:
        case "raise":
            raise ValueError(f"no such colour: {answer}")
        case "number":
            return 0.5
        case "die":
            os._exit(7)
        case "sleep":
            time.sleep(3600)
        case "spin":
            while True:
                pass
    return completion == answer


NOT_A_FUNCTION = 3
