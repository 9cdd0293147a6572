"""Phase 3: every trained model on the same tasks and the same failure states."""
