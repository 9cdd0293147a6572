"""Facts of a TextWorld game as one line of text: the room, things in sight, exits, the bag.

Knows the predicates of the package's challenges. Refuses to show what is out of sight: the
contents of what is closed, and rooms that one is not in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_DIRECTIONS = ("north", "east", "south", "west")
_STATES = (
    "open", "closed", "locked", "raw", "cooked", "roasted", "fried", "grilled", "burned", "uncut",
    "sliced", "diced", "chopped", "sharp",
)  # fmt: skip
"""Properties that are said before a thing's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the things of a game are called, and what can be read in them.

    Attributes:
        of_variables: name by variable; a thing without a name keeps its variable's.
        written: text by variable, for cookbooks.
    """

    of_variables: Mapping[str, str]
    written: Mapping[str, str]

    @classmethod
    def of(cls, game: Any) -> Names:
        """Read the names of a game."""
        names = {key: str(info.name or key) for key, info in game.infos.items()}
        written = {
            key: " ".join(str(game.infos[key].desc).split())
            for key, name in names.items()
            if name == "cookbook" and game.infos[key].desc
        }
        return cls(of_variables=names, written=written)


def describe(facts: Iterable[Any], names: Names) -> str:
    """Say what somebody sees who is where the player is."""
    told = _Told(facts, names)
    here = told.place_of("P")
    things = told.things("at", here)
    bag = told.things("in", "I")
    parts = [f"you are in the {names.of_variables[here]}"]
    parts += [f"you see {told.title(thing)}{told.contents(thing)}" for thing in things]
    parts += told.exits(here)
    parts.append(f"you carry {', '.join(map(told.title, bag)) or 'nothing'}")
    in_sight = [*things, *bag, *(inner for thing in things for inner in told.inside(thing))]
    parts += [f"it says : {names.written[thing]}" for thing in in_sight if thing in names.written]
    return " ; ".join(parts)


class _Told:
    """Facts by predicate."""

    def __init__(self, facts: Iterable[Any], names: Names) -> None:
        self._names = names
        self._by_name: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for fact in facts:
            self._by_name[fact.name].append(tuple(variable.name for variable in fact.arguments))

    def place_of(self, thing: str) -> str:
        return next(where for what, where in self._by_name["at"] if what == thing)

    def things(self, relation: str, place: str) -> list[str]:
        """Return what is at, in or on a place, by name."""
        found = {what for what, where in self._by_name[relation] if where == place and what != "P"}
        return sorted(found, key=lambda what: (self._names.of_variables[what], what))

    def title(self, thing: str) -> str:
        states = [state for state in _STATES if (thing,) in self._by_name[state]]
        return " ".join([*states, self._names.of_variables[thing]])

    def inside(self, thing: str) -> list[str]:
        """Return what can be seen on and in a thing."""
        shut = (thing,) in self._by_name["closed"] or (thing,) in self._by_name["locked"]
        return [*self.things("on", thing), *([] if shut else self.things("in", thing))]

    def contents(self, thing: str) -> str:
        inner = self.inside(thing)
        return f" with {', '.join(map(self.title, inner))}" if inner else ""

    def exits(self, here: str) -> list[str]:
        doors = {(start, end): door for start, door, end in self._by_name["link"]}
        free = set(self._by_name["free"])
        found = []
        for direction in _DIRECTIONS:
            for there, start in self._by_name[f"{direction}_of"]:
                if start != here:
                    continue
                if (here, there) in doors:
                    found.append(f"{self.title(doors[here, there])} to the {direction}")
                elif (here, there) in free:
                    found.append(f"exit to the {direction}")
        return found
