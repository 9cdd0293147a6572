"""A study with completions and recorded tokens, written key by key, hostile texts among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

CONDITIONS = ("grpo+none", "maxrl+gtpo_sepa")
SEEDS = (42, 101)
STEPS = (0, 1, 2, 3)
RECORDED = (0, 3)
GROUPS, SAMPLES = 3, 4

HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    '<img src="https://evil.invalid/x.png" onerror="window.pwned = 2">',
    "\u001b[31mred\u001b[0m \u0000\u0007 bell\r",
    "price \u202e001$\u202c and \u2066iso\u2069 \u200fmark",
)
"""What a model may write by accident or by training; sample k of group 2 holds HOSTILE[k]."""

_WORDS = ("first", " 17", " +", " 25", ",", " wait", " 7", " +", " 5", " =", " 12", ",", " so")
_END = (" the", " answer", " is", " 42")


def write_study(folder: Path) -> Path:
    """Write a study of 2 conditions x 2 seeds x 4 steps x 3 groups x 4 completions."""
    folder.mkdir(parents=True)
    study = {
        "name": "read-me",
        "recipe": "rlvr.train",
        "seeds": list(SEEDS),
        "conditions": [{"label": label} for label in CONDITIONS],
    }
    (folder / "study.toml").write_text(tomli_w.dumps(study))
    entries = [
        {"condition": label, "seed": seed, "folder": f"runs/{label}_s{seed}"}
        for label in CONDITIONS
        for seed in SEEDS
    ]
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "runs": entries}))
    for entry in entries:
        write_run(folder / str(entry["folder"]), str(entry["condition"]), int(str(entry["seed"])))
    return folder


def write_run(folder: Path, condition: str, seed: int, *, recorded: bool = True) -> Path:
    """Write one finished run; `recorded` False leaves emergence/tokens.jsonl away."""
    (folder / "emergence").mkdir(parents=True)
    state = {"status": "done", "condition": condition, "seed": seed}
    (folder / "run.json").write_text(json.dumps(state))
    (folder / "result.json").write_text(json.dumps({"values": {}, "streams": {}}))
    rng = np.random.default_rng([seed, CONDITIONS.index(condition)])
    rows, tokens = [], []
    for step in STEPS:
        for group in range(GROUPS):
            for sample in range(SAMPLES):
                row, detail = _row(step, group, sample, rng)
                rows.append(row)
                if recorded and step in RECORDED and group < 2:
                    tokens.append(detail)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "emergence/generations.jsonl").write_text(lines)
    if recorded:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in tokens)
        (folder / "emergence/tokens.jsonl").write_text(text)
    return folder


def _row(
    step: int, group: int, sample: int, rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    words = (*_WORDS, *_END)
    pieces = [*words[: int(rng.integers(8, len(words) + 1))], ""]
    cut = len(pieces) <= 12
    correct: bool | None = None if cut and sample == 3 else bool(rng.random() < 0.3 + 0.15 * step)
    if group == 2:
        pieces = [HOSTILE[sample]]
    advantage = 1.0 if correct else -0.6
    entropies = np.round(rng.gamma(1.2, 0.5, len(pieces)), 4)
    planning = [int(piece.strip() in ("first", "wait", "so", "the", "answer")) for piece in pieces]
    row = {
        "step": step,
        "problem_id": f"add-{step}-{group}",
        "group": group,
        "sample": sample,
        "prompt": "17 + 25 = ?",
        "completion": "".join(pieces),
        "reward": 1.0 if correct else 0.0,
        "correct": correct,
        "answer": "42",
        "answer_found": None if correct is None else "42" if correct else "40",
        "ungradable_cause": "no answer" if correct is None else None,
        "finish_reason": "length" if cut else "stop",
        "num_tokens": len(pieces),
    }
    detail = {
        "step": step,
        "problem_id": row["problem_id"],
        "group": group,
        "sample": sample,
        "trained": True,
        "uncertainty_kind": "entropy",
        "advantage": advantage,
        "pieces": pieces,
        "logprobs": np.round(-rng.gamma(1.0, 0.4, len(pieces)), 4).tolist(),
        "entropies": entropies.tolist(),
        "planning": planning,
        "advantages": np.round(advantage * (0.9 + 0.1 * entropies / entropies.mean()), 5).tolist(),
    }
    return row, detail
