"""Cupel: a laboratory for training experiments."""

__version__ = "0.1.0"
