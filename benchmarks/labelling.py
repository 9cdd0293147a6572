"""Scoring the decisions behind real labels: one forward an action against one row a state.

    python benchmarks/labelling.py [--moments 24] [--replicates 8] [--threads 1]

The work is that of labels: from states of the student's own episodes in the shop, branches of the
student alone and of the expert's action first, each replicate to its end. The plain side takes the
decisions as they come: for every valid action one forward pass of prompt and action, batch 1, no
cache; it is timed on a sample of the decisions and scaled to all of them. Ours is the engine's own
way: all actions of a state in one row, rows in batches, equal states once. Same model, machine,
threads, dtype and decisions; tokenising counts on both sides. The clock is CPU time, so that load
on the machine meets neither side.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cupel.lab.randomness import Randomness
from cupel.policy.actions import ActionRequest, ActionScorer
from cupel.policy.distribution_cache import DistributionCache
from cupel.policy.tokens import PieceTokenizer
from cupel.teach.branches.branching import Branch, BranchResult, run_branches, uniforms_of
from cupel.teach.environments.base import (
    EnvironmentConfig,
    Snapshot,
    make_environment,
    restore,
    take_snapshot,
)
from cupel.teach.students.language import LanguageStudent, build_student
from cupel.teach.students.prompts import build_prompt, completion_of
from cupel.teach.students.student import ActionProbs, Query, StudentConfig, draw, tempered

RESULTS = Path(__file__).parent / "results" / "labelling.json"
ROUNDS = 3
SAMPLE = 60
SHOP = EnvironmentConfig(name="shop")
FIRST_TASK = 1000


@dataclass
class Recorded:
    """A student that keeps what it was asked, call by call."""

    student: LanguageStudent
    calls: list[list[Query]] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return self.student.identity

    def distributions(self, queries: Sequence[Query]) -> list[ActionProbs]:
        self.calls.append(list(queries))
        return self.student.distributions(queries)


def moments(student: LanguageStudent, count: int) -> list[tuple[Snapshot, str]]:
    """Return states of the student's episodes with the expert's action, three steps in."""
    found: list[tuple[Snapshot, str]] = []
    rng, seed = np.random.default_rng(0), FIRST_TASK
    shop = make_environment(SHOP)
    while len(found) < count:
        shop.reset(seed)
        seed += 1
        for _ in range(3):
            actions = shop.valid_actions()
            if not actions:
                break
            query = Query(
                prompt=build_prompt(shop.task(), shop.observe(), actions), actions=actions
            )
            [probs] = student.distributions([query])
            shop.step(actions[draw(probs, float(rng.random()))])
        expert = shop.expert()
        if expert is not None:
            found.append((take_snapshot(shop), expert))
    return found


def label(student: LanguageStudent, count: int, replicates: int) -> tuple[Recorded, list[Query]]:
    """Run the labels' branches; return what the student was asked, and every decision made."""
    recorded = Recorded(student)
    branches = [
        Branch(
            snapshot=snapshot,
            condition=condition,
            replicate=replicate,
            horizon=SHOP.max_steps - len(snapshot.actions),
            first_action=first,
        )
        for snapshot, expert in moments(student, count)
        for condition, first in (("policy", None), ("force", expert))
        for replicate in range(replicates)
    ]
    uniforms = uniforms_of(Randomness(0), "benchmark")
    results = run_branches(branches, recorded, SHOP, uniforms=uniforms)
    made: list[Query] = []
    for branch, result in zip(branches, results, strict=True):
        made += decisions(branch, result)
    return recorded, made


def decisions(branch: Branch, result: BranchResult) -> list[Query]:
    """Return the query of every decision of a branch, repeats included."""
    shop, made = make_environment(SHOP), []
    restore(branch.snapshot, shop)
    for number, action in enumerate(result.actions):
        if number or branch.first_action is None:
            actions = shop.valid_actions()
            prompt = build_prompt(shop.task(), shop.observe(), actions)
            made.append(Query(prompt=prompt, actions=actions))
        shop.step(action)
    return made


def plain(student: LanguageStudent, queries: Sequence[Query]) -> list[ActionProbs]:
    """Score each action by a forward pass of its own."""
    model, tokenizer = student.policy.lm.model, student.policy.tokenizer
    model.config._attn_implementation = "eager"
    found = []
    for query in queries:
        scores = []
        for action in query.actions:
            first = len(tokenizer.encode(query.prompt))
            ids = [*tokenizer.encode(query.prompt + completion_of(action)), tokenizer.eos_id]
            logits = model(input_ids=torch.tensor([ids[:-1]]), use_cache=False).logits[0]
            logs = torch.log_softmax(logits[first - 1 :].float(), dim=-1)
            picked = logs.gather(1, torch.tensor(ids[first:])[:, None])
            scores.append(float(picked.double().sum()))
        found.append(tempered(np.array(scores), student.config.temperature))
    return found


def uncached(student: LanguageStudent, queries: Sequence[Query]) -> list[ActionProbs]:
    """Score every query, repeats too, all actions in one row, rows in batches."""
    assert isinstance(student.policy.tokenizer, PieceTokenizer)
    scorer = ActionScorer(student.policy.lm, student.policy.tokenizer)
    requests = [
        ActionRequest(prompt=query.prompt, completions=tuple(map(completion_of, query.actions)))
        for query in queries
    ]
    return [tempered(scores, student.config.temperature) for scores in scorer.log_scores(requests)]


def one_by_one(student: LanguageStudent, queries: Sequence[Query]) -> list[ActionProbs]:
    """As `uncached`, a state at a time: the shared prompt without batches."""
    assert isinstance(student.policy.tokenizer, PieceTokenizer)
    scorer = ActionScorer(student.policy.lm, student.policy.tokenizer)
    return [
        tempered(
            scorer.log_scores(
                [
                    ActionRequest(
                        prompt=query.prompt, completions=tuple(map(completion_of, query.actions))
                    )
                ]
            )[0],
            student.config.temperature,
        )
        for query in queries
    ]


def fresh(student: LanguageStudent) -> LanguageStudent:
    """Return the same student with nothing at hand."""
    return LanguageStudent(student.policy, student.config, DistributionCache(None))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the median CPU seconds of the rounds, and the last result."""
    seconds, result = [], None
    for _ in range(ROUNDS):
        began = time.process_time()
        result = work()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds), result


def steps_per_second(seconds: float = 2.0) -> float:
    """Step the shop at random, valid actions included."""
    rng, steps = np.random.default_rng(0), 0
    uniforms = rng.random(4096).tolist()
    shop = make_environment(SHOP)
    shop.reset(FIRST_TASK)
    start = shop.copy()
    began = time.process_time()
    while time.process_time() - began < seconds:
        shop = start.copy()
        for _ in range(SHOP.max_steps):
            actions = shop.valid_actions()
            if not actions:
                break
            shop.step(actions[int(uniforms[steps % 4096] * len(actions))])
            steps += 1
    return steps / (time.process_time() - began)


def gap(one: Sequence[ActionProbs], other: Sequence[ActionProbs]) -> float:
    """Return the largest difference of two lists of distributions."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=24)
    parser.add_argument("--replicates", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    built = build_student(StudentConfig(), device="cpu", threads=options.threads, cache=None)
    assert isinstance(built, LanguageStudent)
    recorded, made = label(built, options.moments, options.replicates)
    rng = np.random.default_rng(2)
    sample = [made[at] for at in rng.choice(len(made), SAMPLE, replace=False)]
    with torch.no_grad(), built.policy.lm.arithmetic():
        plain(built, sample[:3])
        plain_s, want = timed(lambda: plain(built, sample))
    alone_s, alone = timed(lambda: one_by_one(built, sample))
    batched_s, batched = timed(lambda: uncached(built, sample))
    engine_s, _ = timed(
        lambda: [own.distributions(call) for own in [fresh(built)] for call in recorded.calls]
    )
    per_decision = plain_s / SAMPLE
    total = len(made)
    states = len({query for call in recorded.calls for query in call})
    row = {
        "command": " ".join(["python benchmarks/labelling.py", *sys.argv[1:]]),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
        "student": built.identity,
        "parameters": built.policy.describe()["parameters"],
        "moments": options.moments,
        "branches": 2 * options.moments * options.replicates,
        "decisions": total,
        "distinct_states": states,
        "actions_a_decision": round(statistics.fmean(len(q.actions) for q in sample), 2),
        "plain_ms_a_decision": round(1e3 * per_decision, 4),
        "one_row_ms_a_decision": round(1e3 * alone_s / SAMPLE, 4),
        "one_row_batched_ms_a_decision": round(1e3 * batched_s / SAMPLE, 4),
        "ours_ms_a_decision": round(1e3 * engine_s / total, 4),
        "plain_s_all": round(per_decision * total, 2),
        "ours_s_all": round(engine_s, 3),
        "factor_shared_prompt": round(plain_s / alone_s, 2),
        "factor_batching": round(alone_s / batched_s, 2),
        "factor_shared_prompt_and_batching": round(plain_s / batched_s, 2),
        "factor_equal_states": round((batched_s / SAMPLE) / (engine_s / total), 2),
        "ratio": round(per_decision * total / engine_s, 1),
        "largest_difference": gap(want, batched),
        "largest_difference_alone_or_batched": gap(alone, batched),
        "shop_steps_per_second": round(steps_per_second()),
    }
    for name, value in row.items():
        print(f"{name:36} {value}")
    kept = row["ratio"] >= 20 and row["largest_difference"] <= 1e-5
    print("kept: >= 20 times, distributions within 1e-5" if kept else "NOT KEPT")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(row, indent=2) + "\n")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
