"""vLLM as an engine that is kept full: a sliding window of requests, no barrier between batches.

Runs in the worker process only: nothing else imports this module, which loads torch and vllm.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psutil
import vllm
from vllm import LLM, PoolingParams, SamplingParams
from vllm.inputs import tokens_input
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from alignment_assets.inference.chat_encoder import ChatEncoder
from alignment_assets.inference.types import (
    Answer,
    AnsweredBy,
    Request,
    after_thinking,
    endless_thinking,
)
from alignment_assets.inference.vllm_settings import WINDOW_PER_SEQUENCE

CPU_CACHE_BYTES = 2 << 30


@dataclass(frozen=True)
class EngineSettings:
    """How vLLM is started.

    Attributes:
        location: a local folder or a hub repository.
        commit: the repository's commit; None for a folder.
        content: the commit, or a hash over the folder's files: other weights are another engine.
        runner: generate, or pooling for a sequence classifier.
        limits: the settings that decide what the engine refuses, as canonical JSON.
    """

    location: str
    commit: str | None
    content: str
    runner: str
    tensor_parallel_size: int
    max_model_len: int
    max_num_seqs: int
    dtype: str
    chat_template: str | None
    chat_template_arguments: dict[str, Any]
    template_date: str
    engine_arguments: dict[str, Any]
    limits: str


class Refused(ValueError):
    """A request that this engine cannot take; ``finish_reason`` says of which kind."""

    def __init__(self, finish_reason: str, message: str) -> None:
        super().__init__(message)
        self.finish_reason = finish_reason


class VllmEngine:
    """One vLLM engine."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        if current_platform.is_cpu():
            # This process is the engine's alone. Two more of vLLM's would load all libraries again,
            # and leave one core to talking.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        self._llm = LLM(**llm_arguments(settings))
        self._engine = self._llm.llm_engine
        self._chat = ChatEncoder(
            self._llm.get_tokenizer(),
            settings.chat_template,
            settings.chat_template_arguments,
            settings.template_date,
        )
        self.answered_by = AnsweredBy("vllm", vllm.__version__, settings.limits)

    def run(
        self,
        requests: Iterator[Request | None],
        emit: Callable[[Answer], None],
        tick: Callable[[int], None],
    ) -> None:
        """Answer all requests.

        Args:
            requests: read as the engine has room for them; None is "none for now".
            emit: takes each answer as it is complete.
            tick: called after every step with the number of requests in flight.
        """
        window = WINDOW_PER_SEQUENCE * self._settings.max_num_seqs
        flight: dict[str, tuple[Request, int, float]] = {}
        number = 0
        exhausted = False
        while not exhausted or flight:
            while len(flight) < window and not exhausted:
                try:
                    request = next(requests)
                except StopIteration:
                    exhausted = True
                    break
                if request is None:
                    break
                try:
                    begins = self._submit(str(number), request)
                except (Refused, ValueError) as error:
                    emit(_refusal(request, error))
                    continue
                flight[str(number)] = (request, begins, time.monotonic())
                number += 1
            if flight:
                for output in self._engine.step():
                    if output.finished:
                        request, begins, started = flight.pop(output.request_id)
                        emit(self._answer(request, begins, output, time.monotonic() - started))
            tick(len(flight))

    def _submit(self, number: str, request: Request) -> int:
        """Give a request to the engine; return the place of the token that answers begin with."""
        classify = request.kind == "classify"
        try:
            if request.kind == "loglikelihood":
                tokens, begins = self._chat.training_row(request.messages)
            else:
                tokens = self._chat.encode(request.messages, for_answer=not classify)
                begins = len(tokens)
        except Exception as error:  # a tokenizer may fail of some text in any way: no other suffers
            said = (
                str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            )
            raise Refused("rejected", said) from error
        weighed = request.sampling.get("thinking_tokens", 1)
        generated = request.sampling.get("max_tokens", 0)
        # vLLM generates one token at least, also where the prompt's are asked about.
        room = {"classify": 0, "weigh": weighed, "generate": generated, "loglikelihood": 1}[
            request.kind
        ]
        if len(tokens) + room > self._settings.max_model_len:
            raise Refused(
                "context_length",
                f"{len(tokens)} prompt tokens and {room} to answer exceed "
                f"{self._settings.max_model_len}",
            )
        parameters = (
            PoolingParams(task="classify", use_activation=False)
            if classify
            else self._sampling(request)
        )
        self._engine.add_request(number, tokens_input(tokens), parameters)
        return begins

    def _sampling(self, request: Request) -> SamplingParams:
        if request.kind == "weigh":
            tokens = [self._chat.label_token(label) for label in request.labels or ()]
            return SamplingParams(
                temperature=0.0,
                max_tokens=request.sampling.get("thinking_tokens", 1),
                logprobs=len(tokens),
                logprob_token_ids=tokens,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        if request.kind == "loglikelihood":
            return SamplingParams(
                temperature=0.0,
                max_tokens=1,
                prompt_logprobs=0,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        structure = None
        if request.answer_schema is not None:
            structure = StructuredOutputsParams(json=json.loads(request.answer_schema))
        return SamplingParams(
            **request.sampling,
            structured_outputs=structure,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _answer(self, request: Request, begins: int, output: Any, seconds: float) -> Answer:
        answer = Answer(
            request.request_id,
            request.task,
            "stop",
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            seconds=seconds,
        )
        if request.kind == "classify":
            values = output.outputs.data.flatten().tolist()
            if len(values) != 1:
                message = f"a reward model has one logit, this one has {len(values)}"
                return _refusal(request, Refused("rejected", message))
            return replace(answer, value=values[0])
        completion = output.outputs[0]
        if completion.finish_reason not in ("stop", "length"):
            message = f"the engine ended it with {completion.finish_reason}"
            return _refusal(request, Refused("rejected", message))
        if request.kind == "loglikelihood":
            tokens = output.prompt_token_ids
            # Nothing is before the first token, so it has no probability, for trainers neither.
            places = range(max(begins, 1), len(tokens))
            summands = (output.prompt_logprobs[place][tokens[place]].logprob for place in places)
            return replace(
                answer,
                value=math.fsum(summands),
                prompt_tokens=begins,
                completion_tokens=len(tokens) - begins,
            )
        answer = replace(answer, completion_tokens=len(completion.token_ids))
        if request.kind == "weigh":
            place: int | None = 0
            if "thinking_tokens" in request.sampling:
                place = after_thinking(self._chat.texts(completion.token_ids))
            if place is None:
                return _refusal(request, Refused("rejected", endless_thinking(request)))
            found = completion.logprobs[place]
            logprobs = {
                label: found[self._chat.label_token(label)].logprob
                for label in request.labels or ()
            }
            return replace(answer, label_logprobs=logprobs)
        return replace(answer, finish_reason=completion.finish_reason, text=completion.text)


def llm_arguments(settings: EngineSettings) -> dict[str, Any]:
    """Return the arguments of `vllm.LLM`."""
    arguments: dict[str, Any] = {
        "model": settings.location,
        "revision": settings.commit,
        "tokenizer_revision": settings.commit,
        "runner": settings.runner,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "dtype": settings.dtype,
        "trust_remote_code": False,
        "load_format": "safetensors",
        "generation_config": "vllm",
    }
    if settings.runner == "generate":
        structured = {"backend": "xgrammar", "disable_any_whitespace": True}
        arguments["structured_outputs_config"] = structured
    return {**arguments, **_cpu_defaults(), **settings.engine_arguments}


def _cpu_defaults() -> dict[str, Any]:
    """Return what vLLM must be told on a CPU: there it takes nearly all memory of a node if let."""
    if not current_platform.is_cpu():
        return {}
    available = psutil.virtual_memory().available
    # Compiling takes a minute at every start and makes small models no faster there.
    cache = min(CPU_CACHE_BYTES, available // 4)
    return {"enforce_eager": True, "kv_cache_memory_bytes": cache}


def _refusal(request: Request, error: ValueError) -> Answer:
    reason = error.finish_reason if isinstance(error, Refused) else "rejected"
    return Answer(
        request.request_id,
        request.task,
        "context_length" if reason == "context_length" else "rejected",
        error=str(error)[:1000],
    )
