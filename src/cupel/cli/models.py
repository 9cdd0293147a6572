"""`cupel models`: builds and lists the models that ship with Cupel."""

from __future__ import annotations

import click

from cupel.cli import console
from cupel.cli.source import json_option


@click.group()
def command() -> None:
    """Build and list the models that ship with Cupel.

    \b
    Examples:
      cupel models list
      cupel models build tiny
    """
