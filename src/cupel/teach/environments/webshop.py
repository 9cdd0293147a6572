"""WebShop (arXiv:2207.01206) for those who have it: its own pages, goals and rewards.

Knows how a checkout is found and how its text environment fits the protocol. Refuses to stand in
for what is missing: WebShop is no package of an index and needs its product data; without them it
says so and stops. There is no expert and no key here, so values are sampled, never exact, and
expert conditions are not available.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import os
import re
import sys
from functools import lru_cache
from typing import Any

from cupel.errors import ConfigError, DataError
from cupel.teach.environments.base import Step

VARIABLE = "CUPEL_WEBSHOP"
"""Names the checkout's folder, unless it is on the import path already."""

_MODULE = "web_agent_site.envs.web_agent_text_env"
_PRODUCTS = {"small": 1000, "all": None}
_SESSIONS = itertools.count()
_HOW = (
    "WebShop is not on the package index: clone https://github.com/princeton-nlp/WebShop, run its "
    "setup.sh (-d small or -d all; needs Java 11 and downloads the products), then set "
    f"{VARIABLE} to the checkout's folder. The environment 'shop' needs none of this"
)


class WebShop:
    """One shopper on WebShop's pages; level `small` (1,000 products) or `all`."""

    name = "webshop"
    version = "1"

    def __init__(self, level: str = "") -> None:
        self.level = level or "small"
        if self.level not in _PRODUCTS:
            raise ConfigError(f"webshop: no level '{level}'; levels: {', '.join(_PRODUCTS)}")
        self._site: Any = _shopper(self.level)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin task `seed`: the goal of that number, in a session of its own."""
        count = len(self._site.server.goals)
        if not 0 <= int(seed) < count:
            raise DataError(f"webshop {self.level}: no task {seed}; there are 0 to {count - 1}")
        self.seed = int(seed)
        self.actions: tuple[str, ...] = ()
        self._over = False
        self._site.server.user_sessions.pop(self._site.session, None)
        self._site.session_prefix = f"cupel-{os.getpid()}-{next(_SESSIONS)}-"
        self._site.reset(session=self.seed)

    def task(self) -> str:
        """Return the instruction, without its heading."""
        return " ".join(re.sub(r"^\s*Instruction:", "", self._site.instruction_text).split())

    def observe(self) -> str:
        """Return the page's text."""
        return "the order is placed" if self._over else " ".join(self._site.observation.split())

    def valid_actions(self) -> tuple[str, ...]:
        """Return the clicks of the page; where there is a search bar, searches for the task.

        A search is free text in WebShop. Here it is one of two: the instruction without its price
        clause, and what stands before its first condition.
        """
        if self._over:
            return ()
        found = self._site.get_available_actions()
        if found["has_search_bar"]:
            return _searches(self.task())
        clicks = (" ".join(name.split()) for name in found["clickables"])
        return tuple(dict.fromkeys(f"click[{name}]" for name in clicks if name))

    def step(self, action: str) -> Step:
        """Act; buying ends the episode, and is a success if WebShop's reward is 1.

        Raises:
            DataError: the action is not on this page.
        """
        valid = self.valid_actions()
        if action not in valid:
            raise DataError(
                f"webshop task {self.seed}: action '{action}' is not on this page; "
                f"valid: {', '.join(valid) or 'none, the episode is over'}"
            )
        _, reward, done, _ = self._site.step(action)
        self.actions = (*self.actions, action)
        self._over = bool(done)
        return Step(
            reward=float(reward), done=self._over, success=self._over and float(reward) >= 1.0
        )

    def key(self) -> None:
        """Return None: the session's state is WebShop's own."""

    def copy(self) -> WebShop:
        """Return an independent shopper who came the same way; costs the way."""
        twin = WebShop.__new__(WebShop)
        twin.level = self.level
        twin._site = _shopper(self.level)
        twin.reset(self.seed)
        for action in self.actions:
            twin.step(action)
        return twin

    def expert(self) -> None:
        """Return None: WebShop has no expert."""

    def optimal_q(self, horizon: int) -> None:
        """Return None: exact values are not computed here."""


def _searches(task: str) -> tuple[str, ...]:
    """Return what may be searched for.

    >>> _searches("Find me a cotton shirt with long sleeves, and price lower than 30.00 dollars")
    ('search[a cotton shirt with long sleeves]', 'search[a cotton shirt]')
    """
    wanted = re.sub(r"^(i'm looking for|i need|i want|find me)\s+", "", task.lower())
    wanted = re.split(r",?\s*(?:and\s+)?price lower than", wanted)[0].strip(" ,.")
    short = re.split(r"\s+(?:with|that|which|in)\s+", wanted)[0].strip(" ,.")
    return tuple(dict.fromkeys(f"search[{text}]" for text in (wanted, short) if text))


def _shopper(level: str) -> Any:
    """Make a session's browser over the products, which are loaded once a process."""
    module = _module()
    with contextlib.redirect_stdout(io.StringIO()):
        return module.WebAgentTextEnv(observation_mode="text", server=_server(level))


@lru_cache(maxsize=1)
def _server(level: str) -> Any:
    module = _module()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            made = module.WebAgentTextEnv(observation_mode="text", num_products=_PRODUCTS[level])
    except OSError as error:
        raise ConfigError(f"environment webshop: its data are missing ({error}). {_HOW}") from None
    return made.server


def _module() -> Any:
    folder = os.environ.get(VARIABLE)
    if folder and folder not in sys.path:
        sys.path.append(folder)
    try:
        return importlib.import_module(_MODULE)
    except ImportError as error:
        where = f"in {folder}" if folder else f"on the import path ({VARIABLE} is not set)"
        raise ConfigError(
            f"environment webshop: {_MODULE} cannot be imported {where}: {error}. {_HOW}"
        ) from None


def make(level: str) -> WebShop:
    """Make a shopper.

    Raises:
        ConfigError: there is no such level, or WebShop or its data are not here.
    """
    return WebShop(level)
