"""A loaded machine must not fail a property: examples have no time limit."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
