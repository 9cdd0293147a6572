"""A local server that speaks the chat completions protocol, as its script says."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback_server import LoopbackServer, send


@dataclass
class Said:
    """One answer of the server: a reply's text, or an error."""

    content: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    refusal: str | None = None
    finish_reason: str = "stop"
    delay_s: float = 0.0
    error: dict[str, Any] = field(default_factory=lambda: {"message": "no"})
    body: bytes | None = None


def tokens(text: str) -> int:
    """Count tokens as a word tokenizer would."""
    return len(re.findall(r"\w{1,6}|[^\w\s]", text))


def actions_of(request: dict[str, Any]) -> list[str]:
    """The actions that a request's schema allows."""
    schema = request["response_format"]["json_schema"]["schema"]
    found: list[str] = schema["properties"]["suggested_action"]["enum"]
    return found


def hint_text(action: str, **changes: Any) -> str:
    """A usable reply, changed as told; None removes a field."""
    fields: dict[str, Any] = {
        "diagnosis": "It did not look at where it stands.",
        "rationale": "That brings it closer to the end of the way.",
        "suggested_action": action,
        "error_type": "planning_error",
        "confidence": "high",
    }
    fields.update(changes)
    return json.dumps({name: value for name, value in fields.items() if value is not None})


class TeacherServer(LoopbackServer):
    """Answers POST /v1/chat/completions by `script(request, number of the request)`."""

    def __init__(self, script: Callable[[dict[str, Any], int], Said]) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.under_way = 0
        self.most_under_way = 0
        self._lock = threading.Lock()
        super().__init__()

    def answer(self, handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self.keys.append(handler.headers.get("Authorization", ""))
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        said = self.script(request, number)
        time.sleep(said.delay_s)
        with self._lock:
            self.under_way -= 1
        data = said.body if said.body is not None else self._body(request, said)
        send(handler, said.status, data, said.headers)

    def _body(self, request: dict[str, Any], said: Said) -> bytes:
        if said.status != 200:
            return json.dumps({"error": said.error}).encode()
        prompt = "".join(message["content"] for message in request["messages"])
        tokens_in = tokens(prompt) + tokens(json.dumps(request["response_format"]))
        tokens_out = tokens(said.content or said.refusal or "")
        message = {"role": "assistant", "content": said.content, "refusal": said.refusal}
        choice = {"index": 0, "message": message, "finish_reason": said.finish_reason}
        usage = {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }
        return json.dumps(
            {
                "id": "c1",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [choice],
                "usage": usage,
            }
        ).encode()
