"""The WebShop adapter: it says what is missing, and fits an engine of WebShop's interface.

WebShop itself cannot be installed here (no index has it, and its products are a download), so the
adapter is run against a two-product engine with the interface of `WebAgentTextEnv`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cupel.errors import ConfigError, DataError
from cupel.teach.environments import webshop
from cupel.teach.environments.base import EnvironmentConfig, make_environment
from cupel.testing import check_environment

ENGINE = """
import os

BUY = "buy now"

class Server:
    def __init__(self, num_products):
        if os.environ.get("NO_DATA"):
            raise FileNotFoundError("items_shuffle_1000.json")
        self.goals, self.user_sessions = ["red", "blue"], {}

class WebAgentTextEnv:
    def __init__(self, observation_mode="html", server=None, num_products=None):
        print("Loaded 2 goals.")
        self.server = Server(num_products) if server is None else server
        self.session = self.session_prefix = None
        self.reset()

    def reset(self, session=None):
        self.session = f"{self.session_prefix}{session}"
        goal = self.server.goals[session or 0]
        if self.session not in self.server.user_sessions:
            self.server.user_sessions[self.session] = {"goal": goal, "page": "", "colour": ""}
        self.instruction_text = (
            f"Instruction: Find me a shirt with color: {goal}, and price lower than 30.00 dollars"
        )

    @property
    def state(self):
        return self.server.user_sessions[self.session]

    @property
    def observation(self):
        return f"WebShop [SEP]  {self.state['page'] or 'Search'} [SEP] {self.state['colour']}"

    def get_available_actions(self):
        if not self.state["page"]:
            return {"has_search_bar": True, "clickables": ["search"]}
        clicks = {"results": ["back to search", "b01"], "item": ["< prev", "red", "blue", BUY]}
        return {"has_search_bar": False, "clickables": clicks[self.state["page"]]}

    def step(self, action):
        state, name = self.state, action.split("[")[1][:-1]
        if action.startswith("search["):
            state["page"] = "results"
        elif name in ("red", "blue"):
            state["colour"] = name
        elif name == BUY:
            return self.observation, 1.0 if state["colour"] == state["goal"] else 0.5, True, None
        else:
            state["page"] = {"back to search": "", "b01": "item", "< prev": "results"}[name]
        return self.observation, 0, False, None
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "web_agent_site" / "envs"
    package.mkdir(parents=True)
    (package / "web_agent_text_env.py").write_text(ENGINE)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(webshop.VARIABLE, str(tmp_path))
    webshop._server.cache_clear()
    yield tmp_path
    webshop._server.cache_clear()
    for name in [name for name in sys.modules if name.startswith("web_agent_site")]:
        del sys.modules[name]


def test_without_webshop_it_says_what_is_missing_and_how_to_get_it() -> None:
    with pytest.raises(
        ConfigError, match=r"(?s)cannot be imported .*clone https.*setup\.sh.*'shop'"
    ):
        make_environment(EnvironmentConfig(name="webshop"))


@pytest.mark.usefixtures("checkout")
def test_without_its_data_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_DATA", "1")
    with pytest.raises(ConfigError, match=r"its data are missing \(items_shuffle_1000\.json\)"):
        webshop.make("")


@pytest.mark.usefixtures("checkout")
def test_the_adapter_keeps_the_contract() -> None:
    contract = check_environment(partial(webshop.make, ""), seeds=range(2), states=100, processes=1)
    assert contract.successes > 0
    assert contract.ended > contract.successes
    assert contract.keys == contract.experts == contract.values == 0


@pytest.mark.usefixtures("checkout")
def test_a_task_from_search_to_purchase(capfd: pytest.CaptureFixture[str]) -> None:
    world = webshop.make("small")
    world.reset(1)
    assert world.task() == "Find me a shirt with color: blue, and price lower than 30.00 dollars"
    assert world.valid_actions() == ("search[a shirt with color: blue]", "search[a shirt]")
    for action in ("search[a shirt]", "click[b01]", "click[blue]"):
        assert not world.step(action).done
    brought = world.copy().step("click[buy now]")
    assert (brought.reward, brought.done, brought.success) == (1.0, True, True)
    world.step("click[red]")
    brought = world.step("click[buy now]")
    assert (brought.reward, brought.done, brought.success) == (0.5, True, False)
    assert world.valid_actions() == ()
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("checkout")
def test_bad_levels_and_tasks() -> None:
    with pytest.raises(ConfigError, match="no level 'huge'; levels: small, all"):
        webshop.make("huge")
    with pytest.raises(DataError, match="no task 2; there are 0 to 1"):
        webshop.make("").reset(2)
