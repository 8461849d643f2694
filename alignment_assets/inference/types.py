"""One thing an engine is asked, and one answer.

Here belong the forms alone. Which requests there are is SQL (``sql/requests``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import pyarrow as pa

Kind = Literal["generate", "weigh", "classify", "loglikelihood"]
KINDS: frozenset[Kind] = frozenset(get_args(Kind))

FinishReason = Literal["stop", "length", "context_length", "rejected", "failed"]

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

REQUEST_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("task", pa.string()),
        ("kind", pa.string()),
        ("messages", MESSAGES),
        ("sampling", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("answer_schema", pa.string()),
    ]
)

ANSWER_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("task", pa.string()),
        ("finish_reason", pa.string()),
        ("text", pa.string()),
        ("text_hash", pa.string()),
        ("value", pa.float64()),
        (
            "label_logprobs",
            pa.list_(pa.struct([("label", pa.string()), ("logprob", pa.float64())])),
        ),
        ("error", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("cached_tokens", pa.int32()),
        ("engine", pa.string()),
        ("engine_version", pa.string()),
        ("engine_settings", pa.string()),
        ("seconds", pa.float64()),
        ("answered_at", pa.timestamp("us")),
    ]
)

# Rounding may lift a probability, or the sum of several, above one by so much.
PROBABILITY_SLACK = 1e-6
THOUGHT_ENDS = "</think>"
ERROR_CHARACTERS = 1000
# What files of earlier versions lack.
LATER_COLUMNS = {"text_hash"}


@dataclass(frozen=True)
class Request:
    """One thing an engine is asked.

    Attributes:
        request_id: names the request; the same content has the same id.
        task: what it is asked for, a name of the product's own: the file in ``sql/requests``.
        kind: what the engine does: generate (text), weigh (the log-probability of each of
            ``labels`` as the answer's first token), classify (a sequence classifier's logit),
            loglikelihood (the summed log-probability of the last message as the answer to those
            before it, tokenized as a trainer does it: `ChatEncoder.training_row`).
        messages: the conversation, ``{role, content}`` each.
        sampling: sampling parameters, to generate by; of a judge that thinks, ``thinking_tokens``;
            else empty for the other kinds.
        labels: the answers to weigh.
        answer_schema: JSON schema of the text to generate; None for free text.
    """

    request_id: str
    task: str
    kind: Kind
    messages: list[dict[str, str]]
    sampling: dict[str, Any] = field(default_factory=dict)
    labels: list[str] | None = None
    answer_schema: str | None = None


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Attributes:
        finish_reason: stop or length (final); context_length or rejected (a refusal, which stands
            under the engine's settings); failed (no answer in spite of retries: a later run asks
            again).
        text: what was generated.
        value: the classifier's logit, or the log-likelihood.
        label_logprobs: the log-probability of each label that was weighed.
        error: why it was refused or failed.
        prompt_tokens: of the conversation; of a log-likelihood, those before the answer.
        completion_tokens: generated; of a log-likelihood, those of which it is the sum.
        seconds: from submission to end.
    """

    request_id: str
    task: str
    finish_reason: FinishReason
    text: str | None = None
    value: float | None = None
    label_logprobs: dict[str, float] | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    seconds: float | None = None
    answered_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(tzinfo=None))


@dataclass(frozen=True)
class AnsweredBy:
    """Which engine answered: name, version, and the limits under which it refuses (JSON).

    The name is the backend's, but for `ray`, whose engine is `vllm`'s.
    """

    engine: str
    version: str
    limits: str


# Of a model whose chat template gives the same tokens with a system message and without.
SYSTEM_LEFT_OUT = (
    "the model's chat template leaves system messages out, so it would answer as without; say "
    "system_prompt: prepend_to_user for the model in the recipe"
)
# With which that is seen: a conversation without a system message, and with one.
PROBES = (
    [{"role": "user", "content": "Why?"}],
    [{"role": "system", "content": "Answer in rhyme."}, {"role": "user", "content": "Why?"}],
)


def after_thinking(tokens: Sequence[str]) -> int | None:
    """Return the place of the first token with a text after ``</think>``; None if there is none.

    Args:
        tokens: the texts of an answer's tokens, the tag in one or over several of them.
    """
    said = ""
    for place, token in enumerate(tokens):
        if THOUGHT_ENDS in said and token.strip(" \t\r\n\u2581\u0120\u010a"):
            return place
        said += token
    return None


def endless_thinking(request: Request) -> str:
    """Return what is said of a judge that gives no label in the tokens that it has."""
    tokens = request.sampling["thinking_tokens"]
    return f"no label after {THOUGHT_ENDS} within {tokens:,} tokens; raise thinking_tokens"


def accepted(answer: Answer) -> Answer:
    """Return an answer, or its failure if what it says cannot be: it is asked again then.

    A log-probability is at most 0, those of all labels together have a mass of at most 1, and a
    logit is a number. `alignment_assets.inference.spool` holds the same rule in SQL.
    """
    logprobs = list((answer.label_logprobs or {}).values())
    if any(math.isnan(value) or value > PROBABILITY_SLACK for value in logprobs):
        reason = f"log-probabilities are at most 0, these are {logprobs}"
    elif (mass := sum(map(math.exp, logprobs))) > 1 + PROBABILITY_SLACK:
        reason = f"probabilities of labels add up to at most 1, these to {mass:g}"
    elif answer.value is not None and not math.isfinite(answer.value):
        reason = f"a score is a number, this is {answer.value}"
    else:
        return answer
    return replace(
        answer,
        finish_reason="failed",
        value=None,
        label_logprobs=None,
        error=f"an answer that cannot be: {reason}"[:ERROR_CHARACTERS],
    )
