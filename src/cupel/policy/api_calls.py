"""Calls to an OpenAI-compatible API by the official client: which failures pass, and for how long.

Knows addresses, status codes, waits, and that a key must never stand in a message. Refuses to know
what is asked, how often it may be, and what it costs: that is the caller's.
"""

from __future__ import annotations

from typing import Any

from cupel.errors import MissingExtraError

LONGEST_WAIT_S = 60.0
_PASSING = frozenset({408, 409, 425, 429})


def plain_address(value: str, *, example: str) -> str:
    """Return an address without its last slash.

    Raises:
        ValueError: it is none, or holds a user or a key, which would stand in every record.
    """
    scheme, _, rest = value.partition("://")
    if scheme not in ("http", "https") or not rest.strip("/"):
        raise ValueError(f"'{value}' is no address; write {example}")
    if "@" in rest.partition("/")[0]:
        raise ValueError(
            "an address with a user or a key in it would stand in the record; give the key in "
            "an environment variable (api_key_variable)"
        )
    return value.rstrip("/")


def open_client(*, base_url: str, key: str, timeout_s: float, what: str) -> Any:
    """Open the official client; it never repeats a call by itself.

    Args:
        key: empty where the server wants none.
        what: who needs it, for the message.

    Raises:
        MissingExtraError: `openai` is not installed.
    """
    try:
        from openai import OpenAI
    except ModuleNotFoundError:
        raise MissingExtraError(what, "api") from None
    return OpenAI(
        api_key=key or "none",  # a server of one's own often wants none, the client always some
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
    )


def passes(error: Any) -> bool:
    """Whether the same call may succeed later, though the API answered with this error."""
    if getattr(error, "code", None) == "insufficient_quota":
        return False
    return error.status_code in _PASSING or error.status_code >= 500


def wait_before(error: Exception, *, failures: int, backoff_s: float, jitter: float) -> float:
    """Return seconds to wait: doubled each time, with jitter, and no less than asked for.

    Args:
        failures: of this call before this one.
        jitter: in [0, 1); takes up to half of the wait away.
    """
    wait = min(LONGEST_WAIT_S, backoff_s * 2.0**failures) * (0.5 + jitter / 2)
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        return max(wait, float(headers.get("retry-after", 0)))
    except ValueError:  # a date: the doubling waits long enough
        return wait


def hidden(error: Exception, key: str) -> str:
    """Return an error's text on one line, without the key."""
    text = " ".join(str(error).split())[:300]
    return text.replace(key, "...") if key else text
