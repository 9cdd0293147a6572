"""Many futures of one state: sampled in one batch, or bounded exactly."""
