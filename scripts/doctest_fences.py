"""Shows the examples of docstrings as code on the site.

Knows that lines after `>>>`, up to the next empty one, are an example; Markdown would take them for
quotations. Changes what the site's builder (griffe) read from the sources, never the sources.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^>>> .*?(?=^\s*$|\Z)", re.MULTILINE | re.DOTALL)


class DoctestFences(Extension):
    """Put a fence around every example of a docstring."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Fence the examples of one object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(
                lambda found: f"```pycon\n{found.group().rstrip()}\n```\n", obj.docstring.value
            )
