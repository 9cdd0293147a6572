"""A study on a Ray cluster of several nodes, made of real Ray processes on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_studies import planned, run_folders, toy_study

from cupel.errors import UsageError
from cupel.lab import Progress, differing_streams, execute_study, read_run
from cupel.lab.executors.options import RayOptions

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and one worker node, one CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
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


@pytest.mark.parametrize("storage", ["shared", "returned"])
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
