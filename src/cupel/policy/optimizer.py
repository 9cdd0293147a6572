"""AdamW whose state is float32, whatever number format the model computes in.

Knows parameters by name, their float32 copies where they are half precision, and AdamW's moments.
Gradients of half-precision parameters are summed in float32, a microbatch at a time. Of a parameter
that is divided over processes it steps the own part. Refuses to know losses and schedules: the rate
of each step is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from cupel.errors import AlgorithmicFailure, DataError
from cupel.policy.config import PolicySettings
from cupel.policy.layout import REPLICATED, Layout

_MASTER = "master"
_HALF = (torch.bfloat16, torch.float16)


class MasterAdamW:
    """AdamW over float32 masters; a float32 parameter is its own master.

    Decoupled weight decay: Loshchilov and Hutter, arXiv:1711.05101. With bfloat16 weights alone, a
    step smaller than 1/256 of a weight would be rounded away.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        settings: PolicySettings,
        layout: Layout = REPLICATED,
    ) -> None:
        """Take the trained parameters by name."""
        self._layout = layout
        self._parameters = dict(parameters)
        self._halves: dict[str, Tensor] = {}
        self._divided: dict[str, Tensor] = {}
        self.masters: dict[str, Tensor] = {}
        for name, parameter in parameters.items():
            master = parameter
            if layout.divides(parameter):
                master = layout.own(parameter).requires_grad_()
                self._divided[name] = parameter
            elif parameter.dtype in _HALF:
                master = parameter.detach().float().requires_grad_()
                self._halves[name] = parameter
                parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    _into(master)
                )
            self.masters[name] = master
        self.optimizer = torch.optim.AdamW(
            list(self.masters.values()),
            lr=0.0,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._clip = settings.grad_clip or math.inf

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in (*self.masters.values(), *self._parameters.values()):
            parameter.grad = None

    def reduce(self, sum_over_ranks: Callable[[Tensor], None]) -> None:
        """Replace every gradient by its sum over all processes; a missing one counts as 0.

        Those of divided parameters were summed when they were made.
        """
        masters = [m for name, m in self.masters.items() if name not in self._divided]
        gradients = [torch.zeros_like(m) if m.grad is None else m.grad for m in masters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        sum_over_ranks(flat)
        sizes = [master.numel() for master in masters]
        parts = torch.split(flat, sizes)
        for master, part in zip(masters, parts, strict=True):
            master.grad = part.view_as(master)

    def step(self, lr: float) -> float:
        """Clip, step, and return the gradient's norm before clipping.

        Raises:
            AlgorithmicFailure: the norm is not finite; parameters are unchanged.
        """
        norm = self._clipped()
        if not bool(torch.isfinite(norm)):
            raise AlgorithmicFailure(
                f"update: the gradient norm is {float(norm)}; parameters are unchanged"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        with torch.no_grad():
            for name, parameter in self._halves.items():
                parameter.copy_(self.masters[name])
        return float(norm)

    def tensors(self) -> dict[str, Tensor]:
        """Return moments, counters and float32 copies by name, whole; all processes call."""
        return {name: value.cpu().contiguous() for name, value in self.whole_tensors()}

    def whole_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what `tensors` returns, one after the other, where it was computed."""
        for name, master in self.masters.items():
            for field, value in self.optimizer.state.get(master, {}).items():
                yield f"{name}|{field}", self._whole(name, torch.as_tensor(value))
        for name in self._copied:
            yield f"{name}|{_MASTER}", self._whole(name, self.masters[name].detach())

    def restore(self, tensors: Mapping[str, Tensor], *, where: str) -> None:
        """Put back what `tensors` returned, bit for bit.

        Raises:
            DataError: it belongs to another optimizer.
        """
        masters = {name: tensors.get(f"{name}|{_MASTER}") for name in self._copied}
        rest = {name: t for name, t in tensors.items() if not name.endswith(f"|{_MASTER}")}
        kept = [name for name, master in masters.items() if master is not None]
        if kept != list(masters) or len(rest) + len(kept) != len(tensors):
            raise DataError(
                f"{where}: the float32 copies are not those of this model; resume with the "
                "policy.dtype it was written with"
            )
        own = {key: self._part(key.rpartition("|")[0], value) for key, value in rest.items()}
        restore_moments(self.masters, self.optimizer, own, where=where)
        with torch.no_grad():
            for name, master in masters.items():
                assert master is not None
                self.masters[name].copy_(self._part(name, master))

    @property
    def _copied(self) -> list[str]:
        """Parameters whose float32 values are more than the model computes with."""
        rounded = self._layout.dtype in _HALF
        divided = self._divided if rounded else {}
        return [name for name in self.masters if name in self._halves or name in divided]

    def _clipped(self) -> Tensor:
        """Clip gradients by their global norm, and return it."""
        if not self._divided:
            return torch.nn.utils.clip_grad_norm_(list(self.masters.values()), self._clip)
        for name, parameter in self._divided.items():
            gradient = parameter.grad
            self.masters[name].grad = None if gradient is None else self._layout.own(gradient)
        grads = {n: m.grad for n, m in self.masters.items() if m.grad is not None}
        parts = [gradient for name, gradient in grads.items() if name in self._divided]
        wholes = [gradient for name, gradient in grads.items() if name not in self._divided]
        device = next(iter(self.masters.values())).device
        square, own = (
            torch.nn.utils.get_total_norm(some).to(device).square() for some in (wholes, parts)
        )
        norm = (square + self._layout.summed(own)).sqrt()
        torch.nn.utils.clip_grads_with_norm_(list(self.masters.values()), self._clip, norm)
        return norm

    def _whole(self, name: str, value: Tensor) -> Tensor:
        if name not in self._divided or value.dim() == 0:  # AdamW's counter of steps
            return value
        return self._layout.whole(self._parameters[name], value)

    def _part(self, name: str, value: Tensor) -> Tensor:
        if name not in self._divided or value.dim() == 0:
            return value
        return self._layout.part(self._parameters[name], value)


def moments(
    parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Return an AdamW's state under `parameter|field`."""
    return {
        f"{name}|{field}": torch.as_tensor(value).cpu().contiguous()
        for name, parameter in parameters.items()
        for field, value in optimizer.state.get(parameter, {}).items()
    }


def restore_moments(
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    *,
    where: str,
) -> None:
    """Put back what `moments` returned.

    Raises:
        DataError: a field of a parameter that is not trained here.
    """
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, field = key.rpartition("|")
        parameter = parameters.get(name)
        if parameter is None:
            raise DataError(f"{where}: state of {name}, which this policy does not train")
        kept = value if field == "step" and value.dim() == 0 else value.to(parameter.device)
        optimizer.state[parameter][field] = kept


def _into(master: Tensor) -> Callable[[Tensor], None]:
    """Return the hook that moves a parameter's fresh gradient into its master's float32 sum."""

    def collect(parameter: Any) -> None:
        gradient = parameter.grad.float()
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        parameter.grad = None

    return collect
