"""Requests and answers in the words of OpenAI's chat API, and of vLLM's additions to it.

Pure functions from a request to a path and a JSON body, and from a response to an answer. Sending,
retrying and choosing a server are not done here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from alignment_assets.inference.backends.openai.json_text import read_json
from alignment_assets.inference.types import (
    ERROR_CHARACTERS,
    THOUGHT_ENDS,
    Answer,
    Request,
    accepted,
    after_thinking,
    endless_thinking,
)

# Log-probabilities of the likeliest tokens that a server gives, at most, by OpenAI's API.
TOP_LOGPROBS = 20
# How deep lists and objects of a response may lie in each other.
NESTING = 100
# Parameters that OpenAI's API does not have, with the values that do nothing.
EXTENSIONS = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}

_CONTEXT_LENGTH = re.compile(
    r"context.?(length|window|size)|max_model_len|max(imum)?\b.{0,60}\btokens|too many tokens"
    r"|max_(completion_)?tokens.{0,60}too large|prompt is too long|reduce the length",
    re.IGNORECASE | re.DOTALL,
)
# How tokenizers write a space before a word, besides the space itself.
_SPACES = " \t\r\n\u2581\u0120"


class UnusableResponse(ValueError):
    """A response that is not what was asked for; the same request may get a better one."""


@dataclass(frozen=True)
class ServedModel:
    """What every request for a model carries.

    Attributes:
        name: what the servers call the model.
        vllm: the servers are vLLM's, and understand its additions.
        template: a chat template that stands in for the server's.
        template_arguments: what the chat template is given besides the messages.
        template_date: the day that templates which write a date are told.
    """

    name: str
    vllm: bool = False
    template: str | None = None
    template_arguments: dict[str, Any] = field(default_factory=dict)
    template_date: str = "2025-01-01"

    def template_fields(self) -> dict[str, Any]:
        """Return the fields about the chat template; none, for other servers, without need."""
        fields: dict[str, Any] = {}
        if self.vllm or self.template_arguments:
            day = date.fromisoformat(self.template_date).strftime("%d %b %Y")
            fields["chat_template_kwargs"] = {"date_string": day, **self.template_arguments}
        if self.template is not None:
            fields["chat_template"] = self.template
        return fields


def chat_body(
    request: Request, model: ServedModel, label_tokens: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return what is posted to ``/chat/completions``.

    Args:
        request: any but classify.
        model: who answers.
        label_tokens: the token that each label is, where the server (vLLM) says so; it then
            returns their log-probabilities, likely or not.
    """
    body = {"model": model.name, "messages": request.messages, **model.template_fields(), "n": 1}
    if request.kind == "weigh":
        tokens = request.sampling.get("thinking_tokens", 1)
        body |= {"temperature": 0.0, "top_p": 1.0, "max_tokens": tokens, "logprobs": True}
        if model.vllm:
            body |= EXTENSIONS
        if label_tokens is None:
            return {**body, "top_logprobs": TOP_LOGPROBS}
        ids = list(label_tokens.values())
        return {**body, "logprob_token_ids": ids, "return_tokens_as_token_ids": True}
    for name, value in request.sampling.items():
        # A server that knows OpenAI's fields alone refuses others, so they go where they matter.
        # To vLLM all go: what is left out comes there from the model's own defaults.
        if model.vllm or name not in EXTENSIONS or value != EXTENSIONS[name]:
            body[name] = value
    if request.answer_schema is not None:
        schema = {"name": "answer", "schema": json.loads(request.answer_schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def classify_body(request: Request, model: ServedModel) -> dict[str, Any]:
    """Return what is posted to vLLM's ``/classify``: the whole conversation, for a raw logit."""
    return {
        "model": model.name,
        "messages": request.messages,
        **model.template_fields(),
        "add_generation_prompt": False,
        "use_activation": False,
    }


def read_answer(
    request: Request,
    content: bytes,
    seconds: float,
    label_tokens: Mapping[str, int] | None = None,
) -> Answer:
    """Return the answer that a response with status 200 holds.

    Raises:
        UnusableResponse: it is no JSON, or not of the form that was asked for.
    """
    try:
        body = read_json(content)
        _check_nesting(content, body)
        usage = body.get("usage") or {}
        counts = {
            "prompt_tokens": _count(usage.get("prompt_tokens")),
            "cached_tokens": _count(
                (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            ),
            "seconds": seconds,
        }
        answer = _read(request, body, label_tokens, counts)
    except (
        *(AttributeError, IndexError, KeyError, OverflowError, RecursionError),
        *(TypeError, ValueError),
    ) as error:
        shown = content[:200].decode("utf-8", errors="replace")
        raise UnusableResponse(f"an unusable response ({type(error).__name__}): {shown}") from None
    if accepted(answer) is not answer:
        raise UnusableResponse(str(accepted(answer).error))
    return answer


def _read(
    request: Request,
    body: dict[str, Any],
    label_tokens: Mapping[str, int] | None,
    counts: dict[str, Any],
) -> Answer:
    if request.kind == "classify":
        return _classified(request, body["data"][0]["probs"], counts)
    if not body["choices"]:
        return rejected(request, "the server gave no choice")
    (choice,) = body["choices"]
    counts["completion_tokens"] = _count((body.get("usage") or {}).get("completion_tokens"))
    if request.kind == "weigh":
        return _weighed(request, choice, label_tokens, counts)
    return _generated(request, choice, counts)


def _check_nesting(content: bytes, body: Any) -> None:
    """Raise ValueError where lists and objects lie deeper in each other than `NESTING`."""
    if content.count(b"[") + content.count(b"{") <= NESTING:
        return  # as nearly always, so that nothing is walked through
    level, depth = [body], 0
    while level := [
        inner
        for outer in level
        if isinstance(outer, list | dict)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        depth += 1
        if depth > NESTING:
            raise ValueError(f"more than {NESTING} levels")


def _generated(request: Request, choice: dict[str, Any], counts: dict[str, Any]) -> Answer:
    reason = choice["finish_reason"]
    if reason not in ("stop", "length"):
        return rejected(request, f"the server ended it with finish_reason {reason!r}")
    message = choice["message"]
    if message.get("tool_calls"):
        return rejected(request, "the server answers with tool calls (tool_calls), not with a text")
    text = message.get("content")
    if text is None:
        return rejected(request, _no_content(message))
    if not isinstance(text, str):
        raise TypeError(f"content is {type(text).__name__}")
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought.strip():
        # As the model wrote it before the server took it apart: what becomes of it the recipe says.
        text = f"<think>\n{thought.strip()}\n{THOUGHT_ENDS}\n\n{text}"
    text.encode()  # half a surrogate pair is no text, and no file takes it
    wanted, given = request.sampling.get("max_tokens"), counts["completion_tokens"]
    if reason == "length" and wanted is not None and given is not None and given < wanted:
        # vLLM lowers max_tokens, and does not say so, to what is left of its context.
        message = f"the server cut it off after {given} of {wanted} tokens, by a limit of its own"
        return replace(rejected(request, message), finish_reason="context_length")
    return Answer(request.request_id, request.task, reason, text=text, **counts)


def _no_content(message: dict[str, Any]) -> str:
    """Return why an answer without content is none."""
    for field_name in ("reasoning_content", "reasoning", "refusal"):
        said = message.get(field_name)
        if isinstance(said, str) and said:
            advice = (
                "; start it without a reasoning parser, or raise max_tokens"
                if field_name != "refusal"
                else ""
            )
            return (
                f"the server gave no content, but {len(said):,} characters of {field_name}{advice}"
            )
    return "the server gave no content (null)"


def _count(value: Any) -> int | None:
    """Return a number of tokens that the spool can hold.

    Raises:
        ValueError: it is none.
    """
    if value is not None and not (isinstance(value, int) and 0 <= value < 1 << 31):
        raise ValueError(f"{value!r} tokens")
    return value


def _number(value: Any) -> float:
    """Return a JSON number.

    Raises:
        TypeError: it is none.
        ValueError: it is NaN.
        OverflowError: no float holds it.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no number")
    if math.isnan(value):
        raise ValueError("not a number")
    return float(value)


def _classified(request: Request, values: list[float], counts: dict[str, Any]) -> Answer:
    if len(values) != 1:
        return rejected(request, f"a reward model has one logit, this one has {len(values)}")
    return Answer(request.request_id, request.task, "stop", value=_number(values[0]), **counts)


def _weighed(
    request: Request,
    choice: dict[str, Any],
    label_tokens: Mapping[str, int] | None,
    counts: dict[str, Any],
) -> Answer:
    content = (choice.get("logprobs") or {}).get("content")
    if not content or not content[0].get("top_logprobs"):
        return rejected(
            request,
            "the server returns no log-probabilities (logprobs, top_logprobs), which "
            "labels are weighed by",
        )
    place: int | None = 0
    if "thinking_tokens" in request.sampling:
        place = after_thinking([str(entry["token"]) for entry in content])
    if place is None:
        return rejected(request, endless_thinking(request))
    top = [
        (str(entry["token"]), _number(entry["logprob"])) for entry in content[place]["top_logprobs"]
    ]
    found = _label_logprobs(request.labels or [], top, label_tokens)
    if not found:
        tokens = ", ".join(repr(token) for token, _ in top[:5])
        return rejected(
            request,
            f"none of the labels {request.labels} is among the first token's {len(top)} likeliest, "
            f"which begin with {tokens}",
        )
    return Answer(request.request_id, request.task, "stop", label_logprobs=found, **counts)


def _label_logprobs(
    labels: list[str], top: list[tuple[str, float]], label_tokens: Mapping[str, int] | None
) -> dict[str, float]:
    """Return the labels' log-probabilities; of several tokens that spell one, their sum's."""
    names = {f"token_id:{token}": label for label, token in (label_tokens or {}).items()}
    spelled: dict[str, list[float]] = {}
    for token, logprob in top:
        label = names.get(token) if label_tokens is not None else token.strip(_SPACES)
        if label is not None and logprob > -math.inf:
            spelled.setdefault(label, []).append(logprob)
    return {label: _logsumexp(spelled[label]) for label in labels if label in spelled}


def _logsumexp(values: list[float]) -> float:
    highest = max(values)
    return highest + math.log(sum(math.exp(value - highest) for value in values))


def rejected(request: Request, message: str) -> Answer:
    """Return the answer that says why a request has none."""
    error = message[:ERROR_CHARACTERS]
    return Answer(request.request_id, request.task, "rejected", error=error)


def refused(request: Request, message: str) -> Answer:
    """Return the answer to a request that a server refuses, of the kind that its message is."""
    answer = rejected(request, message)
    about_length = _CONTEXT_LENGTH.search(message) is not None
    return replace(answer, finish_reason="context_length") if about_length else answer


def error_message(content: bytes) -> str:
    """Return what a response with an error status says, whatever its form."""
    text = content.decode("utf-8", errors="replace").strip()
    try:
        body = read_json(text.encode())
        error = body.get("error") or body
        said = error if isinstance(error, str) else error.get("message") or error.get("detail")
    except (AttributeError, ValueError):
        said = None
    return as_text(str(said or text or "no message"))[:ERROR_CHARACTERS]


def as_text(text: str) -> str:
    """Return what was read from JSON without the halves of surrogate pairs, which no file takes."""
    return text.encode("utf-8", errors="replace").decode()
