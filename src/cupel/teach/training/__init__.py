"""Phase 2: the training matrix, its formats of supervision, and the training itself."""
