"""Building policies: what is asked for is built, or one line says why not; torch comes late."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cupel.config import validate
from cupel.errors import ConfigError, DataError, MissingExtraError
from cupel.policy import PolicyConfig, build_policy


@pytest.mark.parametrize(
    ("settings", "device", "error", "named"),
    [
        ({"backend": "torch"}, "cpu", ConfigError, "policy.model"),
        ({"backend": "torch", "model": "./nowhere"}, "cpu", DataError, "./nowhere"),
        ({"backend": "tiny", "model": "./nowhere"}, "cpu", DataError, "nowhere"),
        ({"backend": "toy"}, "cuda:0", ConfigError, "cuda:0"),
        ({"backend": "toy", "model": "x"}, "cpu", ConfigError, "model"),
    ],
)
def test_a_wrong_request_is_one_named_error(
    settings: dict[str, Any], device: str, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        build_policy(PolicyConfig(**settings), device=device, threads=1, seed=0)


def test_a_folder_that_is_no_model_is_a_data_error(tmp_path: Path) -> None:
    config = PolicyConfig(backend="torch", model=str(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path)):
        build_policy(config, device="cpu", threads=1, seed=0)


def test_no_thread_is_refused() -> None:
    with pytest.raises(ConfigError, match="threads = 0"):
        build_policy(PolicyConfig(backend="toy"), device="cpu", threads=0, seed=0)


def test_an_unknown_backend_is_named_with_what_is_allowed() -> None:
    with pytest.raises(
        ConfigError, match=r"policy.*backend.*'tiny', 'torch', 'toy', 'openai' or 'tinker'"
    ):
        validate(PolicyConfig, {"backend": "tinny"}, where="policy")


def test_sliding_window_models_are_refused(small: Any, tmp_path: Path) -> None:
    model = small.model()
    model.config.use_sliding_window, model.config.sliding_window = True, 16
    model.save_pretrained(tmp_path)
    small.tokenizer().save_pretrained(tmp_path)
    config = PolicyConfig(backend="torch", model=str(tmp_path))
    with pytest.raises(ConfigError, match="sliding window"):
        build_policy(config, device="cpu", threads=1, seed=0)


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_the_package_and_the_toy_policy_never_import_torch() -> None:
    code = (
        "import sys\n"
        "from cupel.policy import PolicyConfig, build_policy\n"
        "build_policy(PolicyConfig(backend='toy'), device='cpu', threads=1, seed=0)\n"
        "print(sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    assert run_python(code) == "[]"


def test_without_torch_the_extra_is_named() -> None:
    code = (
        "import sys, importlib.util\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n == 'torch' else real(n, *a)\n"
        "from cupel.policy import PolicyConfig, build_policy\n"
        "from cupel.errors import MissingExtraError\n"
        "try: build_policy(PolicyConfig(backend='tiny'), device='cpu', threads=1, seed=0)\n"
        "except MissingExtraError as error: print(error.extra, '|', error)"
    )
    assert run_python(code).startswith("torch | policy.backend 'tiny' needs the extra 'torch'")
    assert issubclass(MissingExtraError, Exception)
