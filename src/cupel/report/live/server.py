"""Serving the live page: four addresses, on this machine unless asked otherwise.

Knows HTTP. Refuses requests whose Host is a name it does not go by (a page elsewhere could point
its own name at this machine), everything but reading, and to list a folder.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cupel.errors import UsageError
from cupel.report.live.page import LivePage

_HTML = "text/html; charset=utf-8"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ReportServer:
    """A bound server; `serve` answers until `close` is called from another thread."""

    def __init__(self, page: LivePage, folder: Path, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = type("Server", (ThreadingHTTPServer,), {"address_family": family})
        handler = partial(_Handler, page, folder, _names(host))
        self._server: ThreadingHTTPServer = kind((host, port), handler)
        self._server.daemon_threads = True
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/"

    def serve(self) -> None:
        """Answer until `close`."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop answering and give the port back."""
        self._server.shutdown()
        self._server.server_close()


def open_server(
    folder: Path, *, host: str = "127.0.0.1", port: int = 0, allow_remote: bool = False
) -> ReportServer:
    """Bind a server for a study's live page.

    Args:
        port: 0 takes any free one.
        allow_remote: without it, only an address of this machine alone is bound.

    Raises:
        UsageError: the address is no loopback address, or cannot be bound.
        DataError: the folder is no study, or its manifest is damaged.
        ConfigError: its study.toml is not valid.
    """
    if not allow_remote and not _is_loopback(host):
        raise UsageError(
            f"host {host} can be reached from other machines, and whoever reaches it can read the "
            "study; give 127.0.0.1, or say --allow-remote"
        )
    page = LivePage(folder)
    try:
        return ReportServer(page, folder, host, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{host}:{port} cannot be bound ({reason}); give another port") from None


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of the page, its changes and the completion viewer beside it."""

    protocol_version = "HTTP/1.0"  # a connection a request: none outlives the server
    server_version = "cupel"
    sys_version = ""
    timeout = 30

    def __init__(self, page: LivePage, folder: Path, names: frozenset[str], *args: object) -> None:
        self._page = page
        self._folder = folder
        self._names = names
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer a request."""
        address = urlsplit(self.path)
        if not self._knows(self.headers.get("Host", "")):
            self._send(HTTPStatus.FORBIDDEN, b"this server does not go by that name\n")
        elif address.path in ("/", "/report.html"):
            self._send(HTTPStatus.OK, self._page.html().encode(), _HTML)
        elif address.path == "/changes":
            asked = parse_qs(address.query)
            data = self._page.changes(_digests(asked, "pieces"), _digests(asked, "figures"))
            self._send(HTTPStatus.OK, data, "application/json")
        elif address.path == "/completions.html" and (self._folder / "completions.html").is_file():
            viewer = (self._folder / "completions.html").read_bytes()
            self._send(HTTPStatus.OK, viewer, _HTML)
        else:
            self._send(HTTPStatus.NOT_FOUND, b"nothing here; the report is at /\n")

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal quiet."""

    def _knows(self, host: str) -> bool:
        """Say whether a Host header is an address, or a name this server goes by."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # an address cannot be pointed elsewhere by whoever owns a name

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _digests(asked: dict[str, list[str]], name: str) -> dict[str, str]:
    """Read `name=a:12,b:` as {"a": "12", "b": ""}."""
    text = asked.get(name, [""])[0]
    pairs = (part.rpartition(":") for part in text.split(",") if ":" in part)
    return {key: digest for key, _, digest in pairs}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names(host: str) -> frozenset[str]:
    """Return the names a request may call this server by, addresses aside."""
    if _is_loopback(host):
        return frozenset({"localhost"})
    own = {"localhost", socket.gethostname(), socket.getfqdn()}
    return frozenset(name.lower() for name in (*own, host))
