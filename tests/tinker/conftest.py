"""A real server for the tests that ask for one, and the scripted one for those that need faults."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tinker.servers import KEY, PYTHON, RealServer, Server, free_port

if TYPE_CHECKING:
    from tests.tinker.fake_server import FakeServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the SDK leave sockets to the garbage collector, in this folder's tests only."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(autouse=True, scope="module")
def quiet_and_offline() -> Iterator[None]:
    """Neither the SDK nor the hub calls home, while this folder's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINKER_TELEMETRY", "0")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """Collect what the SDK left before another folder's test would be told of it."""
    yield
    gc.collect()


def real_server(folder: Path) -> RealServer:
    """Return a server that is not started yet.

    Skips the test where the environment is missing; fails it where the environment must be there.
    """
    if not PYTHON.exists():
        reason = f"no Tinker server at {PYTHON}: `make test-tinker` installs it"
        if os.environ.get("CUPEL_TINKER_REQUIRED"):
            pytest.fail(reason)
        pytest.skip(reason)
    return RealServer(folder=folder, port=free_port())


@pytest.fixture(scope="session")
def tinker_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A real server for the whole session; who kills it takes `own_tinker_server`."""
    server = real_server(tmp_path_factory.mktemp("tinker"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def own_tinker_server(tmp_path: Path) -> Iterator[RealServer]:
    """A real server of the test's own, running: to kill, and to start again on the same files."""
    server = real_server(tmp_path / "tinker")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def fake_tinker() -> Iterator[FakeServer]:
    """The scripted server, summing like the hosted service."""
    from tests.tinker.fake_server import FakeServer

    with FakeServer() as server:
        yield server


@pytest.fixture(
    scope="session",
    params=["fake-sum", "fake-mean", pytest.param("skyrl", marks=pytest.mark.tinker)],
)
def any_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each kind of server in turn."""
    from tests.tinker.fake_server import FakeServer

    if request.param == "skyrl":
        yield request.getfixturevalue("tinker_server")
        return
    reduction = "sum" if request.param == "fake-sum" else "seq_mean"
    with FakeServer(reduction=reduction) as server:
        yield server


@pytest.fixture
def tinker_key(monkeypatch: pytest.MonkeyPatch) -> str:
    """Put a key where the client looks for it."""
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    return KEY
