"""One sampling server: calls that are repeated until they are answered, or loudly not at all.

Knows addresses, the key, deadlines and waits. Refuses to know what an answer means, to wait
without end, and to repeat a call that cannot succeed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from cupel.errors import ConfigError, InfrastructureFailure
from cupel.policy.api_calls import hidden, open_client, passes, wait_before
from cupel.policy.config import OpenAISettings

_WHAT_TO_DO = {
    401: "the key is not accepted; policy.openai.api_key_variable names the variable that holds it",
    403: "the key is not accepted; policy.openai.api_key_variable names the variable that holds it",
}


def read_key(settings: OpenAISettings) -> str:
    """Return the server's key, empty where it wants none.

    Raises:
        ConfigError: the variable that should hold it holds nothing.
    """
    if settings.api_key_variable is None:
        return ""
    key = os.environ.get(settings.api_key_variable, "")
    if not key:
        raise ConfigError(
            f"policy.openai.api_key_variable: the environment variable "
            f"{settings.api_key_variable} holds no key; export one, or leave the setting out where "
            "the server wants none"
        )
    return key


class Server:
    """Makes calls; one for all threads of a policy."""

    def __init__(self, settings: OpenAISettings) -> None:
        """Open the client; nothing is called yet.

        Raises:
            ConfigError: the key's variable is empty.
            MissingExtraError: `openai` is not installed.
        """
        assert settings.base_url is not None
        self._settings = settings
        self._key = read_key(settings)
        self.root = settings.base_url.removesuffix("/v1")
        """Address without the version: native routes stand beside /v1."""
        self._client = open_client(
            base_url=f"{self.root}/v1",
            key=self._key,
            timeout_s=settings.timeout_s,
            what="backend 'openai'",
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def call(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        once_s: float | None = None,
        stop: threading.Event | None = None,
    ) -> Any:
        """Return the answer's JSON, or its text where it is none; wait out failures that pass.

        Args:
            body: posted; None: the page is fetched.
            seed: of the jitter.
            once_s: call once, and wait no longer than this.
            stop: once set, nothing is waited for or repeated.

        Raises:
            InfrastructureFailure: no usable answer, with the server's own words.
        """
        started, stop = time.monotonic(), stop or threading.Event()
        most = self._settings.retries if once_s is None else 0
        patience_s = self._settings.timeout_s if once_s is None else once_s
        failures = 0
        while True:
            left = self._settings.deadline_s - (time.monotonic() - started)
            found = self._once(path, body, min(patience_s, max(left, 0.001)))
            if not isinstance(found, Exception):
                return found
            jitter = float(np.random.default_rng([seed, failures]).random())
            wait = wait_before(
                found, failures=failures, backoff_s=self._settings.backoff_s, jitter=jitter
            )
            failures += 1
            spent = time.monotonic() - started
            if failures > most or spent + wait > self._settings.deadline_s or stop.wait(wait):
                raise InfrastructureFailure(
                    f"{self.root}{path}: {failures} failed calls in {spent:.1f} s, the last: "
                    f"{hidden(found, self._key)} (policy.openai.retries = {most}, deadline_s = "
                    f"{self._settings.deadline_s:g})"
                )

    def _once(self, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> Any:
        """Make one call; return a failure that may pass."""
        import openai

        options = {"timeout": timeout_s}
        url = f"{self.root}{path}"
        try:
            if body is None:
                text = self._client.get(url, cast_to=str, options=options)
            else:
                text = self._client.post(url, cast_to=str, body=dict(body), options=options)
        except openai.APIStatusError as error:
            if passes(error):
                return error
            todo = _WHAT_TO_DO.get(error.status_code, "the server refuses")
            raise InfrastructureFailure(f"{url}: {todo} ({hidden(error, self._key)})") from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            why = f"{type(cause).__name__}: {cause}" if str(cause or "") else "no answer in time"
            return ConnectionError(f"{error} ({why})")
        except openai.OpenAIError as error:
            return error
        try:
            return json.loads(text)
        except ValueError:
            return text
