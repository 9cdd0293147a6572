"""Phase 0, `teach.rollouts`: somebody acts on tasks, and every step of every episode is kept.

Knows tasks by seed, blocks of them, and what is counted. Refuses to keep anything that depends on
the machine: episodes are a function of seed, student and environment, block by block on disk.
"""

from __future__ import annotations

from cupel.teach.episodes import ExpertActor, run_episodes

__all__ = ["ExpertActor", "run_episodes"]
