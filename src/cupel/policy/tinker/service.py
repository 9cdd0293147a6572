"""A session with a Tinker server by the official SDK: deadlines, repetitions, named failures.

Opens the SDK's clients and awaits its futures; knows how its versions differ in that. Refuses to
wait without end, and to repeat a request that changes weights: after a failed one nobody knows
what the server has done, so the run ends and continues from its last checkpoint.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cupel.errors import ConfigError, InfrastructureFailure
from cupel.policy.api_calls import hidden, passes, wait_before
from cupel.policy.config import PolicyConfig
from cupel.policy.tinker.config import TinkerSettings, missing_key

_NO_KEY = "tml-none"  # the SDK wants a key of this form even where the server wants none
_LOOK_S = 0.2
_KNOCK_S = 20.0


@dataclass(slots=True, kw_only=True)
class Spent:
    """What was asked of a server. Tokens of prompts count where they are computed: once a request
    for samples, and in every training row.

    Attributes:
        requests: all of them, those that were repeated included.
        prompt_tokens, sampled_tokens: of requests for samples.
        scored_tokens, trained_tokens: positions of forward passes, and of those with a gradient.
    """

    requests: int = 0
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    scored_tokens: int = 0
    trained_tokens: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


class TinkerService:
    """A session with one server, and the training clients opened in it."""

    def __init__(self, config: PolicyConfig, *, spent: Spent) -> None:
        """Open a session.

        Raises:
            ConfigError: the hosted service without a key, or a server that is not there or does
                not serve the model; the message says which.
        """
        self._config, self.settings, self.spent = config, config.tinker, spent
        self._lock = threading.Lock()
        self._key = _key(self.settings)
        named = self.settings.base_url or os.environ.get("TINKER_BASE_URL")  # the SDK looks there
        self.where = named or "the hosted Tinker service"
        """The server's address, for messages and records."""
        import tinker

        logging.getLogger("tinker").setLevel(logging.ERROR)  # its failures come as exceptions
        self.sdk = tinker
        try:
            if named:
                _knock(named)
            self._service = self.within(
                lambda: tinker.ServiceClient(base_url=named, api_key=self._key),
                "opening a session",
            )
            found = self.within(self._capabilities, "asking for the server's models")
        except InfrastructureFailure as error:
            raise ConfigError(
                f"backend 'tinker': {error}. Is policy.tinker.base_url (--base-url) the address of "
                "a Tinker server, and is it up?"
            ) from None
        names = [str(one.model_name) for one in found.supported_models]
        if names and config.model not in names:
            raise ConfigError(
                f"backend 'tinker': {self.where} serves no model '{config.model}'; it has "
                f"{', '.join(sorted(names))}"
            )

    @property
    def sdk_version(self) -> str:
        """Version of the SDK."""
        return str(self.sdk.__version__)

    def open(self) -> None:
        """Have the server open the session now, which the first adapters would do otherwise.

        Raises:
            InfrastructureFailure: it does not; in its own words.
        """
        self.within(
            lambda: self._service.create_sampling_client(base_model=str(self._config.model)),
            "opening a session",
        )

    def new(self, *, seed: int) -> Any:
        """Return the SDK's client of fresh adapters, drawn by `seed`.

        Raises:
            InfrastructureFailure: the server makes none; in its own words.
        """
        return self.within(
            lambda: self._service.create_lora_training_client(
                base_model=str(self._config.model), rank=self._config.lora.rank, seed=seed
            ),
            f"making adapters of rank {self._config.lora.rank} on {self._config.model}",
        )

    def restored(self, path: str) -> Any:
        """Return the SDK's client of adapters and optimizer that lie at a server's path.

        SDKs from 0.37 on let the server make the client; a server that is older than that wants
        one to load them into. Both lead to the same state.

        Raises:
            InfrastructureFailure: the server does not have them, or cannot load them.
        """
        what = f"restoring {path}"
        try:
            return self.within(
                lambda: self._service.create_training_client_from_state_with_optimizer(path), what
            )
        except InfrastructureFailure as error:
            if "model_id" not in str(error):
                raise
        client = self.new(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.once(lambda: client.load_state_with_optimizer(path), what)
        return client

    def count(self, **more: int) -> None:
        """Add to what was asked of the server."""
        with self._lock:
            for name, value in more.items():
                setattr(self.spent, name, getattr(self.spent, name) + value)

    def wait(
        self, future: Any, what: str, *, limit_s: float, stop: threading.Event | None = None
    ) -> Any:
        """Return a future's result, awaited no longer than `limit_s`.

        Raises:
            TimeoutError: it has not come by then, or `stop` was set.
        """
        ends = time.monotonic() + limit_s
        while True:
            try:
                return future.result(timeout=max(0.001, min(_LOOK_S, ends - time.monotonic())))
            except TimeoutError:
                done = getattr(future, "future", lambda: future)().done()
                if done:  # the request itself ran out of time
                    raise
                if time.monotonic() >= ends or (stop is not None and stop.is_set()):
                    getattr(future, "future", lambda: future)().cancel()
                    raise TimeoutError(f"no answer within {limit_s:g} s ({what})") from None

    def once(self, submit: Callable[[], Any], what: str) -> Any:
        """Make a call that must not be repeated; return its result.

        Raises:
            InfrastructureFailure: it failed.
        """
        return self.finish(self.submit(submit, what), what)

    def submit(self, submit: Callable[[], Any], what: str) -> Any:
        """Hand a request in; return its future."""
        self.count(requests=1)
        try:
            return submit()
        except Exception as error:  # noqa: BLE001 - the SDK's failures have no common base
            raise self._failed(error, what) from None

    def finish(self, future: Any, what: str) -> Any:
        """Return the result of a request that changes weights or reads them."""
        try:
            return self.wait(future, what, limit_s=self.settings.timeout_s)
        except Exception as error:  # noqa: BLE001 - the SDK's failures have no common base
            raise self._failed(error, what) from None

    def repeated(
        self, submit: Callable[[], Any], what: str, *, seed: int, stop: threading.Event
    ) -> Any:
        """Make a call that may be repeated; wait out failures that pass.

        Args:
            seed: of the jitter.

        Raises:
            InfrastructureFailure: no answer, with the server's own words.
        """
        started, failures = time.monotonic(), 0
        while True:
            left = self.settings.deadline_s - (time.monotonic() - started)
            limit = max(0.001, min(self.settings.timeout_s, left))
            self.count(requests=1)
            try:
                return self.wait(submit(), what, limit_s=limit, stop=stop)
            except Exception as error:  # noqa: BLE001 - the SDK's failures have no common base
                if not self._passes(error):
                    raise self._failed(error, what) from None
                jitter = float(np.random.default_rng([seed, failures]).random())
                wait = wait_before(
                    error, failures=failures, backoff_s=self.settings.backoff_s, jitter=jitter
                )
                failures += 1
                spent = time.monotonic() - started
                late = spent + wait > self.settings.deadline_s
                if failures > self.settings.retries or late or stop.wait(wait):
                    raise InfrastructureFailure(
                        f"{self.where}: {what}: {failures} failed requests in {spent:.1f} s, the "
                        f"last: {self._told(error)} (policy.tinker.retries = "
                        f"{self.settings.retries}, deadline_s = {self.settings.deadline_s:g})"
                    ) from None

    def _passes(self, error: Exception) -> bool:
        if isinstance(error, self.sdk.APIStatusError):
            return passes(error)
        if isinstance(error, self.sdk.RequestFailedError):
            return "user" not in str(error.category).lower()
        return isinstance(error, OSError | self.sdk.APIConnectionError)  # time-outs are OSErrors

    def _failed(self, error: Exception, what: str) -> InfrastructureFailure:
        return InfrastructureFailure(f"{self.where}: {what}: {self._told(error)}")

    def _told(self, error: Exception) -> str:
        return f"{type(error).__name__}: {hidden(error, self._key)}"

    def within(self, call: Callable[[], Any], what: str) -> Any:
        """Return the result of a call that blocks, in a thread that is left behind when late."""
        found: list[Any] = []

        def work() -> None:
            try:
                made = call()
                # from SDK 0.38 on these calls return futures of what they make
                if isinstance(made, self.sdk.APIFuture):
                    made = made.result()
                found.append(made)
            except Exception as error:  # noqa: BLE001 - told below
                found.append(error)

        self.count(requests=1)
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self.settings.deadline_s)
        if not found:
            raise InfrastructureFailure(
                f"{self.where}: {what}: no answer within {self.settings.deadline_s:g} s "
                "(policy.tinker.deadline_s)"
            )
        if isinstance(found[0], Exception):
            raise self._failed(found[0], what)
        return found[0]

    def _capabilities(self) -> Any:
        if hasattr(self._service, "get_server_capabilities"):
            return self._service.get_server_capabilities()
        return self._service.create_rest_client().get_server_capabilities()


def _knock(address: str) -> None:
    """Fail at once where nobody listens: the SDK would try for minutes.

    Raises:
        InfrastructureFailure: nobody does.
    """
    import httpx

    try:
        httpx.get(f"{address}/api/v1/healthz", timeout=_KNOCK_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InfrastructureFailure(f"{address}: {type(error).__name__}: {error}") from None


def _key(settings: TinkerSettings) -> str:
    """Return the key to send.

    Raises:
        ConfigError: the hosted service needs one, and there is none.
    """
    problem = missing_key(settings)
    if problem is not None:
        raise ConfigError(f"backend 'tinker': {problem}")
    found = os.environ.get(settings.api_key_variable, "") if settings.api_key_variable else ""
    return found or _NO_KEY
