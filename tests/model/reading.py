"""What the files of a recipe say, read without the product: sources, personas, robots, wordings."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from protego import Protego

from alignment_assets.recipe.datasets import DatasetReference, PromptSource
from alignment_assets.recipe.model import Recipe
from tests.support.texts import plain_normal

Row = dict[str, Any]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def messages_hash(messages: list[dict[str, str]]) -> str:
    return sha256(json.dumps([[message["role"], message["content"]] for message in messages]))


def prompt_hash(messages: list[dict[str, str]]) -> str:
    """Return the hash of the normal form, which finds repeats."""
    normal = [[message["role"], plain_normal(message["content"])] for message in messages]
    return sha256(json.dumps(normal))


def read_lines(reference: DatasetReference, recipe: Recipe) -> list[Row]:
    """Return the rows of a JSON lines file with our column names."""
    lines = recipe.resolve(reference.dataset).read_text().splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    return [{ours: row.get(theirs) for ours, theirs in reference.columns.items()} for row in rows]


def source_rows(source: PromptSource, recipe: Recipe) -> list[Row]:
    """Return what ``source_prompts`` should hold of a source; of malformed rows only that."""
    listed = []
    for number, values in enumerate(read_lines(source, recipe)):
        messages = _messages(values, source.form)
        if messages and len(messages) == 1 and _is_placeholder(messages[0]["content"], recipe):
            messages = None
        url = values.get("origin_url")
        extra = {name: values[name] for name in source.extra_columns}
        listed.append(
            {
                "dataset": source.name,
                "row_number": number,
                "messages": messages,
                "messages_hash": messages_hash(messages) if messages else None,
                "prompt_id": (hashed := prompt_hash(messages) if messages else None),
                "prompt_hash": hashed,
                "source": values.get("source")
                if "source" in source.columns
                else Path(source.dataset).name,
                "upstream_id": values.get("upstream_id"),
                "origin_url": url,
                "origin_domain": urlsplit(url).hostname if url else None,
                "extra": extra or None,
            }
        )
    return listed


def _messages(values: Row, form: str) -> list[dict[str, str]] | None:
    if form == "text":
        text = values.get("prompt")
        return [{"role": "user", "content": text}] if _usable(text) else None
    turns = values.get("conversation")
    if not isinstance(turns, list):
        return None
    answers = [number for number, turn in enumerate(turns) if turn["role"] == "assistant"]
    prompt = [
        {"role": t["role"], "content": t["content"]} for t in turns[: max(answers, default=0)]
    ]
    usable = (
        prompt and prompt[-1]["role"] == "user" and all(_usable(turn["content"]) for turn in prompt)
    )
    return prompt if usable else None


def _usable(text: Any) -> bool:
    """Return whether a value is a text with something in it, and whole characters alone."""
    return (
        isinstance(text, str)
        and bool(plain_normal(text))
        and text == text.encode(errors="replace").decode()
    )


def _is_placeholder(text: str, recipe: Recipe) -> bool:
    return plain_normal(text).casefold() in {one.casefold() for one in recipe.placeholders}


def consent_row(url: str, recipe: Recipe) -> Row:
    """Return what ``origin_consent`` should say of a page."""
    parts = urlsplit(url)
    row: Row = {"origin_url": url, "status": "no_snapshot", "blocked_agents": []}
    folder = recipe.consent.robots
    snapshot = recipe.resolve(folder) / f"{parts.hostname}.txt" if folder else None
    if snapshot is None or not snapshot.is_file():
        return row
    robots = Protego.parse(snapshot.read_text())
    root = f"{parts.scheme}://{parts.netloc}/"
    row["blocked_agents"] = [
        agent
        for agent in recipe.consent.agents
        if not robots.can_fetch(root, agent) or not robots.can_fetch(url, agent)
    ]
    row["status"] = "blocked" if row["blocked_agents"] else "admitted"
    return row


def personas(recipe: Recipe) -> dict[str, str]:
    """Return the usable personas by their ids."""
    texts = [row["persona"] for row in read_lines(recipe.personas, recipe)]
    stripped = [text.strip() for text in texts if isinstance(text, str)]
    longest = recipe.personas.max_characters
    return {
        messages_hash([{"role": "persona", "content": text}]): text
        for text in stripped
        if plain_normal(text) and not _is_placeholder(text, recipe)
        if longest is None or len(text) <= longest
    }


def wording_texts(recipe: Recipe) -> dict[str, str]:
    """Return every wording of the recipe's folder by its id, the charter put in."""
    folder = recipe.wordings_folder
    charter = (folder / "charter.md").read_text().strip()
    texts = {
        path.stem: path.read_text().strip().replace("{charter}", charter)
        for path in folder.glob("*.txt")
    }
    principles = yaml.safe_load((folder / "principles.yaml").read_text())
    for principle, wordings in principles.items():
        for number, text in enumerate(wordings):
            texts[f"principle/{principle}/{number:02d}"] = text.strip()
    return texts


def filled(template: str, *texts: str) -> str:
    """Put texts in for the markers of a template, in their order; what they hold is left alone."""
    fixed = re.split(r"\{[a-z]+\}", template)
    return "".join(part for pair in zip(fixed, (*texts, ""), strict=True) for part in pair)


def with_system(system: str | None, messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Put a system prompt before a conversation; its own system message is kept after it."""
    if system is None:
        return messages
    if messages[0]["role"] == "system":
        system, messages = f"{system}\n\n{messages[0]['content']}", messages[1:]
    return [{"role": "system", "content": system}, *messages]


def transcript(messages: list[dict[str, str]]) -> str:
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role'].upper()}: {m['content']}" for m in messages)
