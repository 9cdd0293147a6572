"""The page of a running study, piece by piece: what a browser has is told by digests, and only
what differs is sent.

Knows pieces and figures. Refuses to lose the last good page because a file cannot be read now.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from cupel.errors import CupelError
from cupel.report.document import document
from cupel.report.live.study import StudyWatch
from cupel.report.page import page_parts, pieces_in_order
from cupel.report.painting import FollowingPainter, Picture

_REST_S = 0.2
"""Shortest time between two looks at the folder, however many browsers ask."""
_FOOT = "Served by Cupel from this study folder; cupel report writes the same page as one file."


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of JSON or HTML with the digest that tells it from an older one."""

    digest: str
    content: str


class LivePage:
    """The page of a study folder as it is now; safe to ask from several threads.

    Raises:
        DataError: the folder is no study, or its manifest is damaged.
        ConfigError: its study.toml is not valid.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._watch = StudyWatch(folder)
        self._looked_at = time.monotonic()
        self._problem: str | None = None
        self._title = ""
        self._running = False
        self._pieces: dict[str, Piece] = {}
        self._pictures: Mapping[str, Picture] = {}
        self._drawn: dict[str, Piece] = {}
        self._build()

    def html(self) -> str:
        """Return the whole page; its figures are asked for by its script."""
        with self._lock:
            self._look()
            digests = {name: piece.digest for name, piece in self._pieces.items()}
            state = orjson.dumps(digests).decode()
            body = "".join(piece.content for piece in self._pieces.values())
            return document(
                self._title,
                f'{body}<script type="application/json" id="digests">{state}</script>',
                foot=_FOOT,
                live=True,
            )

    def changes(self, pieces: Mapping[str, str], figures: Mapping[str, str]) -> bytes:
        """Return, as JSON, what differs from what a browser has.

        Args:
            pieces: digests of the pieces it has, by id.
            figures: digests of the figures it shows, by slug; an empty one asks for the first.
        """
        with self._lock:
            self._look()
            wanted = [slug for slug in figures if slug in self._pictures]
            drawn = {slug: self._draw(slug) for slug in wanted}
            return orjson.dumps(
                {
                    "problem": self._problem,
                    "running": self._running,
                    "order": list(self._pieces),
                    "pieces": {
                        name: {"digest": piece.digest, "html": piece.content}
                        for name, piece in self._pieces.items()
                        if pieces.get(name) != piece.digest
                    },
                    "figures": {
                        slug: {"digest": piece.digest, "data": orjson.Fragment(piece.content)}
                        for slug, piece in drawn.items()
                        if figures[slug] != piece.digest
                    },
                }
            )

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < _REST_S:
            return
        self._problem = None
        try:
            if self._watch.look():
                self._build()
        except CupelError as error:  # told in the page, which keeps what it had
            self._problem = str(error)
        self._looked_at = time.monotonic()

    def _build(self) -> None:
        view = self._watch.view()
        painter = FollowingPainter()
        parts = page_parts(view, painter, self._watch.endpoints(view))
        self._pieces = {name: _piece(html) for name, html in pieces_in_order(parts).items()}
        self._pictures, self._drawn = painter.pictures, {}
        self._title = parts.title
        self._running = any(run.status in ("running", "planned") for run in view.runs)

    def _draw(self, slug: str) -> Piece:
        if slug not in self._drawn:
            self._drawn[slug] = _piece(self._pictures[slug].data())
        return self._drawn[slug]


def _piece(content: str) -> Piece:
    digest = hashlib.blake2b(content.encode(), digest_size=6).hexdigest()
    return Piece(digest=digest, content=content)
