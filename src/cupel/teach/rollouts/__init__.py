"""Phase 0, first half: somebody acts, and every step of every episode is kept."""
