"""Strict, typed configuration: what a setting is, where it came from, and its one canonical form.

Knows TOML, overrides and pydantic models. Refuses to know what any setting means. A config is
data: loading the JSON of a config gives back an equal config, so a child process receives
exactly what its parent had.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from cupel.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound="Config")


class Config(BaseModel):
    """Base of every config: frozen, strict, no unknown keys; the field docstring is its help."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name closest to `name`, or None when nothing is close."""
    matches = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


def did_you_mean(name: str, allowed: Sequence[str]) -> str:
    """Say which allowed name was probably meant, or list what is allowed."""
    match = nearest(name, allowed)
    if match is not None:
        return f"did you mean '{match}'?"
    return f"allowed: {', '.join(allowed)}"


def canonical_json(value: Any) -> str:
    """Serialise to the one canonical JSON form: sorted keys, no spaces, no NaN.

    Raises:
        ConfigError: a value is not JSON or not finite.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"canonical_json: {error}; only finite JSON values are allowed") from None


def fingerprint(value: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def to_dict(config: Config) -> dict[str, Any]:
    """Return the config as plain JSON data with every field, defaults included."""
    return config.model_dump(mode="json")


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML (names the line).
    """
    try:
        with path.open("rb") as handle:
            return tomllib.load(handle)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def parse_value(text: str) -> Any:
    """Parse an override's right-hand side as a TOML value; anything else is a string."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"override value {text} is not finite")
    return value


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a deep copy of `data` with each `key.path=value` set.

    Raises:
        ConfigError: an override has no `=`, or its path runs through a value that is no table.
    """
    result: dict[str, Any] = _deep_copy(data)
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path.strip():
            raise ConfigError(f"--set {override!r}: expected key.path=value")
        keys = [key.strip() for key in path.split(".")]
        table = result
        for key in keys[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {override!r}: '{key}' is a value, not a table")
        table[keys[-1]] = parse_value(text.strip())
    return result


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top, table by table; neither input is changed."""
    result: dict[str, Any] = _deep_copy(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = _deep_copy(value)
    return result


def validate(config_type: type[ConfigT], data: Mapping[str, Any], *, where: str) -> ConfigT:
    """Build a config from plain data, or raise one line that says what is wrong.

    Args:
        where: the file or flag the data came from; opens the message.

    Raises:
        ConfigError: names the key, what was given, what is allowed, and the nearest match.
    """
    try:
        return config_type.model_validate_json(canonical_json(data))
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, config_type)}") from None


def _explain(error: ValidationError, config_type: type[BaseModel]) -> str:
    parts = []
    for item in error.errors(include_url=False):
        location = [key for key in item["loc"] if not str(key).startswith("function-")]
        key = ".".join(str(part) for part in location)
        if item["type"] == "extra_forbidden":
            allowed = _allowed_at(config_type, location[:-1])
            parts.append(f"unknown key '{key}'; {did_you_mean(str(location[-1]), allowed)}")
        elif item["type"] == "missing":
            parts.append(f"missing key '{key}'")
        else:
            message = item["msg"].removeprefix("Value error, ")
            given = json.dumps(item["input"], default=str)
            shown = given if len(given) <= 80 else given[:77] + "..."
            parts.append(f"{key} = {shown}: {message}" if key else message)
    return "; ".join(parts)


def _allowed_at(config_type: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Return the field names allowed at a path inside a config type."""
    current: type[BaseModel] | None = config_type
    for key in path:
        if isinstance(key, int) or current is None:
            continue
        field = current.model_fields.get(str(key))
        current = nested_config(field.annotation, listed=True) if field is not None else None
    return sorted(current.model_fields) if current is not None else []


def nested_config(annotation: Any, *, listed: bool = False) -> type[BaseModel] | None:
    """Return the config class that a field holds, alone or in a union; None for other values.

    Args:
        listed: find it in lists and tables of configs, too.
    """
    if get_origin(annotation) in (Union, UnionType) or listed:
        found = (nested_config(part, listed=listed) for part in get_args(annotation))
        inner = next((config for config in found if config is not None), None)
        if inner is not None:
            return inner
    is_config = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_config else None


def setting_fields(
    config_type: type[BaseModel], prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting of a config with its dotted path, nested tables included."""
    for name, field in config_type.model_fields.items():
        nested = nested_config(field.annotation)
        if nested is None:
            yield prefix + name, field
        else:
            yield from setting_fields(nested, f"{prefix}{name}.")


def _deep_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _deep_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_deep_copy(item) for item in value]
    return value
