"""What the small student is warm-started on: states of the shop, what to do there, and notes.

Knows how states are visited (by a shopper half guided, half careless), which notes are shown, and
how far each is trusted. Refuses to touch the tasks of any study: its tasks are numbered from
`FIRST_TASK` on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cupel.teach.environments.base import Snapshot
from cupel.teach.environments.shop import VOCABULARY, Shop
from cupel.teach.environments.shop_expert import diagnosis, error_type, rationale
from cupel.teach.environments.shop_rules import CHOOSE, RESULTS, SEARCH
from cupel.teach.labelling.patching import (
    PATCH_WORDS,
    contrast_note,
    demo_note,
    hint_note,
    neutral_note,
)
from cupel.teach.records import Hint, Moment
from cupel.teach.students.careless import Probs, careless_probs, guided_probs
from cupel.teach.students.prompts import build_prompt

FIRST_TASK = 10_000_000
"""Tasks from here on are for the warm start; studies stay below."""

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
FRAME = ("task:", "\nnote:", "\nstate:", "\nactions:", "\naction:")
WORDS: tuple[str, ...] = (
    *FRAME,
    *(f" {word}" for word in dict.fromkeys((*VOCABULARY, *PATCH_WORDS))),
)
"""All pieces: the prompt's frame, and every word of shop, reasons and notes with its space."""

STEPS = 15
SHOPPERS = 64
EASY_SHARE = 0.4
"""Share of the search and options pages that become lessons: they are learned first."""
GUIDED = 0.5
"""Share of the steps on which a shopper is led by the expert, so that good states are seen."""
MISNAMED = 0.2
"""Share of the demo and contrast notes that name a wrong action: notes are followed, not judged."""
TRUST, HINT_TRUST = 0.85, 0.75
KEPT_HINTS = 512

_FORMATS = ("placebo", "demo", "contrast", "hint", "shuffled")
_NEUTRAL_WORDS = (5, 45)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One state.

    Attributes:
        probs: what to do, over `actions`.
        judged: for each item in sight, whether colour, material, kind and price are as wished.
    """

    prompt: str
    actions: tuple[str, ...]
    probs: Probs
    judged: tuple[tuple[bool, bool, bool, bool], ...]


def lessons(rng: np.random.Generator, *, note_share: float) -> Iterator[Lesson]:
    """Yield lessons without end, of many shoppers in turn."""
    tasks = iter(range(FIRST_TASK, 2 * FIRST_TASK))
    shoppers = [_begin(next(tasks)) for _ in range(SHOPPERS)]
    left = rng.integers(1, STEPS + 1, SHOPPERS).tolist()
    notes = _Notes(rng)
    while True:
        for at, shop in enumerate(shoppers):
            if shop.state.page not in (SEARCH, CHOOSE) or rng.random() < EASY_SHARE:
                yield _lesson(shop, notes if rng.random() < note_share else None)
            expert = shop.expert()
            left[at] -= 1 if expert is not None else 4
            led = expert if expert is not None and rng.random() < GUIDED else None
            over = shop.step(led if led is not None else _drawn(shop, rng)).done
            if over or left[at] <= 0:
                shoppers[at], left[at] = _begin(next(tasks)), STEPS


def _lesson(shop: Shop, notes: _Notes | None) -> Lesson:
    patch, probs = None, careless_probs(shop)
    if notes is not None and shop.expert() is not None:
        patch, probs = notes.draw(shop)
    actions = shop.valid_actions()
    return Lesson(
        prompt=build_prompt(shop.task(), shop.observe(), actions, patch=patch),
        actions=actions,
        probs=probs,
        judged=_judged(shop),
    )


def _judged(shop: Shop) -> tuple[tuple[bool, bool, bool, bool], ...]:
    task, state = shop.wares, shop.state
    if state.page == SEARCH:
        return ()
    shown = task.sheets[state.query][state.sheet] if state.page == RESULTS else (state.item,)
    wish, items = task.wish, [task.items[at] for at in shown]
    return tuple(
        (
            item.colour == wish.colour,
            item.material == wish.material,
            item.kind == wish.kind,
            item.price <= wish.limit,
        )
        for item in items
    )


class _Notes:
    """Notes of every condition, in the words of the patch test, and what they do to a shopper."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._others: list[str] = []

    def draw(self, shop: Shop) -> tuple[str, Probs]:
        """Return a note and the probabilities under it; the expert must have an action."""
        right, actions = str(shop.expert()), shop.valid_actions()
        student = _drawn(shop, self._rng)
        hint = self._hint(shop, right, student)
        text = hint_note(hint)
        assert text is not None
        self._others = [*self._others[1 - KEPT_HINTS :], text]
        named = right if self._rng.random() >= MISNAMED else str(self._rng.choice(actions))
        told = self._hint(shop, named, student)
        match _FORMATS[int(self._rng.integers(len(_FORMATS)))]:
            case "demo":
                note = str(demo_note(told))
                return note, guided_probs(shop, follow=named, trust=TRUST)
            case "contrast" if len(actions) > 1:
                avoid = student
                if avoid == named:
                    avoid = str(self._rng.choice([each for each in actions if each != named]))
                note = str(contrast_note(_moment(shop, avoid), told))
                return note, guided_probs(shop, follow=named, avoid=avoid, trust=TRUST)
            case "hint":
                return text, guided_probs(shop, follow=right, trust=HINT_TRUST)
            case "shuffled":
                other = self._others[int(self._rng.integers(len(self._others)))]
                return other, careless_probs(shop)
        return neutral_note(int(self._rng.integers(*_NEUTRAL_WORDS))), careless_probs(shop)

    def _hint(self, shop: Shop, action: str, student: str) -> Hint:
        return Hint(
            snapshot_id="",
            teacher="warm start",
            valid=True,
            suggested_action=action,
            rationale=rationale(shop),
            diagnosis=diagnosis(shop, student),
            error_type=error_type(shop, student),
        )


def _moment(shop: Shop, student: str) -> Moment:
    """Stand in for a mined moment: a note reads its actions only."""
    return Moment(
        snapshot=Snapshot(
            environment=shop.name,
            level=shop.level,
            version=shop.version,
            seed=shop.seed,
            actions=(),
            state_hash="",
        ),
        task=shop.task(),
        observation=shop.observe(),
        valid_actions=shop.valid_actions(),
        step_idx=0,
        trajectory_id="",
        outcome="",
        student_action=student,
        student_probs=None,
        failure_type="none",
        anchor_step=0,
        anchor_rule="sampled",
        offset=0,
        key_hash="",
    )


def _begin(seed: int) -> Shop:
    shop = Shop()
    shop.reset(seed)
    return shop


def _drawn(shop: Shop, rng: np.random.Generator) -> str:
    probs = careless_probs(shop)
    return shop.valid_actions()[int(rng.choice(len(probs), p=probs))]
