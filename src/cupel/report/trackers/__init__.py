"""Trackers follow a run's metrics.jsonl from outside; none is ever part of a training."""

from __future__ import annotations

from cupel.report.trackers.protocol import TRACKERS, TrackerName
from cupel.report.trackers.session import FollowOptions, RunFollowed, follow

__all__ = ["FollowOptions", "RunFollowed", "TRACKERS", "TrackerName", "follow"]
