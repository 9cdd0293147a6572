"""Decoder layers divided over processes: each holds a part of every layer's weights.

Knows torch's FSDP2: which parameters it divides, that gradients are summed and not averaged, and
what it must be told between passes. Embeddings, the last norm, the head and adapters stay whole
in every process. Refuses to know batches and losses.

Source: Zhao et al. 2023, arXiv:2304.11277; `torch.distributed.fsdp.fully_shard`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from cupel.policy.causal_lm import CausalLM
from cupel.policy.ranks import Peers
from cupel.policy.recompute import decoder_layers


class LayerShards:
    """The divided layers of one model; all processes make one at the same time."""

    together = True

    def __init__(self, lm: CausalLM, peers: Peers) -> None:
        """Divide the layers of a model that all processes hold; the rest of it stays as it is.

        A half-precision parameter that is trained becomes float32 here: its part is its own
        master, and is rounded when it is gathered to compute with. Gradients are summed in
        float32.

        Raises:
            ConfigError: the decoder has no layers of the library's kind.
        """
        self._peers = peers
        self._decoder = lm.decoder
        self._layers = decoder_layers(lm.decoder, "policy.shard")
        self.dtype: torch.dtype | None = lm.head_weight.dtype
        everybody = dist.group.WORLD
        assert everybody is not None
        mesh = DeviceMesh.from_group(everybody, lm.device.type)
        for layer in self._layers:
            self._divide(layer, mesh)
        rest = {p for p in lm.decoder.parameters() if not isinstance(p, DTensor)}
        fully_shard(lm.decoder, mesh=mesh, ignored_params=rest)  # the root: it orders the layers
        with lm.arithmetic(), torch.no_grad():
            lm.prefill([[0]])  # the first pass settles who the root is
        self.settle()

    def divides(self, parameter: Tensor) -> bool:
        """Whether each process holds a part of this parameter only."""
        return isinstance(parameter, DTensor)

    def own(self, parameter: Tensor) -> Tensor:
        """Return this process's part, in the same memory; it may be empty."""
        return parameter.to_local().detach() if isinstance(parameter, DTensor) else parameter

    def part(self, parameter: Tensor, whole: Tensor) -> Tensor:
        """Return this process's part of a tensor that every process has."""
        if not isinstance(parameter, DTensor):
            return whole
        placed = distribute_tensor(
            whole.to(parameter.device),
            parameter.device_mesh,
            parameter.placements,
            src_data_rank=None,  # nothing is sent
        )
        return placed.to_local().clone()

    def whole(self, parameter: Tensor, own: Tensor) -> Tensor:
        """Gather the parts of a tensor that is divided as the parameter is."""
        if not isinstance(parameter, DTensor):
            return own
        joined = DTensor.from_local(
            own,
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
        return joined.full_tensor()

    def weight(self, parameter: Tensor) -> Tensor:
        """Gather a parameter, in the model's number format."""
        if not isinstance(parameter, DTensor):
            return parameter.detach()
        return self.whole(parameter, self.own(parameter)).to(self.dtype)

    def passes(self, own: int) -> int:
        """Return the most that any process needs."""
        most: int = max(self._peers.all_gather(own))
        return most

    def settle(self) -> None:
        """Divide what is gathered, and forget the order of passes that had no gradient."""
        self._decoder.reset_iter_state()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Hold every layer whole inside the block: passes then need no other process."""
        for layer in self._layers:
            layer.unshard()
        self._decoder.set_reshard_after_forward(False)
        try:
            yield
        finally:
            self._decoder.set_reshard_after_forward(True)
            self.settle()

    def summed(self, tensor: Tensor) -> Tensor:
        """Add up over processes."""
        total = tensor.clone()
        self._peers.sum(total)
        return total

    def _divide(self, layer: Any, mesh: DeviceMesh) -> None:
        trained = [p for p in layer.parameters() if p.requires_grad]
        frozen = [p for p in layer.parameters() if not p.requires_grad]
        adapters = set(trained) if frozen else set()
        policy = MixedPrecisionPolicy(cast_forward_inputs=False)
        if not frozen and self.dtype != torch.float32:
            for parameter in trained:
                parameter.data = parameter.data.float()
            policy = MixedPrecisionPolicy(
                param_dtype=self.dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
            )
        fully_shard(layer, mesh=mesh, mp_policy=policy, ignored_params=adapters)
        layer.set_gradient_divide_factor(1.0)
        layer.set_force_sum_reduction_for_comms(True)
