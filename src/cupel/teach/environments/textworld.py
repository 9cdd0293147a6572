"""Generated TextWorld games (arXiv:1806.11532), played on the package's own logic.

Knows how a game is generated once and kept in the cache folder, how its facts become states, and
how the package's quest tracker advises. Refuses the compiled story files: their narrative answers
the last command rather than describing the state, and an interpreter cannot be copied cheaply; the
commands, the rules and the quests are the package's, the description is `textworld_text`'s.
Commands that only look (look, inventory, examine) are left out: what they would show is shown.
"""

from __future__ import annotations

import importlib
import os
import re
import tempfile
import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cupel.errors import ConfigError, DataError, MissingExtraError
from cupel.teach.environments.base import Step
from cupel.teach.environments.textworld_text import Names, describe

DEFAULT_LEVEL = "simple"
ADAPTER_VERSION = "1"
LEVELS = (
    "simple, simple-detailed, treasure-1 ... treasure-30, coins-1 ... coins-300, cooking "
    "(the package's challenges tw-simple, tw-treasure_hunter, tw-coin_collector, tw-cooking)"
)
_MOST_STATES = 4096
_NUMBERED = {"treasure": ("tw-treasure_hunter", 30), "coins": ("tw-coin_collector", 300)}


@dataclass(slots=True, eq=False)
class _Place:
    """A state of a game, shared by all who are in it; never changed.

    Attributes:
        facts: what is true; `done`: numbers of the quests completed so far.
        commands: what can be done, sorted, each with its action.
        end: "" while it goes on, else how it ended.
    """

    state: Any
    facts: frozenset[Any]
    done: frozenset[int]
    commands: Mapping[str, Any]
    end: str


class _Game:
    """One generated game with the states visited so far."""

    def __init__(self, game: Any) -> None:
        self.game = game
        self.names = Names.of(game)
        self.task = " ".join(str(game.objective).split())
        self._quests = list(enumerate(game.quests))
        self._places: dict[Hashable, _Place] = {}
        self.start = self._place(game.world.state.copy(), frozenset())

    def after(self, place: _Place, command: str) -> _Place:
        """Return the state that a command leads to."""
        state = place.state.copy()
        state.apply(place.commands[command])
        return self._place(state, place.done)

    def score(self, place: _Place) -> float:
        """Return the share of the game's points."""
        points = sum(quest.reward for at, quest in self._quests if at in place.done)
        return float(points / max(1, self.game.max_score))

    def command_of(self, action: Any) -> str:
        """Return the text of an action."""
        return str(action.format_command(self.names.of_variables))

    def _place(self, state: Any, before: frozenset[int]) -> _Place:
        won = {
            at
            for at, quest in self._quests
            if any(event.is_triggering(state) for event in quest.win_events)
        }
        done = before | won
        facts = frozenset(state.facts)
        known = self._places.get((facts, done))
        if known is not None:
            return known
        end = self._end(state, done)
        commands = {} if end else self._commands(state)
        found = _Place(state=state, facts=facts, done=done, commands=commands, end=end)
        if len(self._places) >= _MOST_STATES:
            self._places.clear()
        self._places[(facts, done)] = found
        return found

    def _end(self, state: Any, done: frozenset[int]) -> str:
        needed = [(at, quest) for at, quest in self._quests if not quest.optional]
        if all(at in done for at, quest in needed if quest.win_events):
            return "you have won"
        lost = any(
            event.is_triggering(state)
            for at, quest in needed
            if at not in done
            for event in quest.fail_events
        )
        return "you have lost" if lost else ""

    def _commands(self, state: Any) -> Mapping[str, Any]:
        """Return the commands that change something; of two with one text, the first by rule."""
        base = self.game.kb
        applicable = state.all_applicable_actions(base.rules.values(), base.types.constants_mapping)
        changing = [action for action in applicable if action.added or action.removed]
        commands: dict[str, Any] = {}
        for action in sorted(changing, key=lambda action: (self.command_of(action), str(action))):
            commands.setdefault(self.command_of(action), action)
        return commands


class TextWorld:
    """One generated game, e.g. of level `simple`: fetch, unlock, open, cook."""

    name = "textworld"

    def __init__(self, level: str = "") -> None:
        self.level = level or DEFAULT_LEVEL
        self.version = f"{ADAPTER_VERSION}+textworld-{_package_version()}"
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin task `seed`; the first time, its game is generated (seconds) and kept."""
        self.seed = int(seed)
        self.actions: tuple[str, ...] = ()
        self._game = _game(self.level, self.version, self.seed)
        self._place = self._game.start
        self._tracker: _Tracker | None = None

    def task(self) -> str:
        """Return the game's objective."""
        return self._game.task

    def observe(self) -> str:
        """Return the room, what is in sight there, its exits, and what is carried."""
        return self._place.end or describe(self._place.facts, self._game.names)

    def valid_actions(self) -> tuple[str, ...]:
        """Return the admissible commands that change something, sorted."""
        return tuple(self._place.commands)

    def step(self, action: str) -> Step:
        """Act; the reward is the share of the game's points that the command brought.

        Raises:
            DataError: the command is not admissible here.
        """
        if action not in self._place.commands:
            valid = ", ".join(self._place.commands) or "none, the game is over"
            raise DataError(
                f"textworld {self.level} task {self.seed}: action '{action}' is not valid at "
                f"'{self.observe()}'; valid: {valid}"
            )
        before = self._game.score(self._place)
        self._place = self._game.after(self._place, action)
        self.actions = (*self.actions, action)
        end = self._place.end
        reward = self._game.score(self._place) - before
        return Step(reward=reward, done=bool(end), success=end == "you have won")

    def key(self) -> Hashable:
        """Return the facts and the quests completed."""
        return (
            self.seed,
            tuple(sorted(map(str, self._place.facts))),
            tuple(sorted(self._place.done)),
        )

    def copy(self) -> TextWorld:
        """Return an independent player in the same state."""
        twin = TextWorld.__new__(TextWorld)
        twin.level, twin.version, twin.seed = self.level, self.version, self.seed
        twin.actions, twin._game, twin._place = self.actions, self._game, self._place
        twin._tracker = None
        return twin

    def expert(self) -> str | None:
        """Return the next command of the package's winning policy for this history.

        None where the package has lost track of how to win, which may but need not be a dead end.
        """
        if self._place.end:
            return None
        if self._tracker is None or not self._tracker.watched(self.actions):
            self._tracker = _Tracker(self._game)
        advice = self._tracker.advice(self.actions)
        return advice if advice in self._place.commands else None

    def optimal_q(self, horizon: int) -> None:
        """Return None: exact values are not computed here."""


class _Tracker:
    """The package's record of one history and of what still wins after it."""

    def __init__(self, game: _Game) -> None:
        package: Any = importlib.import_module("textworld.generator.game")
        self._game, self._place = game, game.start
        self._seen: tuple[str, ...] = ()
        self._progress = package.GameProgression(game.game)

    def watched(self, actions: tuple[str, ...]) -> bool:
        """Tell whether what it saw is how this history began."""
        return actions[: len(self._seen)] == self._seen

    def advice(self, actions: tuple[str, ...]) -> str | None:
        """Watch the rest of a history, and return the first command of the policy that wins."""
        for command in actions[len(self._seen) :]:
            self._progress.update(self._place.commands[command])
            self._place = self._game.after(self._place, command)
            self._seen = (*self._seen, command)
        policy = self._progress.winning_policy or ()
        changing = [action for action in policy if action.added or action.removed]
        return self._game.command_of(changing[0]) if changing else None


def _package_version() -> str:
    try:
        return metadata.version("textworld")
    except metadata.PackageNotFoundError:
        raise MissingExtraError("environment textworld", "textworld") from None


@lru_cache(maxsize=32)
def _game(level: str, version: str, seed: int) -> _Game:
    """Read a game from the cache folder, generated there if need be.

    A fresh game takes the way through the file as well, so that first and later uses are alike.
    """
    package: Any = importlib.import_module("textworld")
    challenge, settings = _challenge(level, seed)
    path = _folder() / f"{level}-{version}-{seed}.json"
    if not path.is_file():
        _generate(path, challenge, settings, seed)
    return _Game(package.Game.load(str(path)))


def _folder() -> Path:
    """Return where games are kept: $CUPEL_CACHE/textworld, or in the user's cache folder."""
    override = os.environ.get("CUPEL_CACHE")
    if override:
        return Path(override) / "textworld"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cupel" / "textworld"


def _generate(path: Path, challenge: str, settings: Mapping[str, Any], seed: int) -> None:
    package: Any = importlib.import_module("textworld")
    challenges: Any = importlib.import_module("textworld.challenges")
    options = package.GameOptions()
    options.seeds = seed % 2**32
    with warnings.catch_warnings():
        # About wording that repeats, and about the package's own trial of the compiled story.
        warnings.simplefilter("ignore")
        game = challenges.CHALLENGES[challenge][1](settings, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        game.save(f"{folder}/game.json")
        Path(folder, "game.json").replace(path)


def _challenge(level: str, seed: int) -> tuple[str, Mapping[str, Any]]:
    """Return the package's challenge and settings for a level."""
    if level in ("simple", "simple-detailed"):
        goal = "detailed" if level.endswith("detailed") else "brief"
        return "tw-simple", {"rewards": "balanced", "goal": goal, "test": False}
    if level == "cooking":
        settings = {"recipe": 1, "take": 1, "go": 6, "open": True, "cook": True, "cut": True}
        return "tw-cooking", {**settings, "drop": False, "recipe_seed": seed, "split": None}
    numbered = re.fullmatch(r"(treasure|coins)-([1-9]\d{0,2})", level)
    if numbered:
        challenge, most = _NUMBERED[numbered[1]]
        if int(numbered[2]) <= most:
            return challenge, {"level": int(numbered[2])}
    raise ConfigError(f"textworld: no level '{level}'; levels: {LEVELS}")


def make(level: str) -> TextWorld:
    """Make a player of generated games.

    Raises:
        ConfigError: there is no such level.
        MissingExtraError: `textworld` is not installed.
    """
    return TextWorld(level)
