"""Log-probabilities of completions in plain torch, which those of an engine must equal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

Messages = Sequence[dict[str, str]]


def completion_ids(
    tokenizer: Any, prompt: Messages, completion: Messages
) -> tuple[list[int], list[int]]:
    """Return the tokens of a training row as TRL tokenizes it: of its prompt, of its completion.

    The completion begins where the whole conversation parts from the prompt with the turn opened
    for an answer. What the template writes after the answer belongs to it.
    """
    opened, whole = (
        tokenizer.apply_chat_template(
            [*messages], tokenize=True, return_dict=True, add_generation_prompt=opens
        )["input_ids"]
        for messages, opens in ((prompt, True), ([*prompt, *completion], False))
    )
    same = takewhile(lambda pair: pair[0] == pair[1], zip(opened, whole, strict=False))
    parting = sum(1 for _ in same)
    return whole[:parting], whole[parting:]


def completion_logprob(
    model: Any, tokenizer: Any, prompt: Messages, completion: Messages
) -> tuple[float, int, int]:
    """Return a completion's summed log-probability, and how many tokens prompt and completion are.

    A first token that nothing stands before is counted and has no log-probability.
    """
    import torch

    before, after = completion_ids(tokenizer, prompt, completion)
    tokens = torch.tensor([*before, *after])
    with torch.no_grad():
        logits = model(input_ids=tokens[None]).logits[0, :-1]
    each = logits.float().log_softmax(-1).gather(1, tokens[1:, None])[:, 0].double()
    scored = each[max(len(before) - 1, 0) :]
    return float(scored.sum()), len(before), len(after)
