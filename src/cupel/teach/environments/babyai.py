"""MiniGrid's BabyAI levels as text: what is in view, what can be done, and the package's own bot.

Knows how a level's state becomes text, a mask and a key, and how the bot follows a history that is
not its own. Refuses to keep the level's step limit: how long an episode is, is the caller's
business. Descriptions follow BALROG (arXiv:2411.13543).

The bot explores what it has not seen and keeps a memory, so its advice is a function of the whole
history, not of `key()`; it is an expert to learn from, not an optimum.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from collections.abc import Hashable, Iterator
from difflib import get_close_matches
from importlib import metadata
from typing import Any

from cupel.errors import ConfigError, DataError, MissingExtraError
from cupel.teach.environments.base import Step

DEFAULT_LEVEL = "GoToLocal"
ADAPTER_VERSION = "1"
ACTIONS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")
"""The names of MiniGrid's first six actions, in its order; `done` does nothing in these levels."""

_NO_LIMIT = 1 << 40
_SUCCESS, _FAILURE = "the mission is accomplished", "the mission has failed"


class BabyAI:
    """One level of BabyAI, e.g. `GoToLocal` for BabyAI-GoToLocal-v0."""

    name = "babyai"

    def __init__(self, level: str = "") -> None:
        self.level = level or DEFAULT_LEVEL
        self.version = f"{ADAPTER_VERSION}+minigrid-{_package_version()}"
        self._world: Any = _world(self.level)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin task `seed`."""
        self.seed = int(seed)
        self.actions: tuple[str, ...] = ()
        self._end = ""
        self._shadow: _Shadow | None = None
        _begin(self._world, self.seed)

    def task(self) -> str:
        """Return the mission."""
        return str(self._world.mission)

    def observe(self) -> str:
        """Return what is in view, relative to the agent, and what is carried."""
        return self._end or _description(self._world)

    def valid_actions(self) -> tuple[str, ...]:
        """Return what has an effect on the thing ahead, and turning."""
        return () if self._end else _mask(self._world)

    def step(self, action: str) -> Step:
        """Act.

        Raises:
            DataError: the action is not valid here.
        """
        valid = self.valid_actions()
        if action not in valid:
            raise DataError(
                f"babyai {self.level} task {self.seed}: action '{action}' is not valid at "
                f"'{self.observe()}'; valid: {', '.join(valid) or 'none, the episode is over'}"
            )
        _, reward, done, _, _ = self._world.step(ACTIONS.index(action))
        success = bool(done and reward > 0)
        self.actions = (*self.actions, action)
        if done:
            self._end = _SUCCESS if success else _FAILURE
        return Step(reward=float(success), done=bool(done), success=success)

    def key(self) -> Hashable:
        """Return everything that decides what happens next.

        That is more than the grid: what the mission has seen done, the places it remembers, and
        which of several alike things it means.
        """
        world = self._world
        things = tuple(
            (at, *_thing(cell))
            for at, cell in enumerate(world.grid.grid)
            if cell is not None and cell.type != "wall"
        )
        return (
            self.seed,
            self._end,
            _place(world.agent_pos),
            int(world.agent_dir),
            things,
            _thing(world.carrying),
            _progress(world.instrs, world),
        )

    def copy(self) -> BabyAI:
        """Return an independent environment in the same state."""
        twin = BabyAI.__new__(BabyAI)
        twin.level, twin.version, twin.seed = self.level, self.version, self.seed
        twin.actions, twin._end, twin._shadow = self.actions, self._end, None
        twin._world = pickle.loads(pickle.dumps(self._world, pickle.HIGHEST_PROTOCOL))
        return twin

    def expert(self) -> str | None:
        """Return what a bot that watched this history advises.

        If the bot breaks down (it does when a box was opened that should not have been), a new one
        starts from that state; None where that one breaks down too, or has nothing valid to say.
        """
        if self._end:
            return None
        if self._shadow is None or not self._shadow.watched(self.seed, self.actions):
            self._shadow = _Shadow(self.level, self.seed)
        advice = self._shadow.advice(self.actions)
        return advice if advice in self.valid_actions() else None

    def optimal_q(self, horizon: int) -> None:
        """Return None: exact values are not computed here."""


class _Shadow:
    """A bot that follows a history in a world of its own, one action after another."""

    def __init__(self, level: str, seed: int) -> None:
        self._world = _world(level)
        _begin(self._world, seed)
        self._seed = seed
        self._seen: tuple[str, ...] = ()
        self._bot: Any = None
        self._advice = self._ask(None)

    def watched(self, seed: int, actions: tuple[str, ...]) -> bool:
        """Tell whether what it saw is how this history began."""
        return seed == self._seed and actions[: len(self._seen)] == self._seen

    def advice(self, actions: tuple[str, ...]) -> str | None:
        """Watch the rest of a history, and advise."""
        for action in actions[len(self._seen) :]:
            number = ACTIONS.index(action)
            self._world.step(number)
            self._seen = (*self._seen, action)
            self._advice = self._ask(number)
        return self._advice

    def _ask(self, taken: int | None) -> str | None:
        from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError

        # The bot asserts, and looks things up, from what it knows in part: each of these is a
        # breakdown of the bot in this state, which the caller hears of as "no advice".
        broken = (DisappearedBoxError, AssertionError, AttributeError, IndexError, ValueError)
        if self._bot is not None:
            with contextlib.suppress(*broken):
                return _name(self._bot.replan(taken))
        try:
            self._bot = BabyAIBot(self._world)
            return _name(self._bot.replan(None))
        except broken:
            self._bot = None
            return None


def _name(number: int | None) -> str | None:
    return ACTIONS[number] if number is not None and number < len(ACTIONS) else None


def _package_version() -> str:
    try:
        return metadata.version("minigrid")
    except metadata.PackageNotFoundError:
        raise MissingExtraError("environment babyai", "teach") from None


def _world(level: str) -> Any:
    """Make the package's environment, without its wrappers, limit and images."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import gymnasium
        import minigrid  # noqa: F401 registers the levels
    except ImportError:
        raise MissingExtraError("environment babyai", "teach") from None
    known = sorted(
        name.removeprefix("BabyAI-").removesuffix("-v0")
        for name in gymnasium.registry
        if name.startswith("BabyAI-")
    )
    if level not in known:
        near = ", ".join(get_close_matches(level, known, n=3, cutoff=0.4)) or ", ".join(known[:6])
        raise ConfigError(
            f"babyai: no level '{level}'; did you mean {near}? There are {len(known)}, named "
            "without 'BabyAI-' and '-v0'"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        world: Any = gymnasium.make(f"BabyAI-{level}-v0", disable_env_checker=True).unwrapped
    world.gen_obs = _no_images
    return world


def _no_images() -> dict[str, Any]:
    """Stand in for the images of every step, which cost five times the step."""
    return {}


def _begin(world: Any, seed: int) -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints each mission it rejects
        world.reset(seed=seed)
    world.max_steps = _NO_LIMIT


def _mask(world: Any) -> tuple[str, ...]:
    ahead = world.grid.get(*world.front_pos)
    found = list(ACTIONS[:2])
    if ahead is None or ahead.can_overlap():
        found.append("go forward")
    if ahead is not None and ahead.can_pickup() and world.carrying is None:
        found.append("pick up")
    if ahead is None and world.carrying is not None:
        found.append("drop")
    if ahead is not None and ahead.type in ("door", "box"):
        found.append("toggle")
    return tuple(found)


def _description(world: Any) -> str:
    """Say what is in view: things by distance, the wall ahead, and what is carried."""
    grid, seen = world.gen_obs_grid()
    middle, bottom = grid.width // 2, grid.height - 1
    things: list[tuple[int, int, str]] = []
    wall = None
    for column in range(grid.width):
        for row in range(grid.height):
            cell = grid.get(column, row)
            if cell is None or not seen[column, row] or (column, row) == (middle, bottom):
                continue
            ahead, right = bottom - row, column - middle
            if cell.type != "wall":
                text = f"a {_title(cell)} {_where(ahead, right)}"
                things.append((ahead + abs(right), right, text))
            elif right == 0 and (wall is None or ahead < wall):
                wall = ahead
    parts = [text for _, _, text in sorted(things)]
    if wall is not None:
        parts.append(f"a wall {_where(wall, 0)}")
    carried = f"a {_title(world.carrying)}" if world.carrying is not None else "nothing"
    return f"you see {' ; '.join(parts) or 'nothing'} ; you carry {carried}"


def _title(cell: Any) -> str:
    if cell.type != "door":
        return f"{cell.color} {cell.type}"
    state = "open" if cell.is_open else "locked" if cell.is_locked else "closed"
    return f"{state} {cell.color} door"


def _where(ahead: int, right: int) -> str:
    parts = []
    if ahead:
        parts.append(f"{ahead} step{'s' * (ahead > 1)} forward")
    if right:
        side = "right" if right > 0 else "left"
        parts.append(f"{abs(right)} step{'s' * (abs(right) > 1)} {side}")
    return " and ".join(parts)


def _thing(cell: Any) -> tuple[Any, ...]:
    """Return what a thing is, its state, and what is in it."""
    if cell is None:
        return ()
    return (*map(int, cell.encode()), *_thing(cell.contains))


def _place(position: Any) -> tuple[int, int] | None:
    return None if position is None else (int(position[0]), int(position[1]))


def _progress(instruction: Any, world: Any) -> tuple[Any, ...]:
    """Return what an instruction remembers: parts done, places, and which things are meant."""
    if hasattr(instruction, "instr_a"):
        done = (instruction.a_done == "success", instruction.b_done == "success")
        parts = (_progress(part, world) for part in (instruction.instr_a, instruction.instr_b))
        return (*done, *parts)
    meant = [getattr(instruction, name, None) for name in ("desc", "desc_move", "desc_fixed")]
    descriptions = [description for description in meant if description is not None]
    before = getattr(instruction, "preCarrying", None)
    return (
        *(_meant(description, world) for description in descriptions),
        () if before is None else tuple(_held(item, before) for item in _sets(descriptions)),
    )


def _meant(description: Any, world: Any) -> tuple[Any, ...]:
    places = tuple(_place(position) for position in description.obj_poss)
    return (places, tuple(_whereabouts(thing, world) for thing in description.obj_set))


def _whereabouts(thing: Any, world: Any) -> tuple[int, int] | str:
    if thing is world.carrying:
        return "carried"
    place = _place(thing.cur_pos)
    if place is not None and min(place) >= 0 and world.grid.get(*place) is thing:
        return place
    return "elsewhere"


def _sets(descriptions: list[Any]) -> Iterator[Any]:
    return (thing for description in descriptions for thing in description.obj_set)


def _held(thing: Any, before: Any) -> bool:
    return thing is before


def make(level: str) -> BabyAI:
    """Make a level.

    Raises:
        ConfigError: there is no such level.
        MissingExtraError: `minigrid` is not installed.
    """
    return BabyAI(level)
