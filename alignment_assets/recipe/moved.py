"""Keys of older recipes: what is said to somebody whose recipe still has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PAGE = "docs/recipes.md, 'Moving an older recipe'"

# Old key: where its content stands now. The three sources are those that a recipe had to have.
MOVED = {
    "sources.preference_mix": (
        "prompts: an entry {name: preference_mix, form: conversation, track: graded, …}, "
        "whose columns.chosen is columns.conversation"
    ),
    "sources.polyglot_toxicity_prompts": (
        "prompts: an entry {name: polyglot_toxicity_prompts, form: text, track: controversial, …}"
    ),
    "sources.prism_prompts": (
        "prompts: an entry {name: prism_prompts, form: text, track: controversial, …}"
    ),
    "prism_conversation_types": (
        "keep: {conversation_type: […]} of the entry prism_prompts under prompts"
    ),
    "sources.personas": "personas, beside prompts",
    "sources.human_labels": "human_labels, beside prompts",
}


# Keys of a model, and where they stand now.
MOVED_OF_MODELS = {
    "endpoints": "backend: {openai: {urls: […]}}",
    "gpus": "backend: {vllm: {gpus: …}}",
    "replicas": "backend: {vllm: {replicas: …}}",
    "max_num_seqs": "backend: {vllm: {max_num_seqs: …}}",
    "dtype": "backend: {vllm: {dtype: …}}",
}


def moved_keys(content: Any) -> Iterator[str]:
    """Yield a line for each key of a recipe's content that stands elsewhere now."""
    models = content.get("models") if isinstance(content, dict) else None
    for name, model in models.items() if isinstance(models, dict) else ():
        for old in MOVED_OF_MODELS.keys() & (model.keys() if isinstance(model, dict) else set()):
            yield f"models.{name}.{old}: is now {MOVED_OF_MODELS[old]} of the model; see {PAGE}"
    for old, new in MOVED.items():
        part = content
        for step in old.split("."):
            if not isinstance(part, dict) or step not in part:
                break
            part = part[step]
        else:
            yield f"{old}: is now {new}; see {PAGE}"
