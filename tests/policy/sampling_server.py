"""A sampling server over real sockets and a real small model, in vLLM's words and in SGLang's.

It loads adapters from the folders it is told, so that what it samples from is what lies there. Its
faults are switched on by name.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from cupel.policy.causal_lm import CausalLM
from cupel.policy.lora import continue_adapters, read_adapter_folder
from cupel.policy.sampling import sample_completions
from tests.loopback_server import LoopbackServer, send

EOS, PAD = 1, 0


class SamplingServer(LoopbackServer):
    """Serves one model and the adapters loaded onto it."""

    def __init__(self, model: Path, *, name: str = "base", told: str = "processed") -> None:
        self.name, self.told = name, told
        self.faults: set[str] = set()
        """stale, no_ids, old_ids, nan, odd, text, short, cut, no_stop, refuse, no_lora,
        no_logprobs."""
        self.turned_away: list[int] = []
        """Statuses that the next completions get instead of an answer."""
        self.slow_s = 0.0
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str] = set()
        self.loaded: dict[str, str] = {}
        """Adapter's name -> the one that really answers under it."""
        self.most_under_way = self._under_way = 0
        self._model_folder = model
        self._peft: Any = None
        self._lm: Any = None
        self._lock = threading.Lock()
        super().__init__()

    def sampled(self) -> list[dict[str, Any]]:
        """The requests for completions, probes aside."""
        asked = [body for path, body in self.requests if path in ("/v1/completions", "/generate")]
        return [b for b in asked if "prompt_logprobs" not in b and "logprob_start_len" not in b]

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with self._lock:
            self.requests.append((handler.path, body))
            self.keys.add(handler.headers.get("Authorization", ""))
            self._under_way += 1
            self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            status, told = self._route(handler.path, body)
        finally:
            with self._lock:
                self._under_way -= 1
        data = (told if isinstance(told, str) else json.dumps(told)).encode()
        send(handler, status, data)

    def _route(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if "refuse" in self.faults:
            return 401, {"error": {"message": "who are you?"}}
        match path:
            case "/v1/models":
                return 200, {"data": [{"id": self.name}, *({"id": one} for one in self.loaded)]}
            case "/v1/load_lora_adapter" | "/load_lora_adapter":
                if "no_lora" in self.faults:
                    return 404, {"error": {"message": "Not Found"}}
                self._load(body["lora_name"], body["lora_path"])
                return 200, "Success: added" if path.startswith("/v1") else {"success": True}
            case "/v1/unload_lora_adapter" | "/unload_lora_adapter":
                del self.loaded[body["lora_name"]]
                return 200, "Success: removed"
            case "/v1/completions" if "prompt_logprobs" in body:
                found = self._score(body["model"], body["prompt"])
                return 200, {"choices": [{"prompt_logprobs": found, "text": ""}]}
            case "/generate" if "logprob_start_len" in body:
                found = self._score(body["lora_path"], body["input_ids"])
                pairs = [
                    [None if at is None else at[str(token)]["logprob"], token, None]
                    for at, token in zip(found, body["input_ids"], strict=True)
                ]
                return 200, {"meta_info": {"input_token_logprobs": pairs}}
            case _:
                return self._sample(path, body)

    def _load(self, name: str, folder: str) -> None:
        with self._lock:
            if self._peft is None:
                model = AutoModelForCausalLM.from_pretrained(str(self._model_folder))
                self._peft = continue_adapters(model, read_adapter_folder(Path(folder)))
                self._lm = CausalLM(model, attention="eager", precision="highest")
                self.loaded[name] = "default"
            elif "stale" in self.faults:
                self.loaded[name] = list(self._peft.peft_config)[-1]
            else:
                self._peft.load_adapter(folder, adapter_name=name)
                self.loaded[name] = name

    def _score(self, adapter: str, ids: list[int]) -> list[Any]:
        with self._lock, torch.inference_mode():
            self._peft.set_adapter(self.loaded[adapter])
            logs = torch.log_softmax(self._lm.model(torch.tensor([ids])).logits[0].float(), -1)
        return [
            None,
            *({str(t): {"logprob": float(logs[i, t])}} for i, t in enumerate(ids[1:])),
        ]

    def _sample(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(self.slow_s)
        with self._lock:
            status = self.turned_away.pop(0) if self.turned_away else 200
        if status != 200:
            return status, {"error": {"message": "not now"}}
        native = path == "/generate"
        settings = body["sampling_params"] if native else body
        ids, logprobs, reason = self._complete(
            body["lora_path" if native else "model"],
            body["input_ids" if native else "prompt"],
            max_tokens=settings["max_new_tokens" if native else "max_tokens"],
            temperature=settings["temperature"],
            top_p=settings["top_p"],
            seed=settings["sampling_seed" if native else "seed"],
            stop_ids=settings["stop_token_ids"],
        )
        if native:
            pairs = [[log, token, None] for log, token in zip(logprobs, ids, strict=True)]
            told = {"output_token_logprobs": pairs, "finish_reason": {"type": reason}}
            return 200, {"text": "", "output_ids": ids, "meta_info": told}
        return 200, {"choices": [self._choice(ids, logprobs, reason)]}

    def _choice(self, ids: list[int], logprobs: list[float], reason: str) -> dict[str, Any]:
        choice: dict[str, Any] = {"text": "words", "finish_reason": reason}
        if "text" in self.faults:
            return choice
        words = [f"token_id:{t}" if "old_ids" in self.faults else "w" for t in ids]
        choice["logprobs"] = {"token_logprobs": logprobs, "tokens": words}
        if "no_logprobs" in self.faults:
            choice["logprobs"] = None
        if not self.faults & {"no_ids", "old_ids"}:
            choice["token_ids"] = ids
        return choice

    def _complete(
        self,
        adapter: str,
        prompt: list[int],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
        stop_ids: list[int],
    ) -> tuple[list[int], list[float], str]:
        with self._lock:
            self._peft.set_adapter(self.loaded[adapter])
            drawn = sample_completions(
                self._lm,
                [prompt],
                group_size=1,
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                uniforms_NT=np.random.default_rng(seed).random((1, max_tokens)),
                stop_ids=stop_ids,
                pad_id=PAD,
                max_rows=1,
            )
        length = int(drawn.lengths_N[0])
        logs_NT = drawn.sampler_logprobs_NT
        if self.told == "raw" or temperature == 0:
            logs_NT = drawn.policy_logprobs_NT
        ids = drawn.tokens_NT[0, :length].tolist()
        logprobs = logs_NT[0, :length].tolist()
        reason = "stop" if drawn.finished_N[0] else "length"
        if "odd" in self.faults:
            logprobs = [value - 3 for value in logprobs]
        if "nan" in self.faults:
            logprobs[-1] = float("nan")
        if "short" in self.faults:
            logprobs = logprobs[:-1]
        if "cut" in self.faults:
            ids, logprobs, reason = [5, 6], [-1.0, -1.0], "length"
        if "no_stop" in self.faults:
            ids, logprobs, reason = [EOS, 6], [-1.0, -1.0], "stop"
        return ids, logprobs, reason
