"""The built site, once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.built_site import build_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation site, built strictly."""
    pytest.importorskip("material", reason="the extra `docs` is not installed")
    return build_site(tmp_path_factory.mktemp("site"))
