"""Real `vllm serve` processes on this machine, and a small sequence classifier to serve."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PATIENCE = 240.0
GIGA = 1 << 30


class VllmServer:
    """One server, in a process group of its own; not yet ready when made."""

    def __init__(self, model: Path, logs: Path, *arguments: str, name: str = "served") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = logs / f"{self.port}.log"
        # As `vllm serve`, which the build for CPUs lacks: it looks for a package of the other name.
        command = [sys.executable, "-W", "ignore", "-m", "vllm.entrypoints.openai.api_server"]
        options = {
            "--model": model,
            "--host": "127.0.0.1",
            "--port": self.port,
            "--served-model-name": name,
            "--dtype": "float32",
            "--max-model-len": 512,
            "--max-num-seqs": 16,
            "--kv-cache-memory-bytes": GIGA // 2,
            "--api-server-count": 1,
        }
        flat = [str(part) for option in options.items() for part in option]
        environment = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *flat, "--enforce-eager", *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def wait(self) -> None:
        """Wait until it is ready."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        raise AssertionError(f"vllm serve is not ready: {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL to it and all its processes."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()


def save_scorer(folder: Path, smollm2: Path) -> tuple[Any, Any]:
    """Write a tiny sequence classifier with random weights; return it and its tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
    )
    model = LlamaForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer
