"""completions.html: what the models wrote, in one file that needs nothing else."""

from __future__ import annotations

from cupel.report.viewer.page import DEFAULT_COMPLETIONS, PAGE, has_content, write_viewer

__all__ = ["DEFAULT_COMPLETIONS", "PAGE", "has_content", "write_viewer"]
