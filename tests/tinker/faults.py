"""What a server can do wrong, by name, and when.

Knows which request a fault meets: a route, and its how-manieth call since the script was set.
Refuses to know how a fault is carried out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "status",  # answer the request with `status`, `text`, `headers`
    "hang",  # sit on the request for `seconds`, then do it
    "drop",  # do nothing and close the connection
    "drop_reply",  # do it, then close the connection
    "failed",  # take the request; its future is an error with `text` (category user)
    "future_status",  # take the request; fetching its future is answered with `status`
    "never",  # take the request; its future is never ready
    "nan_logprobs",  # samples, or a forward pass: not-a-number in place of a logprob
    "missing_logprobs",  # samples, or a forward pass: without logprobs
    "short_logprobs",  # samples, or a forward pass: one logprob too few
    "zero_logprobs",  # samples: zeros in place of logprobs
    "shifted_logprobs",  # a forward pass: another policy's logprobs, 0.5 nats lower
    "duplicates",  # samples: the first one, as often as asked
    "too_few",  # samples: one fewer than asked
    "no_metrics",  # a forward pass: without `loss:sum`
    "nan_loss",  # a forward pass: `loss:sum` is not a number
    "no_effect",  # an optimizer step that changes nothing
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One misbehaviour.

    Attributes:
        route: what follows `/api/v1/` in the address, such as `asample`.
        call: its first call to meet, from 0; `calls`: how many in a row.
    """

    route: str
    kind: Kind
    call: int = 0
    calls: int = 1
    status: int = 500
    text: str = "scripted fault"
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class Script:
    """The faults still to come, and how often each route was called."""

    faults: tuple[Fault, ...] = ()
    calls: Counter[str] = field(default_factory=Counter)

    def set(self, faults: Iterable[Fault]) -> None:
        """Replace the script; calls are counted from here."""
        self.faults = tuple(faults)
        self.calls.clear()

    def meet(self, route: str) -> Fault | None:
        """Count a call and return the fault that it meets."""
        call = self.calls[route]
        self.calls[route] += 1
        for fault in self.faults:
            if fault.route == route and fault.call <= call < fault.call + fault.calls:
                return fault
        return None
