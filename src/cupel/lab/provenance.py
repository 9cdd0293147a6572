"""Where and with what something ran: code, packages, machine, command; secrets never.

Knows how to ask git, the interpreter and the operating system. Refuses to record environment
variables beyond a short list, or an argument that looks like a secret.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

GIT_DEADLINE_S = 5.0
RECORDED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "TOKENIZERS_PARALLELISM",
    "CUBLAS_WORKSPACE_CONFIG",
)
_SECRET_NAME = re.compile(r"(?i)(api[-_]?key|token|secret|password|passwd|credential|auth)\b")
_NOT_SECRET = re.compile(r"(?i)(max|min|num)[-_.]?tokens?\b")
_SECRET_VALUE = re.compile(r"\b(?:sk|hf|tml|ghp|gho|xoxb|pk)[-_][A-Za-z0-9_-]{8,}")
_URL_LOGIN = re.compile(r"(\w+://)[^/@\s]+@")
_HIDDEN = "[hidden]"


def capture(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what a reader needs to repeat a run, as plain JSON; machine facts are asked once.

    Args:
        argv: the command as typed; default `sys.argv`.
    """
    return {
        "argv": redact(sys.argv if argv is None else argv),
        "working_folder": os.getcwd(),
        "git": dict(_git(os.getcwd())),
        "environment": {key: os.environ[key] for key in RECORDED_VARIABLES if key in os.environ},
        **_machine(),
    }


def redact(argv: Sequence[str]) -> list[str]:
    """Return the arguments with everything that looks like a secret hidden.

    >>> redact(["train", "--api-key", "abc", "--max-tokens", "64", "--hub-token=xyz"])
    ['train', '--api-key', '[hidden]', '--max-tokens', '64', '--hub-token=[hidden]']
    """
    shown: list[str] = []
    hide_next = False
    for argument in argv:
        name, equals, _ = argument.partition("=")
        secret = bool(_SECRET_NAME.search(name)) and not _NOT_SECRET.search(name)
        if hide_next and not argument.startswith("-"):
            shown.append(_HIDDEN)
        elif equals and secret:
            shown.append(f"{name}={_HIDDEN}")
        else:
            shown.append(_URL_LOGIN.sub(rf"\1{_HIDDEN}@", _SECRET_VALUE.sub(_HIDDEN, argument)))
        hide_next = secret and not equals and argument.startswith("-")
    return shown


@cache
def _machine() -> Mapping[str, Any]:
    return {
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "torch": _torch_version(),
        "packages": _packages(),
    }


@cache
def _git(folder: str) -> Mapping[str, Any]:
    """Describe the repository around a folder; empty outside of one or without git."""
    commit = _ask_git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    status = _ask_git(folder, "status", "--porcelain")
    if not status:
        return {"commit": commit.strip(), "dirty": None if status is None else False}
    difference = _ask_git(folder, "diff", "HEAD") or ""
    return {
        "commit": commit.strip(),
        "dirty": True,
        "diff_sha256": hashlib.sha256(difference.encode()).hexdigest(),
        "changed_files": [line[3:] for line in status.splitlines()][:100],
    }


def _ask_git(folder: str, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", folder, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_DEADLINE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, None)


def _torch_version() -> str | None:
    loaded = sys.modules.get("torch")
    if loaded is not None:
        return str(loaded.__version__)
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def _packages() -> dict[str, str]:
    found = {dist.name: dist.version for dist in metadata.distributions() if dist.name}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))
