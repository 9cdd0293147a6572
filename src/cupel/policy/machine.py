"""What this machine computes a second: matmul rate and memory bandwidth, on its CPU and GPUs.

Runs as a process of its own (`python -m cupel.policy.machine`), which prints one line of JSON, so
that a broken torch is a message and not a crash of whoever asked. Without torch it measures numpy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

MEASURE_S = 0.2
SIDE = 512
GPU_SIDE = 8192
COPY_BYTES = 128 * 2**20
"""More than any cache holds."""


def measure() -> dict[str, Any]:
    """Return what was found: `torch` (or why not), `gpus`, and the CPU's rates on one thread."""
    try:
        import torch
    except ImportError as error:
        return {"torch": None, "problem": str(error), "gpus": [], "cpu": numpy_rates()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gpus = [_gpu(index) for index in range(torch.cuda.device_count())]
    return {"torch": torch.__version__, "threads": threads, "gpus": gpus, "cpu": torch_rates("cpu")}


def numpy_rates() -> dict[str, Any]:
    """Measure float32 with numpy; the number of threads is its BLAS library's own."""
    import numpy as np

    a, b = np.ones((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), np.float32)
    source = np.ones(COPY_BYTES // 4, np.float32)
    target = np.empty_like(source)
    return _rates(
        SIDE, lambda: a @ b, lambda: np.copyto(target, source), lambda: None, "numpy, float32"
    )


def torch_rates(device: str) -> dict[str, Any]:
    """Measure with torch: float32 on a CPU, bfloat16 products on a GPU."""
    import torch

    on_gpu = device != "cpu"
    side = GPU_SIDE if on_gpu else SIDE
    dtype = torch.bfloat16 if on_gpu else torch.float32
    a = torch.ones((side, side), dtype=dtype, device=device)
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    wait = (lambda: torch.cuda.synchronize(device)) if on_gpu else (lambda: None)
    what = "torch, bfloat16" if on_gpu else "torch, float32, 1 thread"
    return _rates(side, lambda: a @ a, lambda: target.copy_(source), wait, what)


def _rates(
    side: int,
    multiply: Callable[[], Any],
    copy: Callable[[], Any],
    wait: Callable[[], None],
    what: str,
) -> dict[str, Any]:
    """A product of side x side matrices does 2 side^3 FLOP; a copy reads and writes its bytes."""
    return {
        "gflops": 2 * side**3 / _seconds(multiply, wait) / 1e9,
        "gb_per_s": 2 * COPY_BYTES / _seconds(copy, wait) / 1e9,
        "what": what,
    }


def _seconds(work: Callable[[], Any], wait: Callable[[], None]) -> float:
    """Return the least time of one call: what else runs can only make it longer."""
    work()  # first use allocates and chooses kernels
    wait()
    best, end = float("inf"), time.perf_counter() + MEASURE_S
    while time.perf_counter() < end:
        started = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - started)
    return best


def _gpu(index: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    found: dict[str, Any] = {"name": properties.name, "memory_bytes": properties.total_memory}
    try:
        found["free_bytes"] = torch.cuda.mem_get_info(index)[0]
        found["rates"] = torch_rates(f"cuda:{index}")
    except RuntimeError as error:  # another process holds it, or its memory is full
        found["problem"] = str(error).splitlines()[0]
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure()) + "\n")
