"""Planning detection over a million tokens: one alternation against windows times expressions.

    python benchmarks/planning.py

The other side is the common way: from every token grow a window of up to five pieces, join them
with spaces and search each for a phrase, until one matches. It marks other tokens too (see
docs/algorithms/planning-tokens.md), so the two are compared in time, not in result. The limit is
one pass of the compiled alternation over the text, its matches not used.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cupel.rlvr.planning import GRAM_SETS, PlanningDetector, compile_grams

ROUNDS = 3
SIZES = (250_000, 1_000_000)
WINDOW_TOKENS = 20_000  # the slow side's time is linear in tokens: it is measured on this many
ROW_TOKENS = 500
PROSE = (
    "so the number of ways is equal to sum over all pairs x y and we get that this is true for "
    "every n greater than two , hence we have a contradiction . now consider the case where it is "
    "odd and write down what follows from the equation above"
)
Rows = tuple[NDArray[np.int32], NDArray[np.int32], list[bytes]]


def draw_rows(tokens: int, rng: np.random.Generator) -> Rows:
    """Return tokens, lengths and pieces of text in which one phrase comes about every 60 words."""
    phrases = [gram.split() for gram in GRAM_SETS["default"]]
    filler = PROSE.split()
    words = sorted({*filler, *(word for phrase in phrases for word in phrase)})
    index = {word: number for number, word in enumerate(words)}
    ids: list[int] = []
    while len(ids) < tokens:
        ids += [index[filler[k]] for k in rng.integers(0, len(filler), 60)]
        ids += [index[word] for word in phrases[rng.integers(0, len(phrases))]]
    rows = tokens // ROW_TOKENS
    tokens_NT = np.array(ids[: rows * ROW_TOKENS], dtype=np.int32).reshape(rows, ROW_TOKENS)
    return tokens_NT, np.full(rows, ROW_TOKENS, np.int32), [b" " + w.encode() for w in words]


def windows(tokens_NT: NDArray[np.int32], pieces: list[bytes]) -> int:
    """Mark planning tokens by growing windows; return how many were marked."""
    either = "|".join(re.escape(gram) for gram in GRAM_SETS["default"])
    pattern = re.compile(rf"\b(?:{either})\b", re.IGNORECASE)
    text = [piece.decode().strip() for piece in pieces]
    count = 0
    for row in tokens_NT.tolist():
        marked = [False] * len(row)
        for start in range(len(row)):
            for end in range(start + 1, min(start + 5, len(row)) + 1):
                window = " ".join(text[token] for token in row[start:end])
                if pattern.search(window):
                    marked[start:end] = [True] * (end - start)
                    break
        count += sum(marked)
    return count


def seconds(function: Callable[[], object]) -> float:
    """Return the CPU time of one call: one thread, and other load on the machine stays out."""
    started = time.process_time()
    function()
    return time.process_time() - started


def compare(tokens: int) -> dict[str, float]:
    """Time both sides in alternation."""
    tokens_NT, lengths_N, pieces = draw_rows(tokens, np.random.default_rng(0))
    detector = PlanningDetector("default", pieces)
    pattern = compile_grams(GRAM_SETS["default"])
    buffer = b"".join(pieces[token] for token in tokens_NT.reshape(-1).tolist())
    few_NT = tokens_NT[: max(1, WINDOW_TOKENS // ROW_TOKENS)]
    slow, ours, scans = [], [], []
    for _ in range(ROUNDS):
        slow.append(seconds(lambda: windows(few_NT, pieces)) / few_NT.size)
        ours.append(seconds(lambda: detector.mask(tokens_NT, lengths_N)) / tokens_NT.size)
        scans.append(seconds(lambda: deque(pattern.finditer(buffer), maxlen=0)) / tokens_NT.size)
    slow_s, ours_s, scan_s = (statistics.median(times) for times in (slow, ours, scans))
    return {
        "tokens": int(tokens_NT.size),
        "marked_tokens": int(detector.mask(tokens_NT, lengths_N).sum()),
        "windows_s_per_million": 1e6 * slow_s,
        "cupel_s_per_million": 1e6 * ours_s,
        "ratio": slow_s / ours_s,
        "limit_s_per_million": 1e6 * scan_s,
        "times_the_limit": ours_s / scan_s,
    }


def main() -> None:
    """Run both sizes, print and write the result."""
    results = [compare(tokens) for tokens in SIZES]
    print(f"CPU time, medians of {ROUNDS} rounds, seconds per million tokens")
    for row in results:
        print(
            f"{row['tokens']:>9,} tokens: windows {row['windows_s_per_million']:.1f} s, cupel "
            f"{row['cupel_s_per_million']:.3f} s: {row['ratio']:.0f}x; "
            f"{row['times_the_limit']:.1f} times the limit of {row['limit_s_per_million']:.3f} s"
        )
    record = {
        "benchmark": "planning",
        "results": results,
        "clock": "process CPU time, one thread",
        "rounds": ROUNDS,
        "windows_measured_on_tokens": WINDOW_TOKENS,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "planning.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
