"""A moving average of the weights, and evaluating with it.

Knows parameters and their shadows. Refuses to know optimizers and when to update: call `update`
once per real optimizer step, never otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cupel.errors import DataError


class Ema:
    """shadow <- rate · shadow + (1 - rate) · weight, for every parameter of a module.

    Starts at the weights it is given; there is no bias correction, as in the reference.
    """

    def __init__(self, module: nn.Module, *, rate: float) -> None:
        self.rate = rate
        self._weights = dict(module.named_parameters())
        self._shadow = {name: p.detach().clone() for name, p in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average one step towards the weights."""
        weights = [self._weights[name].detach() for name in self._shadow]
        torch._foreach_lerp_(list(self._shadow.values()), weights, 1.0 - self.rate)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the module for a while; the weights come back bit for bit."""
        kept = {name: p.detach().clone() for name, p in self._weights.items()}
        self._write(self._shadow)
        try:
            yield
        finally:
            self._write(kept)

    def state(self) -> dict[str, Tensor]:
        """Return the average by parameter name."""
        return dict(self._shadow)

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved average.

        Raises:
            DataError: it is of other parameters.
        """
        if state.keys() != self._shadow.keys():
            other = sorted(state.keys() ^ self._shadow.keys())
            raise DataError(f"Ema: the saved average differs in {', '.join(other[:5])}")
        for name, shadow in self._shadow.items():
            shadow.copy_(state[name])

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._weights.items():
            parameter.copy_(values[name])
