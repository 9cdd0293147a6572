"""A run folder that travels arrives whole, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab_toy_recipe import RECIPE

from cupel.errors import InfrastructureFailure
from cupel.lab import RunFolder, differing_streams, execute_run, plan_run
from cupel.lab.executors.node import Order, refusal, run_order
from cupel.lab.executors.parcel import Parcel, pack, unpack
from cupel.lab.executors.software import differences, software
from cupel.lab.files import file_sha256

LIMIT = 1 << 30


@pytest.fixture
def done(tmp_path: Path) -> Path:
    spec = plan_run(RECIPE, "lab_toy_recipe:RECIPE", passed={"steps": 6, "every": 2}, seed=3)
    folder = tmp_path / "there" / "run"
    RunFolder(folder).create(spec)
    assert execute_run(folder) == "done"
    return folder


def packed(folder: Path, *, limit: int = LIMIT) -> tuple[Parcel, list[bytes]]:
    chunks: list[bytes] = []
    return pack(folder, chunks.append, limit_bytes=limit), chunks


def names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_a_folder_arrives_as_it_was_sent_without_its_lock(done: Path, tmp_path: Path) -> None:
    here = tmp_path / "here" / "run"
    here.mkdir(parents=True)
    (here / "checkpoints" / "step_000099").mkdir(parents=True)
    (here / "checkpoints" / "step_000099" / "old").touch()
    parcel, chunks = packed(done)
    assert parcel.size == sum(len(chunk) for chunk in chunks)
    unpack(parcel, chunks, here)
    assert names(here) == [name for name in names(done) if name != ".lock"]
    assert differing_streams(done, here) == []
    assert names(here.parent) == [f"run/{name}" for name in names(here)]


def test_chunks_may_come_in_any_size(done: Path, tmp_path: Path) -> None:
    parcel, chunks = packed(done)
    data = b"".join(chunks)
    unpack(parcel, (data[at : at + 701] for at in range(0, len(data), 701)), tmp_path / "run")
    assert differing_streams(done, tmp_path / "run") == []


@pytest.mark.parametrize("harm", ["lost", "changed", "cut", "none"])
def test_what_did_not_arrive_whole_is_not_put_in_place(
    done: Path, tmp_path: Path, harm: str
) -> None:
    parcel, chunks = packed(done)
    data = b"".join(chunks)
    middle = len(data) // 2
    arrived = {
        "lost": [data[:middle], data[middle + 512 :]],
        "changed": [data[:middle], b"?" * 512, data[middle + 512 :]],
        "cut": [data[:middle]],
        "none": [],
    }[harm]
    here = tmp_path / "here" / "run"
    here.mkdir(parents=True)
    with pytest.raises(InfrastructureFailure, match=r"damaged|came back"):
        unpack(parcel, arrived, here)
    assert names(here.parent) == []


def test_beyond_the_limit_checkpoints_stay_and_then_nothing_goes(done: Path) -> None:
    rows = sum(
        path.stat().st_size
        for path in done.rglob("*")
        if path.is_file() and "checkpoints" not in path.parts
    )
    parcel, _ = packed(done, limit=rows)
    assert parcel.without_checkpoints
    with pytest.raises(InfrastructureFailure, match="use shared storage"):
        packed(done, limit=100)


def order(folder: Path, **changed: Any) -> Order:
    facts: dict[str, Any] = {
        "executor": "test",
        "folder": str(folder),
        "config_sha256": file_sha256(folder / "config.json"),
        "software": dict(software()),
    }
    return Order(**{**facts, **changed})  # type: ignore[typeddict-item]


def test_a_node_refuses_what_it_cannot_run_alike(done: Path) -> None:
    assert refusal(order(done)) is None
    told = run_order(order(done, software={**software(), "python": "2.7"}), device="cpu")
    assert "instead of 2.7" in told["refused"]
    told = run_order(order(done, config_sha256="0"), device="cpu")
    assert "does not see the run folder" in told["refused"]


def test_versions_differ_by_name_and_a_build_label_does_not() -> None:
    here = software()
    assert differences(here, here) == []
    assert differences(here, {**here, "flax": "1"}) == []
    assert "+" not in here["torch"]
    assert "sources" in here["cupel"]
