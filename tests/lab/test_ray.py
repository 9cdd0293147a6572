"""A study on a Ray cluster of several nodes, made of real Ray processes on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_studies import planned, run_folders, toy_study

from cupel.errors import MissingExtraError, UsageError
from cupel.lab import Progress, differing_streams, execute_study, read_run
from cupel.lab.executors import orders
from cupel.lab.executors.options import RayOptions

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and one worker node, one CPU each."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # no token is left in the home folder
    from ray.cluster_utils import Cluster

    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


def run_ray(folder: Path, cluster: Any, **options: Any) -> Any:
    return execute_study(
        folder, executor="ray", options=RayOptions(address=cluster.address, **options)
    )


@pytest.mark.parametrize("storage", ["shared", pytest.param("returned", marks=pytest.mark.slow)])
def test_ray_writes_the_bytes_of_processes(tmp_path: Path, cluster: Any, storage: Any) -> None:
    planned(tmp_path / "a", toy_study(steps=6, trouble="gate", seed_in_trouble=2))
    planned(tmp_path / "b", toy_study(steps=6, trouble="gate", seed_in_trouble=2))
    one = execute_study(tmp_path / "a", executor="processes")
    told: list[Progress] = []
    other = execute_study(
        tmp_path / "b",
        executor="ray",
        options=RayOptions(address=cluster.address, storage=storage),
        progress=told.append,
    )
    assert [(run.run, run.status, run.attempts, run.failure) for run in one.runs] == [
        (run.run, run.status, run.attempts, run.failure) for run in other.runs
    ]
    for first, second in zip(run_folders(tmp_path / "a"), run_folders(tmp_path / "b"), strict=True):
        assert differing_streams(first.path, second.path) == []
    messages = [event["message"] for event in run_folders(tmp_path / "b")[0].state()["events"]]
    assert any("executor ray: node" in message and "device cpu" in message for message in messages)


def test_what_kills_a_run_on_a_node_is_tried_again_and_then_a_row(
    tmp_path: Path, cluster: Any
) -> None:
    planned(tmp_path, toy_study(steps=6, trouble="kill", seed_in_trouble=2))
    outcome = run_ray(tmp_path, cluster)
    assert [(run.status, run.attempts) for run in outcome.runs] == [
        ("done", 1),
        ("done", 1),
        ("failed", 2),
        ("failed", 2),
    ]
    for run in outcome.failed:
        assert run.failure is not None
        assert run.failure["kind"] == "infrastructure"
        assert "killed by SIGKILL" in run.failure["message"]


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["shared", "returned"])
def test_ctrl_c_ends_the_tasks_and_loses_no_row(tmp_path: Path, cluster: Any, storage: Any) -> None:
    planned(tmp_path, toy_study(seeds=(1,), steps=40, every=2, sleep_s=0.1))

    def interrupt(event: Progress) -> None:
        if event.step is not None and event.step >= 8:
            raise KeyboardInterrupt

    options = RayOptions(address=cluster.address, storage=storage)
    with pytest.raises(KeyboardInterrupt):
        execute_study(tmp_path, executor="ray", options=options, progress=interrupt)
    first = [read_run(run.path) for run in run_folders(tmp_path)]
    assert {run.status for run in first} == {"planned"}
    assert max(len(run.rows("metrics.jsonl")) for run in first) >= 9
    outcome = execute_study(tmp_path, executor="ray", options=options)
    assert outcome.is_complete
    messages = [
        str(event["message"]) for run in run_folders(tmp_path) for event in run.state()["events"]
    ]
    assert any("continued from the checkpoint of step" in message for message in messages)
    assert any("interrupted" in message for message in messages)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["shared", "returned"])
def test_a_node_that_is_lost_loses_no_run(tmp_path: Path, cluster: Any, storage: Any) -> None:
    study = toy_study(seeds=(1, 2, 3), steps=30, every=2, sleep_s=0.15)
    planned(tmp_path / "lost", study)
    victims = [cluster.add_node(num_cpus=1)]
    running: dict[str, int] = {}

    def lose_a_node(event: Progress) -> None:
        if event.status != "running":
            running.pop(event.run, None)
        elif event.step is not None:
            running[event.run] = event.step
        if victims and len(running) >= 3 and min(running.values()) >= 3:
            cluster.remove_node(victims.pop(), allow_graceful=False)

    outcome = execute_study(
        tmp_path / "lost",
        executor="ray",
        options=RayOptions(address=cluster.address, storage=storage),
        retries=2,
        progress=lose_a_node,
    )
    assert not victims
    assert outcome.is_complete
    assert sorted(run.attempts for run in outcome.runs) == [1, 1, 1, 1, 1, 2]
    planned(tmp_path / "unbroken", study)
    execute_study(tmp_path / "unbroken", executor="processes", workers=2)
    for first, second in zip(
        run_folders(tmp_path / "lost"), run_folders(tmp_path / "unbroken"), strict=True
    ):
        assert differing_streams(first.path, second.path) == []


def test_what_no_node_has_is_refused_at_once(tmp_path: Path, cluster: Any) -> None:
    planned(tmp_path, toy_study(steps=2))
    with pytest.raises(UsageError, match=r"asks for 1 CPUs and 2 GPUs, and none of .* 1 CPUs, 0 G"):
        run_ray(tmp_path, cluster, gpus=2)
    assert {run.state()["status"] for run in run_folders(tmp_path)} == {"planned"}


@pytest.mark.slow
def test_other_software_on_a_node_is_refused(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(tmp_path, toy_study(steps=2))
    here = {**orders.software(), "numpy": "1.0"}
    monkeypatch.setattr(orders, "software", lambda: here)
    with pytest.raises(UsageError, match=r"has other software: numpy 2\S* instead of 1.0"):
        run_ray(tmp_path, cluster)
    monkeypatch.undo()
    assert run_ray(tmp_path, cluster).is_complete


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nowhere", "write auto, local, HOST:PORT or ray://HOST:PORT"),
        ("127.0.0.1:1", "nothing answers there"),
        ("ray://127.0.0.1:1", "nothing answers there"),
    ],
)
def test_an_address_without_a_cluster_is_refused(tmp_path: Path, address: str, says: str) -> None:
    planned(tmp_path, toy_study(steps=2))
    with pytest.raises(UsageError, match=says):
        execute_study(tmp_path, executor="ray", options=RayOptions(address=address))


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(tmp_path, toy_study(steps=2))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cupel\[ray\]'"):
        execute_study(tmp_path, executor="ray")
