"""Encoder-based tiny recursive models on ARC-AGI: trained fast, and measured so as to be believed.

Importing this package imports no torch.
"""
