"""What the fake server holds and does, without the sockets: sessions, models, futures, checkpoints.

Knows every route's answer and how a fault of its kind changes one. Refuses to know HTTP, keys and
which request a fault is meant for.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.tinker import wire
from tests.tinker.bigram import LOSSES, Bigram, Reduction, Row
from tests.tinker.faults import Fault

WIDTH_LIMIT = 512
RANK_LIMIT = 128
HOSTED_INPUTS = {"target_tokens", "logprobs", "advantages"}
Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer."""

    status: int = 200
    json: Body | None = None
    binary: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """A request that the server answers with a status and a text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True, kw_only=True)
class Held:
    """A model on the server, the session it belongs to, and what its requests were answered."""

    session: str
    rank: int
    weights: Bigram
    answered: dict[int, str] = field(default_factory=dict)


class FakeService:
    """One service; its caller lets in one request at a time."""

    def __init__(self, *, reduction: Reduction, model: Path) -> None:
        self.reduction = reduction
        self.base_model = str(model.resolve())
        self._vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
        self._sessions: set[str] = set()
        self._models: dict[str, Held] = {}
        self._samplers: dict[str, tuple[str | None, Bigram]] = {}
        self._saved: dict[str, tuple[int, Bigram]] = {}
        self._futures: dict[str, Reply | None] = {}
        self._names = itertools.count()

    def forget(self) -> None:
        """Lose sessions, models and samplers, as a restart does; checkpoints stay."""
        self._sessions.clear()
        self._models.clear()
        self._samplers.clear()

    def fetch(self, name: str) -> Reply | None:
        """Return a future's result; None: it is not ready."""
        if name not in self._futures:
            raise Refused(404, "Future not found")
        return self._futures[name]

    def do(self, route: str, body: Body, fault: Fault | None) -> Body:
        """Answer a route.

        Raises:
            Refused: with the status and text of the answer.
        """
        match route.split("/"):
            case ["client", "config"]:
                return {"pjwt_auth_enabled": False, "use_pyqwest_transport": False}
            case ["client", "dynamic_config"]:
                raise Refused(404, "Not Found")
            case ["telemetry"]:
                return {"status": "accepted"}
            case ["get_server_capabilities"]:
                known = {"model_name": self.base_model, "max_context_length": WIDTH_LIMIT}
                return {"supported_models": [known]}
            case ["create_session"]:
                session = self._name("session")
                self._sessions.add(session)
                return {"type": "create_session", "session_id": session}
            case ["session_heartbeat"]:
                self._session(body)
                return {"type": "session_heartbeat"}
            case ["create_model"]:
                return self._create_model(body, fault)
            case ["get_info"]:
                held = self._model(body["model_id"])
                return {
                    "type": "get_info", "model_id": body["model_id"], "is_lora": True,
                    "lora_rank": held.rank, "model_data": {"model_name": self.base_model},
                }  # fmt: skip
            case ["create_sampling_session"]:
                return self._create_sampler(body)
            case ["samplers", name]:
                path, _ = self._sampler(name)
                return {"sampler_id": name, "base_model": self.base_model, "model_path": path}
            case ["weights_info"]:
                rank, _ = self._checkpoint(body["tinker_path"])
                return {"base_model": self.base_model, "is_lora": True, "lora_rank": rank}
            case ["asample"]:
                promise = self._promise(lambda: self._samples(body, fault), fault)
                fewer = fault is not None and fault.kind == "too_few"
                count = body.get("num_samples", 1) - fewer
                ids = [f"{promise['request_id']}-{index}" for index in range(count)]
                return {**promise, "sample_sequence_ids": ids}  # clients from 0.28 on ask for them
            case ["forward_backward" | "optim_step" | "save_weights" | "load_weights"
                  | "save_weights_for_sampler" | "unload_model"]:  # fmt: skip
                return self._train(route, body, fault)
            case _:
                raise Refused(404, f"no route {route}")

    def _promise(self, work: Callable[[], Body | bytes], fault: Fault | None) -> Body:
        """Do the work now and hand out the name under which its result lies."""
        name = self._name("request")
        match fault.kind if fault else None:
            case "never":
                self._futures[name] = None
            case "failed":
                assert fault is not None
                self._futures[name] = Reply(json={"error": fault.text, "category": "user"})
            case "future_status":
                assert fault is not None
                self._futures[name] = Reply(status=fault.status, json={"detail": fault.text})
            case _:
                done = work()
                self._futures[name] = (
                    Reply(binary=done) if isinstance(done, bytes) else Reply(json=done)
                )
        return {"request_id": name, "future_id": name, "status": "pending"}

    # -- models ------------------------------------------------------------------------------

    def _create_model(self, body: Body, fault: Fault | None) -> Body:
        session = self._session(body)
        if body["base_model"] != self.base_model:
            raise Refused(400, f"Unknown base model: {body['base_model']}")
        name = self._name("model")
        rank = body["lora_config"]["rank"]
        if rank > RANK_LIMIT:
            raise Refused(400, f"LoRA rank {rank} exceeds the maximum of {RANK_LIMIT}")
        weights = Bigram.start(self._vocabulary)
        self._models[name] = Held(session=session, rank=rank, weights=weights)
        return self._promise(lambda: {"type": "create_model", "model_id": name}, fault)

    def _train(self, route: str, body: Body, fault: Fault | None) -> Body:
        """Do a model's next request; a repeated one gets its first answer again."""
        forward: wire.Forward | None = body.get("forward")
        model_id = forward.model_id if forward else body["model_id"]
        number = forward.seq_id if forward else body.get("seq_id")
        held = self._model(model_id)
        if number is not None and number in held.answered:
            name = held.answered[number]
        else:
            name = self._promise(lambda: self._trained(route, held, model_id, body, fault), fault)[
                "request_id"
            ]
            if number is not None:
                held.answered[number] = name
        return {"request_id": name, "future_id": name, "status": "pending"}

    def _trained(
        self, route: str, held: Held, model_id: str, body: Body, fault: Fault | None
    ) -> Body | bytes:
        match route:
            case "forward_backward":
                return self._forward(held.weights, body["forward"], fault)
            case "optim_step":
                weights = copy.deepcopy(held.weights)
                clips = self.reduction == "sum"
                norm = weights.step(body["adam_params"], self.reduction, clips=clips)
                if fault is None or fault.kind != "no_effect":
                    held.weights = weights
                key = "grad_norm:mean" if clips else "skyrl.ai/grad_norm"
                return {"type": "optim_step", "metrics": {key: norm}}
            case "save_weights":
                path = f"tinker://{model_id}/weights/{body['path']}"
                if path in self._saved and not body.get("overwrite"):
                    raise Refused(409, f"checkpoint exists: {path}")
                self._saved[path] = (held.rank, copy.deepcopy(held.weights))
                return {"type": "save_weights", "path": path}
            case "load_weights":
                loaded = copy.deepcopy(self._checkpoint(body["path"])[1])
                if not body["optimizer"]:
                    loaded.steps, loaded.moments_2VV = 0, np.zeros_like(loaded.moments_2VV)
                held.weights = loaded
                return {"type": "load_weights"}
            case "save_weights_for_sampler":
                return self._save_for_sampler(held, model_id, body)
            case _:
                del self._models[model_id]
                return {"type": "unload_model", "model_id": model_id}

    def _save_for_sampler(self, held: Held, model_id: str, body: Body) -> Body:
        weights = copy.deepcopy(held.weights)
        made: Body = {"type": "save_weights_for_sampler"}
        if body.get("path"):
            path = f"tinker://{model_id}/sampler_weights/{body['path']}"
            self._saved[path] = (held.rank, weights)
            return {**made, "path": path}
        name = self._name("sampler")
        self._samplers[name] = (None, weights)
        return {**made, "sampling_session_id": name}

    def _create_sampler(self, body: Body) -> Body:
        self._session(body)
        path = body.get("model_path")
        if path is None and body.get("base_model") != self.base_model:
            raise Refused(400, f"Unknown base model: {body.get('base_model')}")
        weights = self._checkpoint(path)[1] if path else Bigram.start(self._vocabulary)
        name = self._name("sampler")
        self._samplers[name] = (path, copy.deepcopy(weights))
        return {"type": "create_sampling_session", "sampling_session_id": name}

    # -- work --------------------------------------------------------------------------------

    def _forward(self, weights: Bigram, asked: wire.Forward, fault: Fault | None) -> bytes:
        if asked.loss not in LOSSES:
            raise Refused(422, f"loss_fn must be one of {', '.join(LOSSES)}; got {asked.loss}")
        rows = [self._row(datum, asked.loss) for datum in asked.data]
        found = [weights.losses(row, asked.loss, asked.settings) for row in rows]
        if not asked.forward_only:
            for row, losses in zip(rows, found, strict=True):
                weights.gather(losses, row, self.reduction)
        arrays = [{"logprobs": each.logprobs_T, "elementwise_loss": each.loss_T} for each in found]
        metrics = {}
        if self.reduction == "sum":
            metrics["loss:sum"] = float(sum(each.loss_T.sum() for each in found))
        match fault.kind if fault else None:
            case "no_metrics":
                metrics = {}
            case "nan_loss":
                metrics["loss:sum"] = math.nan
            case "missing_logprobs":
                arrays = [{"elementwise_loss": row["elementwise_loss"]} for row in arrays]
            case "short_logprobs":
                arrays[0]["logprobs"] = arrays[0]["logprobs"][:-1]
            case "nan_logprobs":
                arrays[0]["logprobs"] = np.full_like(arrays[0]["logprobs"], np.nan)
            case "shifted_logprobs":
                arrays = [{**row, "logprobs": row["logprobs"] - 0.5} for row in arrays]
        return wire.write_forward(arrays, metrics)

    def _row(self, datum: wire.Datum, loss: str) -> Row:
        given = datum.inputs
        allowed = HOSTED_INPUTS if loss != "cross_entropy" else {"target_tokens", "weights"}
        unknown = set(given) - allowed
        if unknown and self.reduction == "sum":
            raise Refused(400, f"unknown loss_fn_inputs for {loss}: {sorted(unknown)}")
        if "target_tokens" not in given:
            raise Refused(400, "loss_fn_inputs: target_tokens is missing")
        targets_T = given["target_tokens"].astype(np.int64)
        ones_T = np.ones(len(targets_T))
        row = Row(
            inputs_T=datum.tokens_T,
            targets_T=targets_T,
            weights_T=given.get("weights", ones_T),
            advantages_T=given.get("advantages", 0 * ones_T),
            logprobs_T=given.get("logprobs", 0 * ones_T),
        )
        lengths = {len(row.inputs_T), *(len(values) for values in given.values())}
        if len(lengths) > 1:
            raise Refused(400, f"model_input and loss_fn_inputs differ in length: {lengths}")
        self._check_tokens([*row.inputs_T, *targets_T])
        return row

    def _samples(self, body: Body, fault: Fault | None) -> bytes:
        if body.get("sampling_session_id"):
            _, weights = self._sampler(body["sampling_session_id"])
        else:
            raise Refused(400, "sampling_session_id is missing")
        prompt = [token for chunk in body["prompt"]["chunks"] for token in chunk["tokens"]]
        self._check_tokens(prompt)
        asked = body["sampling_params"]
        if len(prompt) + asked["max_tokens"] > WIDTH_LIMIT:
            raise Refused(400, f"prompt and max_tokens exceed the context of {WIDTH_LIMIT}")
        stop = set(asked.get("stop") or ())
        seed = asked["seed"] if asked.get("seed") is not None else time.time_ns()
        sequences = []
        for index in range(body.get("num_samples", 1)):
            tokens, logprobs = weights.sample(
                prompt[-1], tokens=asked["max_tokens"], temperature=asked["temperature"],
                stop=stop, seed=seed + index,
            )  # fmt: skip
            sequences.append(
                wire.Sampled(tokens=tokens, logprobs=logprobs, stopped=tokens[-1] in stop)
            )
        logprobs = None
        if body.get("prompt_logprobs"):
            table_TV = weights.logprobs(np.array(prompt[:-1]))
            logprobs = [math.nan, *table_TV[np.arange(len(prompt) - 1), prompt[1:]]]
        return wire.write_samples(_spoil(sequences, fault), logprobs)

    # -- names -------------------------------------------------------------------------------

    def _name(self, kind: str) -> str:
        return f"{kind}_{next(self._names)}"

    def _session(self, body: Body) -> str:
        session: str = body["session_id"]
        if session not in self._sessions:
            raise Refused(404, "Session not found")
        return session

    def _model(self, name: str) -> Held:
        if name not in self._models:
            raise Refused(404, "Model not found")
        return self._models[name]

    def _sampler(self, name: str) -> tuple[str | None, Bigram]:
        if name not in self._samplers:
            raise Refused(404, "Sampler not found")
        return self._samplers[name]

    def _checkpoint(self, path: str) -> tuple[int, Bigram]:
        if path not in self._saved:
            raise Refused(404, f"Checkpoint not found: {path}")
        return self._saved[path]

    def _check_tokens(self, tokens: Iterable[int]) -> None:
        wrong = [token for token in tokens if not 0 <= token < self._vocabulary]
        if wrong:
            raise Refused(400, f"token {wrong[0]} is outside the vocabulary")


def _spoil(sequences: list[wire.Sampled], fault: Fault | None) -> list[wire.Sampled]:
    """Return the samples as a fault would have them."""
    first = sequences[0]
    logprobs = list(first.logprobs or ())
    match fault.kind if fault else None:
        case "duplicates":
            return [first] * len(sequences)
        case "too_few":
            return sequences[:-1]
        case "missing_logprobs":
            changed: list[float] | None = None
        case "short_logprobs":
            changed = logprobs[:-1]
        case "nan_logprobs":
            changed = [math.nan, *logprobs[1:]]
        case "zero_logprobs":
            changed = [0.0] * len(logprobs)
        case _:
            return sequences
    spoilt = wire.Sampled(tokens=first.tokens, logprobs=changed, stopped=first.stopped)
    return [spoilt, *sequences[1:]]
