import types

import pytest


@pytest.fixture(scope="session")
def tinker_server():
    return types.SimpleNamespace(url="http://127.0.0.1:8231", model="/tmp/tp-model")
