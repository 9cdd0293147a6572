"""TextWorld games: the package's rules step for step, exact restores, its policy as the expert."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cupel.errors import ConfigError, DataError, MissingExtraError
from cupel.teach.environments.textworld import TextWorld, make
from cupel.testing import check_environment

INSTALLED = importlib.util.find_spec("textworld") is not None
needs_textworld = pytest.mark.skipif(not INSTALLED, reason="the extra 'textworld' is not installed")
LOOKING = ("look", "inventory", "examine ")


@pytest.fixture(scope="module", autouse=True)
def games(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("games")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUPEL_CACHE", str(folder))
        yield folder / "textworld"


@pytest.mark.skipif(INSTALLED, reason="the extra 'textworld' is installed")
def test_without_the_package_the_extra_is_named() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'cupel\[textworld\]'"):
        make("")


def _solve(world: TextWorld, limit: int = 60) -> bool:
    for _ in range(limit):
        action = world.expert()
        if action is None:
            return False
        brought = world.step(action)
        if brought.done:
            return brought.success
    return False


@needs_textworld
@pytest.mark.parametrize("level", ["simple", "treasure-5"])
def test_games_keep_the_contract(level: str) -> None:
    contract = check_environment(
        partial(make, level), seeds=range(2), states=30, steps=12, processes=1
    )
    assert contract.keys == contract.experts + contract.ended == 30


@needs_textworld
@pytest.mark.slow
@pytest.mark.parametrize("level", ["simple", "cooking", "treasure-12"])
def test_a_thousand_random_states_are_restored(level: str) -> None:
    contract = check_environment(
        partial(make, level), seeds=range(5), states=334, steps=20, processes=1
    )
    assert contract.distinct > 100


@needs_textworld
def test_the_expert_wins_from_the_start_and_after_a_random_history() -> None:
    rng, world = np.random.default_rng(0), make("simple")
    for seed in (0, 1, 0, 1):
        world.reset(seed)
        assert _solve(world)
        world.reset(seed)
        for _ in range(6):
            actions = world.valid_actions()
            world.step(actions[rng.integers(len(actions))])
        assert world.expert() is None or _solve(world)


@needs_textworld
def test_the_return_of_a_won_game_is_one() -> None:
    world, total = make("simple"), 0.0
    while (action := world.expert()) is not None:
        total += world.step(action).reward
    assert total == pytest.approx(1.0)
    assert world.observe() == "you have won"
    assert world.valid_actions() == ()


@needs_textworld
def test_text_and_errors() -> None:
    world = make("")
    assert world.level == "simple"
    assert world.observe().startswith("you are in the bedroom ; you see closed antique trunk ; ")
    assert world.observe().endswith("you carry nothing")
    assert list(world.valid_actions()) == sorted(world.valid_actions())
    with pytest.raises(DataError, match="textworld simple task 0: action 'fly' is not valid"):
        world.step("fly")
    with pytest.raises(ConfigError, match="no level 'treasure-31'; levels: simple"):
        make("treasure-31")


@needs_textworld
def test_what_is_closed_is_not_seen() -> None:
    world = make("simple")
    assert "old key" not in world.observe()
    world.step("open chest drawer")
    assert "you see open chest drawer with old key" in world.observe()
    world.step("take old key from chest drawer")
    assert world.observe().endswith("you carry old key")


@needs_textworld
def test_a_game_is_kept_and_read_again(games: Path) -> None:
    make("treasure-2").reset(3)
    (kept,) = [path for path in games.iterdir() if path.name.startswith("treasure-2-")
               and path.name.endswith("-3.json")]  # fmt: skip
    assert kept.stat().st_size > 1000


def _play_beside(world: TextWorld, story: str, rng: np.random.Generator) -> int:
    """Play one way here and in the package's own player; return how many steps agreed."""
    import textworld

    wanted = textworld.EnvInfos(admissible_commands=True, won=True, lost=True)
    player = textworld.start(story, wanted)
    state, agreed = player.reset(), 0
    for _ in range(15):
        theirs = [
            command for command in state["admissible_commands"] if not command.startswith(LOOKING)
        ]
        assert theirs == list(world.valid_actions())
        action = theirs[rng.integers(len(theirs))]
        state, _, over = player.step(action)
        brought = world.step(action)
        assert (over, bool(state["won"])) == (brought.done, brought.success)
        agreed += 1
        if over:
            break
    player.close()
    return agreed


@needs_textworld
@pytest.mark.parametrize("level", ["simple", "treasure-5"])
def test_commands_and_ends_are_those_of_the_packages_player(level: str, games: Path) -> None:
    rng, world = np.random.default_rng(2), make(level)
    for seed in (0, 1):
        world.reset(seed)
        story = games / f"{level}-{world.version}-{seed}.json"
        assert _play_beside(world, str(story), rng) > 0


@needs_textworld
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Game .* is not fully supported")
def test_commands_and_ends_are_those_of_the_compiled_story(games: Path, tmp_path: Path) -> None:
    import textworld
    from textworld.generator import compile_game

    world = make("simple")
    options = textworld.GameOptions()
    options.path = str(tmp_path / "story.z8")
    story = games / f"simple-{world.version}-0.json"
    compile_game(textworld.Game.load(str(story)), options)
    assert _play_beside(world, str(tmp_path / "story.z8"), np.random.default_rng(3)) > 0


@needs_textworld
@pytest.mark.slow
def test_a_task_is_the_same_game_whatever_the_hash_salt(tmp_path: Path) -> None:
    made = []
    for salt in ("1", "2"):
        folder = tmp_path / salt
        code = "from cupel.teach.environments.textworld import make; make('treasure-5').reset(7)"
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt, "CUPEL_CACHE": str(folder)},
            check=True,
        )
        (kept,) = (folder / "textworld").glob("*-7.json")
        made.append(kept.read_bytes())
    assert made[0] == made[1]
