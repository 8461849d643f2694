"""OpenAI-compatible servers, `vllm serve` among them: requests over HTTP."""
