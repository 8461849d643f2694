"""vLLM on this host: worker processes that each hold one engine."""
