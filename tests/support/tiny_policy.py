"""A policy of a hundred thousand weights that are random but the same each time, in a folder."""

from __future__ import annotations

from pathlib import Path

# ChatML. Its generation prompt ends in a newline, as most do.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Merges, so that as with real tokenizers text before and after a border can become one token.
MERGES = ["ĊĊ", "he", "in", "er", "an", "th", "the", "Ġt", "Ġa"]


def write_tiny_policy(folder: Path, template: str = TEMPLATE) -> Path:
    """Write weights, tokenizer and chat template as any checkpoint is kept, and return the folder.

    Heads are 32 wide, which vLLM's attention on CPUs needs.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*special, *alphabet, *MERGES]
    tokenizer = Tokenizer(
        models.BPE({word: number for number, word in enumerate(words)}, _parts(alphabet))
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template,
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=320,
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                max_position_embeddings=2048,
                bos_token_id=words.index("<|im_start|>"),
                eos_token_id=words.index("<|im_end|>"),
                pad_token_id=words.index("<|endoftext|>"),
                initializer_range=0.2,
            )
        )
    model.save_pretrained(folder)
    return folder


def _parts(alphabet: list[str]) -> list[tuple[str, str]]:
    """Return the two known words that each merge is put together from."""
    known, parts = set(alphabet), []
    for word in MERGES:
        splits = ((word[:at], word[at:]) for at in range(1, len(word)))
        parts.append(next(split for split in splits if known.issuperset(split)))
        known.add(word)
    return parts
