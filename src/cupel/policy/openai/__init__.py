"""An OpenAI-compatible server samples, a local model with adapters is trained."""
