"""From a conversation to token ids, by the model's own chat template.

Text of a conversation is never interpreted: what spells a special token (``<|im_start|>``,
``</s>``) stays text. A training row alone is encoded as a trainer does it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from alignment_assets.host.time_limit import processor_seconds
from alignment_assets.inference.types import PROBES, SYSTEM_LEFT_OUT

# What a chat template may take and write: a thousand times what one does.
RENDER_SECONDS = 5.0
RENDERED_CHARACTERS = 16_000_000
# Characters for private use, of which one that a conversation lacks marks what is masked in it.
_MARKS = range(0xF0000, 0xFFFFE)


class ChatEncoder:
    """Turns conversations into token ids.

    Args:
        tokenizer: a transformers tokenizer.
        template: stands in for the tokenizer's own chat template.
        arguments: what the template is given besides the messages.
        template_date: the day that templates which write a date are told, never today.
    """

    def __init__(
        self, tokenizer: Any, template: str | None, arguments: dict[str, Any], template_date: str
    ) -> None:
        self._tokenizer = tokenizer
        day = date.fromisoformat(template_date)
        self._options = {
            "chat_template": template,
            "date_string": day.strftime("%d %b %Y"),
            "strftime_now": day.strftime,
            **arguments,
        }
        spellings = {str(token) for token in tokenizer.all_special_tokens}
        spellings |= {str(token.content) for token in tokenizer.added_tokens_decoder.values()}
        ordered = sorted(filter(str.strip, spellings), key=len, reverse=True)
        self._special = (
            re.compile("|".join(re.escape(text) for text in ordered)) if ordered else None
        )

        self._leaves_system_out = self._is_system_left_out()

    def encode(self, messages: list[dict[str, str]], *, for_answer: bool) -> list[int]:
        """Return the token ids of a conversation, with the turn opened for an answer if asked.

        Raises:
            ValueError: the chat template refuses the conversation, or leaves its system message
                out, so that the answer would be one to another conversation.
        """
        if self._leaves_system_out and messages and messages[0]["role"] == "system":
            raise ValueError(SYSTEM_LEFT_OUT)
        if self._special is None or not any(self._special.search(m["content"]) for m in messages):
            return self._tokens(self._render(messages, for_answer))
        spelled: list[str] = []
        mark = next(chr(m) for m in _MARKS if not any(chr(m) in n["content"] for n in messages))
        masker = _masker(spelled, mark)
        masked = [{**m, "content": self._special.sub(masker, m["content"])} for m in messages]
        pieces = re.split(f"{mark}(\\d+){mark}", self._render(masked, for_answer))
        tokens: list[int] = []
        for position, piece in enumerate(pieces):
            if position % 2:
                # In two parts, because added tokens that are not called special are never split.
                text = spelled[int(piece)]
                tokens += self._tokens(text[0], as_text=True) + self._tokens(text[1:], as_text=True)
            elif piece:
                tokens += self._tokens(piece)
        return tokens

    def before_answer(self, messages: list[dict[str, str]]) -> str:
        """Return what a trainer encodes of a prompt: it, with the turn opened for an answer.

        Raises:
            ValueError: the chat template refuses it.
        """
        return self._render(messages, True)

    def with_answer(self, messages: list[dict[str, str]]) -> str:
        """Return what a trainer encodes of a conversation that ends with an answer.

        Raises:
            ValueError: the chat template refuses it.
        """
        return self._render(messages, False)

    def training_tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of such texts, as a trainer has them.

        Unlike in `encode`, what spells a special token in a message is that token: trainers (TRL
        among them) tokenize the conversation as one text.
        """
        encoded = self._tokenizer(list(texts), add_special_tokens=False)
        return list(encoded["input_ids"])

    def training_row(self, messages: list[dict[str, str]]) -> tuple[list[int], int]:
        """Return the token ids of a conversation that ends with an answer, as a trainer has them.

        Returns:
            The ids, and the place of the first that is the answer's; see `answer_begins`.

        Raises:
            ValueError: the chat template refuses it.
        """
        texts = [self.before_answer(messages[:-1]), self.with_answer(messages)]
        before, whole = self.training_tokens(texts)
        return whole, answer_begins(before, whole)

    def _is_system_left_out(self) -> bool:
        """Return whether a conversation has the same tokens with a system message and without."""
        try:
            without, told = (self._tokens(self._render(probe, True)) for probe in PROBES)
            return told == without
        except ValueError:  # it refuses one of them, which each conversation is told then
            return False

    def texts(self, tokens: Sequence[int]) -> list[str]:
        """Return the text of each token alone."""
        return [self._tokenizer.decode([token]) for token in tokens]

    def label_token(self, label: str) -> int:
        """Return the one token that a label is.

        Raises:
            ValueError: the model's tokenizer takes several.
        """
        tokens = [token for token in self._tokens(label) if self._tokenizer.decode([token]).strip()]
        if len(tokens) != 1:
            raise ValueError(f"the label {label!r} is {len(tokens)} tokens of this model, not one")
        return tokens[0]

    def _render(self, messages: list[dict[str, str]], for_answer: bool) -> str:
        try:
            with processor_seconds(RENDER_SECONDS):
                text = str(
                    self._tokenizer.apply_chat_template(
                        messages, add_generation_prompt=for_answer, tokenize=False, **self._options
                    )
                )
        except Exception as error:  # a template is a program, and fails as programs do
            said = f"{type(error).__name__}: {error}"
            raise ValueError(f"the chat template refuses this conversation: {said}") from error
        if len(text) > RENDERED_CHARACTERS:
            raise ValueError(
                f"the chat template makes {len(text):,} characters of this conversation, more "
                f"than {RENDERED_CHARACTERS:,}"
            )
        return text

    def _tokens(self, text: str, *, as_text: bool = False) -> list[int]:
        # The template writes the special tokens, a BOS among them: none is added here.
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=as_text)
        return list(encoded["input_ids"])


def answer_begins(before: Sequence[int], whole: Sequence[int]) -> int:
    """Return the place of the first token of an answer in its conversation.

    As in TRL, that is where the conversation stops to be what stands before the answer: the end of
    that, unless the template writes it otherwise there, or a token joins its end with the answer.
    """
    if whole[: len(before)] == before:
        return len(before)
    pairs = enumerate(zip(before, whole, strict=False))
    differing = (place for place, (one, other) in pairs if one != other)
    return next(differing, min(len(before), len(whole)))


def _masker(spelled: list[str], mark: str) -> Callable[[re.Match[str]], str]:
    """Return a replacement that remembers what it masked in ``spelled``."""

    def mask(match: re.Match[str]) -> str:
        spelled.append(match.group())
        return f"{mark}{len(spelled) - 1}{mark}"

    return mask
