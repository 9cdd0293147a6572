"""A server of the Tinker API in this process that can be told what to do wrong.

For ordinary requests it is a real one, held to the same contract tests: the official client talks
to it over a socket, a table of bigrams is sampled and trained. Knows the socket, the keys and a
script of faults; what is served lies in `fake_service`. Refuses to stand in for a real server: a
learning curve measured on it says nothing.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.tinker import wire
from tests.tinker.bigram import Reduction
from tests.tinker.fake_service import Body, FakeService, Refused, Reply
from tests.tinker.faults import Fault, Script
from tests.tinker.servers import KEY, MODEL

PREFIX = "/api/v1/"


class FakeServer:
    """Serves from entering the context to leaving it.

    Args:
        reduction: `sum` like the hosted service, which then also reports `loss:sum`, clips
            gradients and refuses inputs it does not document; `seq_mean` like SkyRL's.
        keys: what it lets in.
    """

    def __init__(
        self,
        *,
        reduction: Reduction = "sum",
        model: Path = MODEL,
        keys: frozenset[str] = frozenset({KEY}),
    ) -> None:
        self.reduction = reduction
        self.keys = keys
        self.requests: list[tuple[str, Body]] = []
        """Route and body of every request but heartbeats, telemetry and fetched futures."""
        self.script = Script()
        self._service = FakeService(reduction=reduction, model=model)
        self.base_model = self._service.base_model
        self._lock = threading.RLock()
        self._closing = threading.Event()

    def __enter__(self) -> FakeServer:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def fail(self, *faults: Fault) -> None:
        """Set the script; calls are counted from here."""
        with self._lock:
            self.script.set(faults)

    def forget(self) -> None:
        """Lose sessions, models and samplers, as a restart does; checkpoints stay."""
        with self._lock:
            self._service.forget()

    def count(self, route: str) -> int:
        """Return how often a route was asked for, faults included."""
        return sum(asked == route for asked, _ in self.requests)

    def answer(self, route: str, key: str | None, body: bytes) -> Reply | None:
        """Answer a request; None: close the connection without a word."""
        if route == "healthz":
            return Reply(json={"status": "ok"})
        if key not in self.keys:
            return Reply(status=401, json={"detail": "Invalid API key"})
        with self._lock:
            read = _read(route, body)
            if route not in ("retrieve_future", "session_heartbeat", "telemetry"):
                self.requests.append((route, read))
            fault = self.script.meet(route)
        kind = fault.kind if fault else None
        if fault and kind == "hang":
            self._closing.wait(fault.seconds)
        elif kind == "drop":
            return None
        elif fault and kind == "status":
            return Reply(status=fault.status, json={"detail": fault.text}, headers=fault.headers)
        try:
            if route == "retrieve_future":
                return self._fetch(read["request_id"])
            with self._lock:
                reply = self._service.do(route, read, fault)
        except Refused as refusal:
            return Reply(status=refusal.status, json={"detail": str(refusal)})
        return None if kind == "drop_reply" else Reply(json=reply)

    def _fetch(self, name: str) -> Reply:
        with self._lock:
            reply = self._service.fetch(name)
        if reply is None:
            self._closing.wait(30)
            return Reply(status=408, json={"detail": "Timeout waiting for result"})
        return reply


def _read(route: str, body: bytes) -> Body:
    if route == "forward_backward":
        return {"forward": wire.read_forward(body)}
    read: Body = json.loads(body) if body else {}
    return read


def _handler(server: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _answer(self, body: bytes) -> None:
            route = self.path.split("?")[0].removeprefix(PREFIX)
            reply = server.answer(route, self.headers.get("X-API-Key"), body)
            if reply is None:
                self.close_connection = True
                return
            binary = reply.binary is not None
            content = reply.binary if binary else json.dumps(reply.json).encode()
            assert content is not None
            self.send_response(reply.status)
            self.send_header("Content-Type", wire.CONTENT_TYPE if binary else "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in reply.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    return Handler
