"""Phase 5: which moments to teach, chosen in four ways under one budget."""
