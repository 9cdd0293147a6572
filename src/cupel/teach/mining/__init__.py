"""Phase 0, second half: from episodes to the moments worth labelling."""
