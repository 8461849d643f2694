"""vLLM on a Ray cluster: engines in Ray's actors, which Ray Data gives requests."""
