"""Readable names in place of the hashes that SQL makes, each computed again here from its parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from alignment_assets.sources.conversations import as_id
from tests.golden.database import GOLDEN, completion_parts, content_hash
from tests.support.texts import plain_normal, plain_normal_hash

# The number of a normal form has at least 15 digits; nothing else shown has.
HASH = re.compile(
    r"(?<![\d.])\d{15,20}\b"
    r"|\b[0-9a-f]{64}\b|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
)


def _ids() -> Iterator[tuple[str, str]]:
    for row in (*GOLDEN.prompts, *GOLDEN["human_labels"]):
        yield row["prompt_id"], row["prompt_hash"]
    for row in GOLDEN["personas"]:
        yield row["persona_id"], row["persona_hash"]
    for completion in GOLDEN["completions"].values():
        if (text := completion.get("text")) is not None:
            yield str(plain_normal_hash(text)), f"normal({plain_normal(text)})"
    for hashed, name in _hashes():
        yield as_id(hashed), name
        if name.startswith("sha256("):
            yield hashed, name


def _hashes() -> Iterator[tuple[str, str]]:
    ids = {name: content_hash(*completion_parts(name)) for name in GOLDEN["completions"]}
    rows = (*GOLDEN["human_labels"], *reversed(GOLDEN.prompts))
    asked = {r["prompt_hash"]: r.get("messages_hash") for r in rows}
    hashed = {row["wording_id"]: row["wording_hash"] for row in GOLDEN["wordings"]}
    people = [row["persona_hash"] for row in GOLDEN["personas"]]
    said = {
        name: answer.get("text") and hashlib.sha256(answer["text"].encode()).hexdigest()
        for name, answer in GOLDEN["completions"].items()
    } | {"": hashlib.sha256(b"").hexdigest()}

    def request(about: str, task: str, model: str, content: str, *rest: str | None) -> str:
        sampling, schema = rest or (None, None)
        return content_hash(about, task, f"{model}@commit", content, sampling, schema)

    for wording in GOLDEN["trials"]:
        wordings = (hashed[f"{wording}_system"], hashed[f"{wording}_question"])
        by = "" if wording == "controversy" else f"{wording}; "
        for prompt, attempts in GOLDEN.said_by(wording).items():
            content = content_hash(asked[prompt], *wordings)
            for attempt in range(len(attempts)):
                about, rest = f"{prompt}/{attempt}", ("grade sampling", "grade schema")
                named = f"grade({by}{prompt}/{attempt})"
                yield request(about, "grade", "judge", content, *rest), named
    for name, completion in ids.items():
        prompt, model, _, _ = completion_parts(name)
        yield completion, name
        for wording_id, wording in [(None, None), *hashed.items()]:
            for persona in [None, *people]:
                content = content_hash(asked[prompt], wording, persona)
                parts = [part for part in (name, wording_id, persona) if part]
                rest = ("answer sampling", None)
                generate = request(completion, "generate", model, content, *rest)
                yield generate, f"generate({'; '.join(parts)})"
        if (text := said[name]) is not None:
            yield text or said[""], f"sha256({GOLDEN['completions'][name]['text']})"
            content = content_hash(asked[prompt], text or said[""])
            yield request(completion, "classify", "scorer", content), f"classify({name})"
            wordings = (hashed["judge_charter_system"], hashed["judge_question"])
            content = content_hash(asked[prompt], text or said[""], *wordings)
            yield request(completion, "rate", "judge", content), f"rate({name})"
            content = content_hash(asked[prompt], text or said[""])
            for policy in GOLDEN.policies:
                loglikelihood = request(completion, "loglikelihood", policy, content)
                yield loglikelihood, f"loglikelihood({policy}; {name})"
            yield (
                content_hash("tokenizer", asked[prompt], text or said[""]),
                f"row({prompt}; {GOLDEN['completions'][name]['text']})",
            )
        for policy in GOLDEN.policies:
            yield content_hash(policy, as_id(completion)), f"sample({policy}; {name})"
    for row in GOLDEN["comparisons"]:
        a, b = row["first"], row["second"]
        wordings = (hashed["compare_charter_system"], hashed["compare_question"])
        content = content_hash(asked[completion_parts(a)[0]], said[a], said[b], *wordings)
        yield request(f"{ids[a]}/{ids[b]}", "compare", "judge", content), f"compare({a}; {b})"
    for policy in GOLDEN.policies:
        for prompt in asked:
            yield content_hash(policy, prompt, "0"), f"pair({policy}; {prompt}; 0)"


NAMES = dict(_ids())
IDS = {name: key for key, name in NAMES.items()}


def readable(value: Any) -> str:
    """Return a value as the expected files show it; a hash of unknown parts is an error."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(round(value, 9))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return f"[{', '.join(readable(item) for item in value)}]"
    if isinstance(value, dict) and value.keys() == {"role", "content"}:
        return f"{value['role']}: {readable(value['content'])}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {readable(item)}' for key, item in value.items())}}}"
    named = HASH.sub(lambda found: NAMES[found.group()], str(value))
    return named.replace("\n", "\\n") or "''"
