"""A real Tinker-API server on this machine's CPU: SkyRL's, with what it lacks outside `uv run`.

Runs in the server's own environment (`scripts/install_tinker_server.sh`), never in Cupel's: it
imports neither Cupel nor pytest. Knows how to start the HTTP process and the engine process behind
it, and three differences that SkyRL 0.4 has to Python 3.11 and to newer clients. Refuses to change
anything that a client can measure: losses, reduction and sampling are the server's own.

    .venv-tinker/bin/python tests/tinker/server_main.py --port 8123 --folder /tmp/tinker-8123
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "src/cupel/policy/assets/tiny-arithmetic"
BACKEND = {
    # One shape per program: a new batch size would be compiled anew, 10 to 20 seconds each.
    "max_lora_adapters": 24,
    "max_lora_rank": 8,
    "sample_max_num_sequences": 64,
    "train_micro_batch_size": 64,
}
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(Path(sys.prefix) / "jax-cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def allow_old_typed_dicts() -> None:
    """Give pydantic the TypedDict it asks for below Python 3.12; call before SkyRL is imported."""
    if sys.version_info < (3, 12):
        import typing

        import typing_extensions

        typing.TypedDict = typing_extensions.TypedDict  # type: ignore[misc]


def engine_command(_parent: list[str], config: Any) -> list[str]:
    """Return the engine's command: this file under this interpreter, in place of `uv run`."""
    from skyrl.tinker.config import config_to_argv

    return [sys.executable, str(Path(__file__).resolve()), "engine", *config_to_argv(config)]


async def name_sequences(request: Any, call_next: Any) -> Any:
    """Add `sample_sequence_ids` to a promise of samples: clients from 0.28 on insist on them."""
    from starlette.responses import Response

    if request.url.path != "/api/v1/asample":
        return await call_next(request)
    count = int(json.loads(await request.body()).get("num_samples", 1))
    response = await call_next(request)
    body = b"".join([part async for part in response.body_iterator])
    if response.status_code == 200:
        promise = json.loads(body)
        names = [f"{promise['request_id']}-{index}" for index in range(count)]
        body = json.dumps({**promise, "sample_sequence_ids": names}).encode()
    return Response(body, status_code=response.status_code, media_type="application/json")


def run_engine(arguments: list[str]) -> None:
    """Run the process that holds the model."""
    from skyrl.tinker import engine

    sys.argv = ["skyrl.tinker.engine", *arguments]
    engine.main()


def run_api(arguments: list[str]) -> None:
    """Run the HTTP process; it starts the engine and ends with it."""
    options = _parser().parse_args(arguments)
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)

    import uvicorn
    from skyrl.tinker import api
    from skyrl.tinker.config import EngineConfig

    # `_get_parent_uv_run_args` is what refuses a parent other than `uv run`; this replaces its
    # only caller.
    assert hasattr(api, "_build_uv_run_cmd_engine")
    api._build_uv_run_cmd_engine = engine_command
    api.app.middleware("http")(name_sequences)
    api.app.state.engine_config = EngineConfig(
        base_model=str(options.model.resolve()),
        backend="jax",
        backend_config={**BACKEND, **json.loads(options.backend)},
        checkpoints_base=str(folder / "checkpoints"),
        database_url=f"sqlite:///{folder / 'tinker.db'}",
        session_timeout_sec=options.session_timeout,
        session_cleanup_interval_sec=min(60, options.session_timeout),
    )
    uvicorn.run(api.app, host="127.0.0.1", port=options.port, timeout_keep_alive=75)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--folder", type=Path, required=True, help="database and checkpoints; reused on a restart"
    )
    parser.add_argument(
        "--model", type=Path, default=MODEL, help="a model folder of the transformers library"
    )
    parser.add_argument("--backend", default="{}", help="JSON: settings of SkyRL's JAX backend")
    parser.add_argument(
        "--session-timeout",
        type=int,
        default=300,
        help="seconds without a heartbeat after which a client's models are dropped",
    )
    return parser


if __name__ == "__main__":
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    allow_old_typed_dicts()
    if sys.argv[1:2] == ["engine"]:
        run_engine(sys.argv[2:])
    else:
        run_api(sys.argv[1:])
