"""Servers that speak the Tinker API, as a test sees them: an address and a base model's name.

Knows how a real server is started, waited for, killed with everything it started, and started
again on the same port and files. Refuses to know what is asked of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "src/cupel/policy/assets/tiny-arithmetic"
PYTHON = Path(os.environ.get("CUPEL_TINKER_VENV", ROOT / ".venv-tinker")) / "bin/python"
KEY = "tml-local"
STARTED_IN_S = 120.0


class Server(Protocol):
    """Whatever answers the Tinker API."""

    url: str
    base_model: str
    """The only name it knows a base model by: the folder that a client's tokenizer comes from."""


@dataclass(slots=True, kw_only=True)
class RealServer:
    """SkyRL's server in a process group of its own.

    Attributes:
        folder: its database and checkpoints; they outlive a kill.
        options: more words of `server_main.py`'s command line.
    """

    folder: Path
    port: int
    model: Path = MODEL
    options: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_model(self) -> str:
        return str(self.model.resolve())

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Start it and return once it answers.

        Raises:
            RuntimeError: it ended, or did not answer in time; the log's last lines.
        """
        assert self._process is None, "already running"
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [PYTHON, Path(__file__).with_name("server_main.py")]
        command += ["--port", str(self.port), "--folder", self.folder, "--model", self.model]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*map(str, command), *self.options],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + STARTED_IN_S
        while not self.answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                said = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise RuntimeError(f"the Tinker server did not start:\n{said}")
            time.sleep(0.1)

    def answers(self) -> bool:
        """Ask whether the HTTP process is up; the engine behind it loads at the first client."""
        try:
            with urlopen(f"{self.url}/api/v1/healthz", timeout=1) as reply:
                return reply.status == 200
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        """End it and its engine at once, as a crash would."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
