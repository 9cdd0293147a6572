"""A checkpoint is whole or not there, and a changed byte is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cupel.errors import ConfigError
from cupel.lab.checkpoint import Checkpoints


def writes(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights").write_text(text)

    return write


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    found = Checkpoints(tmp_path / "checkpoints")
    found.follow(lambda: {"metrics.jsonl": 17})
    return found


def test_none_at_first_and_then_the_newest(checkpoints: Checkpoints) -> None:
    assert checkpoints.latest() is None
    state = {"big": 2**100, "nested": {"a": [1, 0.1, None]}, "by_step": {3: "three", 20: "x"}}
    checkpoints.save(9, writes("nine"), {})
    checkpoints.save(10, writes("ten"), state)
    latest = checkpoints.latest()
    assert latest is not None
    assert (latest.step, dict(latest.offsets)) == (10, {"metrics.jsonl": 17})
    assert latest.state == {**state, "by_step": {"3": "three", "20": "x"}}
    assert (latest.folder / "deep" / "weights").read_text() == "ten"


def test_the_last_two_are_kept_in_order_of_step(checkpoints: Checkpoints) -> None:
    for step in (5, 999_999, 1_000_000):
        checkpoints.save(step, writes(str(step)), {})
    names = {path.name for path in checkpoints.folder.iterdir()}
    assert names == {"step_999999", "step_1000000"}
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.step == 1_000_000


def test_a_write_that_dies_leaves_the_older_one(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, writes("one"), {})

    def die(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(2, die, {})
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.step == 1
    assert checkpoints.damaged == []
    checkpoints.save(3, writes("three"), {})
    assert not list(checkpoints.folder.glob(".step_*"))


def test_saving_a_step_again_replaces_it(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, writes("one"), {})
    checkpoints.save(1, writes("two"), {"n": 2})
    latest = checkpoints.latest()
    assert latest is not None
    assert ((latest.folder / "deep" / "weights").read_text(), latest.state) == ("two", {"n": 2})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "deep" / "weights").write_text("tep"), "deep/weights was changed"),
        (lambda f: (f / "deep" / "weights").unlink(), "deep/weights is missing"),
        (lambda f: (f / "state.json").write_text("{"), "not strict JSON"),
        (lambda f: (f / "state.json").unlink(), "no such file"),
        (
            lambda f: (f / "state.json").write_text(
                (f / "state.json").read_text().replace('"step": 2', '"step": 3')
            ),
            "state.json was changed",
        ),
    ],
)
def test_a_damaged_one_is_skipped_and_reported(
    checkpoints: Checkpoints, damage: Callable[[Path], object], says: str
) -> None:
    checkpoints.save(1, writes("one"), {})
    checkpoints.save(2, writes("two"), {})
    damage(checkpoints.folder / "step_000002")
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.step == 1
    assert len(checkpoints.damaged) == 1
    assert says in checkpoints.damaged[0]


def test_a_checkpoint_beyond_the_streams_is_not_used(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, writes("one"), {})
    assert checkpoints.latest({"metrics.jsonl": 17}) is not None
    assert checkpoints.latest({"metrics.jsonl": 16}) is None
    assert "lost rows (16 bytes, 17" in checkpoints.damaged[0]


def test_state_must_be_finite_json(checkpoints: Checkpoints) -> None:
    with pytest.raises(ConfigError, match="finite JSON"):
        checkpoints.save(1, writes("one"), {"loss": float("nan")})
    with pytest.raises(ConfigError, match="keeps its own"):
        checkpoints.save(1, lambda folder: (folder / "state.json").touch(), {})
    assert checkpoints.latest() is None
