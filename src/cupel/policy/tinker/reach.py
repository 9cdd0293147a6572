"""Whether a Tinker server can be used, asked before the first run of a study starts.

Knows the key, the address, the health route and the served models. Refuses to train or to sample,
and to wait longer than a person would: what a server really honours is found out by each run.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cupel.errors import ConfigError, InfrastructureFailure
from cupel.policy.build import need_tinker
from cupel.policy.config import PolicyConfig
from cupel.policy.tinker.config import missing_key

PATIENCE_S = 10.0
"""Longest wait for a server of one's own to say that it is up."""

_ROOT_BYTES = 1 << 20

SESSION_PATIENCE_S = 60.0
"""Longest wait for a session and the list of models."""


def check_tinker_server(config: PolicyConfig) -> None:
    """Refuse a server that is not there, takes no such key or has no such model; asks it once.

    Raises:
        ConfigError: says what is wrong, in one line.
        MissingExtraError: the SDK is not installed.
    """
    need_tinker("policy.backend 'tinker'")
    problem = missing_key(config.tinker)
    if problem is not None:
        raise ConfigError(f"backend 'tinker': {problem}")
    _check_once(config.model_dump_json())


@lru_cache
def _check_once(settings: str) -> None:
    config = PolicyConfig.model_validate_json(settings)
    if config.tinker.base_url is not None:
        _check_health(config.tinker.base_url)
    from cupel.policy.tinker.service import Spent, TinkerService

    patience_s = min(SESSION_PATIENCE_S, config.tinker.deadline_s)
    hasty = config.tinker.model_copy(update={"deadline_s": patience_s})
    service = TinkerService(config.model_copy(update={"tinker": hasty}), spent=Spent())
    try:
        service.open()
    except InfrastructureFailure as error:
        raise ConfigError(f"backend 'tinker': {error}") from None


def service_facts(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a policy's record says of client and server, with the server's own version.

    Args:
        told: by `TinkerPolicy.describe`.
    """
    names = ("sdk", "base_url", "server_reduction", "grad_clip_honoured")
    return {
        **{name: told[name] for name in names},
        "server": server_version(told["base_url"]),
    }


def server_version(base_url: str | None) -> str | None:
    """Return the name and version that a server tells at its root; None where it tells none."""
    if base_url is None:
        return None
    try:
        with urllib.request.urlopen(f"{base_url}/", timeout=PATIENCE_S) as answer:
            found = json.loads(answer.read(_ROOT_BYTES))
    except (OSError, ValueError):
        return None
    words = [str(found[key]) for key in ("name", "version") if found.get(key)]
    return " ".join(words) or None


def _check_health(base_url: str) -> None:
    url = f"{base_url}/api/v1/healthz"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S):
            return
    except urllib.error.HTTPError as error:
        why = f"{url} answers {error.code}; no Tinker server is there"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        why = f"{base_url} does not answer ({getattr(reason, 'strerror', None) or reason})"
    raise ConfigError(
        f"backend 'tinker': {why}. Start the server, or mend policy.tinker.base_url (--base-url)"
    )
