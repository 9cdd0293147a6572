"""Options made from the fields of a config class: name, type, default and docstring.

`max_steps` becomes `--max-steps`, `policy.threads` becomes `--policy.threads`. Only what was
passed on the command line is handed on, so that a record can tell what was asked from what was
default. Knows pydantic fields. Refuses to know what a setting means: the config validates it.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from cupel.config import Config

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


PASSED = "cupel.passed"
"""Key of the context under which the settings given by flags are gathered."""


class FieldOption(click.Option):
    """An option that stands for one field of a config; `path` is where its value belongs."""

    path: tuple[str, ...] = ()

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Keep the value only when it stood on the command line."""
        value, rest = super().handle_parse_result(ctx, opts, args)
        if ctx.get_parameter_source(self.name or "") is ParameterSource.COMMANDLINE:
            table = ctx.meta.setdefault(PASSED, {})
            for key in self.path[:-1]:
                table = table.setdefault(key, {})
            table[self.path[-1]] = value
        return value, rest


class FieldType(click.ParamType[Any]):
    """Reads a flag's text as the field's type; the config itself checks ranges."""

    name = "value"

    def __init__(self, annotation: Any) -> None:
        kinds = list(_alternatives(annotation))
        self.optional = type(None) in kinds
        self.choices = [c for kind in kinds if get_origin(kind) is Literal for c in get_args(kind)]
        self.is_list = any(get_origin(kind) in (list, tuple) for kind in kinds)
        self.number = next((kind for kind in (int, float) if kind in kinds), None)
        self.text = str in kinds

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Show the choices, or the kind of value."""
        words = [str(choice) for choice in self.choices]
        if self.is_list:
            words.append("A,B,...")
        if self.number is not None:
            words.append("INTEGER" if self.number is int else "FLOAT")
        elif self.text or not words:
            words.append("TEXT")
        return "|".join(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text; say what is allowed when it does not fit."""
        if not isinstance(value, str):
            return value
        if value in self.choices:
            return value
        if self.optional and value == "none":
            return None
        if self.is_list:
            from cupel.config import parse_value

            return [parse_value(part.strip()) for part in value.split(",") if part.strip()]
        if self.number is not None:
            return self._read_number(value, param, ctx)
        if self.choices and not self.text:
            from cupel.cli.app import suggestion

            allowed = [str(choice) for choice in self.choices]
            self.fail(f"'{value}' is not allowed; {suggestion(value, allowed)}", param, ctx)
        return value

    def _read_number(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        assert self.number is not None
        kind = "a whole number" if self.number is int else "a number"
        try:
            number: int | float = self.number(value)
        except ValueError:
            self.fail(f"'{value}' is not {kind}", param, ctx)
        if not math.isfinite(number):
            self.fail(f"'{value}' is not finite", param, ctx)
        return number


def config_flags(
    config_type: type[Config],
    *,
    without: Sequence[str] = (),
    also: Mapping[str, Sequence[str]] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Callable[[CommandT], CommandT]:
    """Decorate a command with one option for every field of a config, nested tables included.

    Args:
        without: dotted fields that get no option.
        also: more option names of a field, by its dotted path, e.g. `{"evaluation.every":
            ["--eval-every"]}`.
        defaults: what the help says of a field's default, by its dotted path, where the default
            depends on something else.
    """
    look = _Look(without=frozenset(without), also=also or {}, defaults=defaults or {})
    options = list(_options(config_type, (), look))

    def decorate(command: CommandT) -> CommandT:
        for option in reversed(options):
            attach(command, option)
        return command

    return decorate


def passed(ctx: click.Context) -> dict[str, Any]:
    """Return the settings given by flags, as a nested table holding nothing else."""
    return dict(ctx.meta.get(PASSED, {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How fields become options."""

    without: frozenset[str]
    also: Mapping[str, Sequence[str]]
    defaults: Mapping[str, str]


def _options(
    config_type: type[BaseModel], path: tuple[str, ...], look: _Look
) -> Iterator[FieldOption]:
    from cupel.config import nested_config

    for name, field in config_type.model_fields.items():
        here = (*path, name)
        if ".".join(here) in look.without:
            continue
        nested = nested_config(field.annotation)
        if nested is not None:
            yield from _options(nested, here, look)
        elif not _is_free_form(field.annotation):
            yield _option(here, field, look)


def _option(path: tuple[str, ...], field: FieldInfo, look: _Look) -> FieldOption:
    dotted = ".".join(path)
    default = look.defaults.get(dotted) or _shown(field.get_default(call_default_factory=True))
    text = " ".join((field.description or "").split()).replace("`", "")
    names = ["--" + dotted.replace("_", "-"), *look.also.get(dotted, ())]
    is_switch = bool in _alternatives(field.annotation)
    if is_switch:
        names = [f"{name}/--no-{name.removeprefix('--')}" for name in names]
    option = FieldOption(
        [*names, "field_" + "__".join(path)],
        type=None if is_switch else FieldType(field.annotation),
        default=None,
        help=f"{text}  [default: {default}]",
        expose_value=False,
    )
    option.path = path
    return option


def _shown(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, list | tuple):
        return ",".join(str(item) for item in default) or "empty"
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default)


def attach(command: CommandT, option: click.Option) -> CommandT:
    """Give a command, or the function that will be one, an option; it stands before the others."""
    target: Any = command
    if isinstance(target, click.Command):
        target.params.insert(0, option)
        return command
    if not hasattr(target, "__click_params__"):
        target.__click_params__ = []
    target.__click_params__.append(option)
    return command


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, or the annotation alone."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    return [annotation]


def _is_free_form(annotation: Any) -> bool:
    return any(kind is dict or get_origin(kind) is dict for kind in _alternatives(annotation))
