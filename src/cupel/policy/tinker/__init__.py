"""The Tinker API: a remote service samples, scores and trains adapters."""
