"""Teachable moments: from an agent's failures to a defended selection of what to teach.

A teachable moment is a failure state where the agent is uncertain and a small amount of correct
supervision reliably changes the outcome. Importing this package imports no torch.
"""
