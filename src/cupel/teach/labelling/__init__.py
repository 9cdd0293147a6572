"""Phase 1: uncertainty, leverage, patch gains, depth and quadrant of every moment."""
