"""Every error Cupel raises on purpose, in one tree.

    CupelError
    ├── UsageError                 the caller can mend it: exit code 2, one line, nothing lost
    │   ├── ConfigError            a key, a value or a file of settings
    │   ├── DataError              a run folder, a metrics file, a problem set
    │   ├── PlanError              a study that cannot be run, or cannot decide
    │   └── MissingExtraError      an optional dependency is not installed
    └── RunError                   a run stopped: exit code 3, the run keeps its row
        ├── AlgorithmicFailure     an outcome of the method: NaN, divergence, a health limit
        ├── GateFailure            a check refused the run: it could not be trusted, no outcome
        └── InfrastructureFailure  not the method's doing: a dead worker, a full disk; retried

A message says where, what was given, what is allowed, and what to do.
"""

from __future__ import annotations


class CupelError(Exception):
    """Base of all errors raised on purpose."""


class UsageError(CupelError):
    """Bad usage or bad input: mend it and call again."""


class ConfigError(UsageError):
    """A setting is unknown, of the wrong type, or out of range."""


class DataError(UsageError):
    """A file or folder is missing, truncated, or holds what it must not."""


class PlanError(UsageError):
    """A study cannot be planned, or cannot answer its question."""


class MissingExtraError(UsageError):
    """An optional dependency is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'cupel[{extra}]'")
        self.extra = extra


class RunError(CupelError):
    """A run stopped before its end."""


class AlgorithmicFailure(RunError):
    """The method itself failed; this is an outcome, never retried."""


class GateFailure(RunError):
    """A correctness gate refused to let the run go on; this is no outcome of the method."""


class InfrastructureFailure(RunError):
    """The machine failed, not the method; the same seed is run again."""
