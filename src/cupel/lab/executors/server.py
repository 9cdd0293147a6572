"""The caller's side of the fork server: start it, order runs, hear how they ended.

Knows the pipe to `fork_server` and what an exit code of a run means. Refuses to know whose runs
they are, and where a study keeps its books: every executor that starts runs on a machine uses it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from cupel.errors import InfrastructureFailure

END_S = 10.0
ENDED_BY_ITSELF = (0, 3)
"""Exit codes of a run that wrote down itself how it ended."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ForkServer:
    """The caller's side of a fork server; it is started at once.

    Args:
        log: file to which what the server itself prints is appended.
        recipes, modules: what it imports before it forks the first run.
        provenance: facts that every run records.
        threads: CPU threads that the imported libraries may start.
        paths: where it looks for modules; default this process's own `sys.path`.
        cwd: its working folder, default this process's own.
        deaf_to: signals that neither the server nor its runs shall hear.

    Raises:
        InfrastructureFailure: the log cannot be written.
    """

    def __init__(
        self,
        *,
        log: Path,
        recipes: Sequence[str],
        modules: Sequence[str],
        provenance: Mapping[str, Any],
        threads: int,
        paths: Sequence[str] | None = None,
        cwd: Path | None = None,
        deaf_to: Sequence[signal.Signals] = (),
    ) -> None:
        source, self._orders = os.pipe()
        self._answers, sink = os.pipe()
        looked = [os.path.abspath(path) for path in (sys.path if paths is None else paths)]
        code = "\n".join(
            [
                "import signal, sys",
                f"for number in {[int(each) for each in (signal.SIGINT, *deaf_to)]}:",
                "    signal.signal(number, signal.SIG_IGN)",
                f"sys.path[:] = {looked!r}",
                "from cupel.lab.executors.fork_server import serve",
                f"serve({source}, {sink})",
            ]
        )
        with _open_log(log) as handle:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                env=_environment(threads),
                cwd=cwd,
                pass_fds=(source, sink),
            )
        os.close(source)
        os.close(sink)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        self._buffer = b""
        self._ended = False
        self.order({"recipes": [*recipes], "modules": [*modules], "provenance": dict(provenance)})

    def order(self, message: Mapping[str, Any]) -> None:
        """Send one order."""
        data = memoryview((json.dumps(message) + "\n").encode())
        with suppress(BrokenPipeError):  # a dead server is noticed when its answers end
            while data:
                data = data[os.write(self._orders, data) :]

    def messages(self, wait_s: float) -> list[dict[str, Any]] | None:
        """Return the answers that came within `wait_s`; None when the server is dead."""
        if not self._selector.select(wait_s):
            return []
        data = os.read(self._answers, 1 << 16)
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> None:
        """Close its input, which ends its children and itself; kill it when it does not."""
        if self._ended:
            return
        self._ended = True
        os.close(self._orders)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        os.close(self._answers)


def how_it_died(code: int, folder: Path) -> str:
    """Say in words why a run that did not end by itself ended."""
    if code < 0:
        with suppress(ValueError):
            name = signal.Signals(-code).name
            return f"the run's process was killed by {name} (out of memory, or by hand?)"
        return f"the run's process was killed by signal {-code}"
    return f"the run's process ended with exit code {code}; see {folder / 'log.txt'}"


def _environment(threads: int) -> dict[str, str]:
    return {
        **os.environ,
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for CUDA must not claim it before a fork
    }


@contextmanager
def _open_log(path: Path) -> Iterator[IO[bytes]]:
    try:
        handle = path.open("ab")
    except OSError as error:
        raise InfrastructureFailure(f"{path}: cannot be written ({error.strerror})") from None
    with handle:
        yield handle
