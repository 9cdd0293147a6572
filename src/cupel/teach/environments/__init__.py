"""Environments that can be stopped, hashed, restored and branched: one module each."""
