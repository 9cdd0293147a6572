"""What is asked for a hint at a moment: the environment's expert, or a model behind an API."""
