"""The data card: ``README.md`` of an export, for people, and for the hub to read its front matter.

Here belongs what stands on it, and in which order. Figures are answers to questions of
``sql/analysis``, as the pages of the tables have them; texts in them are escaped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from alignment_assets.exports.limits import KNOWN_LIMITS
from alignment_assets.exports.manifest import TEMPLATE, shown_weights
from alignment_assets.host.shown import ascii_controls
from alignment_assets.pages.answers import Answer
from alignment_assets.pages.markdown import markdown_table, markdown_text
from alignment_assets.pages.pictures import picture
from alignment_assets.recipe.model import Recipe
from alignment_assets.warehouse.query import Rows

NAME = "README.md"
IMAGES = "images"
ROWS = 60
# What the card tells of sql/analysis: under which heading, and what it means that there is nothing.
SECTIONS: dict[str, dict[str, str]] = {
    "Contents": {
        "pairs_by_source": "There are no pairs.",
        "pairs_by_language": "There are no pairs.",
    },
    "What was excluded, and why": {
        "exclusions_by_rule": "No row was read.",
        "selection_exclusions_by_reason": "No prompt has been looked at.",
        "losses": "Nothing was lost.",
        "left_out_of_exports": "Nothing: every format has all of its rows.",
    },
    "Agreement with people, and judges": {
        "agreement_by_threshold": "No labels of people were compared.",
        "judge_order_bias": "No completions were compared.",
        "score_mass": "No judge rated.",
    },
    "Length, and who wins": {
        "length_chosen_rejected": "There are no pairs.",
        "pairs_by_model": "There are no pairs.",
        "wins_by_model": "No completions were ranked.",
        "samples_by_model": "There are no samples.",
    },
}
QUESTIONS = (*(name for names in SECTIONS.values() for name in names), "prompts_by_track")
# Of these the picture is in the folder, too.
DRAWN = ("pairs_by_model", "wins_by_model", "agreement_by_threshold")
# The hub's names of sizes.
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"))
_LANGUAGE = re.compile(r"[a-z]{2,3}")
# Of the hub's names of licences those that are likely here.
_KNOWN = {
    *("apache-2.0", "mit", "odc-by", "cc", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0"),
    *("cc-by-nc-4.0", "llama3.1", "llama3.3"),
}
# Which trainer takes a format of ours.
_TAKEN_BY = {
    "dpo": "TRL `DPOTrainer`, with `max_length=None` (its default of 1,024 cuts rows)",
    "dpo_ref": "trainers that read `ref_chosen_logps` and `ref_rejected_logps`",
    "qrpo": "QRPO, one completion a row",
    "qrpo_paired": "the original QRPO trainer",
    "kto": "TRL `KTOTrainer`",
    "reward_model": "TRL `RewardTrainer`",
    "openai_preference": "OpenAI preference fine-tuning: JSON lines, no config of `load_dataset`",
}


def write_card(
    folder: Path, content: Mapping[str, Any], recipe: Recipe, answers: Mapping[str, Answer]
) -> None:
    """Write the card and its pictures into a folder.

    Args:
        folder: of the export.
        content: what its manifest says.
        recipe: tells the published counts and the sources.
        answers: to `QUESTIONS`.
    """
    pictures = _draw(folder, answers)
    front = yaml.safe_dump(
        front_matter(content, recipe, answers), sort_keys=False, allow_unicode=True, width=1000
    )
    body = "\n".join(_body(content, recipe, answers, pictures))
    (folder / NAME).write_text(f"---\n{front}---\n\n{body}", encoding="utf-8")


def front_matter(
    content: Mapping[str, Any], recipe: Recipe, answers: Mapping[str, Answer]
) -> dict[str, Any]:
    """Return what the hub reads: licence, languages, size, sources, a config for each format."""
    languages = [row["language"] for row in answers["pairs_by_language"].rows.records]
    hub = (one.dataset for one in recipe.prompts)
    configs = configs_of(content)
    return {
        "pretty_name": f"{content['recipe']['name']}: preference data for {_policy(content)}",
        **_licence(content),
        **(
            {"language": known}
            if (
                known := sorted(
                    {one for one in languages if _LANGUAGE.fullmatch(one or "")} - {"und"}
                )
            )
            else {}
        ),
        "size_categories": [_size(_most_rows(content))],
        "source_datasets": [one.removeprefix("hf:") for one in hub if one.startswith("hf:")]
        or ["original"],
        "task_categories": ["text-generation"],
        "tags": ["preference", "dpo", "qrpo", "alignment", "synthetic"],
        **({"configs": configs} if configs else {}),
    }


def configs_of(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a config for each format that ``load_dataset`` can load: Parquet with rows."""
    found = []
    for name, one in content["formats"].items():
        splits = [split for split, rows in one["rows"].items() if rows]
        if splits and one["files"][0]["path"].endswith(".parquet"):
            files = [{"split": split, "path": f"{name}/{split}-*.parquet"} for split in splits]
            # `datasets` knows a folder by its name and this: other files would be taken for those
            # that it has in its cache.
            hashes = "".join(file["sha256"] for file in one["files"])
            digest = hashlib.sha256(hashes.encode()).hexdigest()
            known = {"config_name": name, "description": f"sha256:{digest}"}
            found.append({**known, "data_files": files})
    if found:
        names = [one["config_name"] for one in found]
        found[names.index("dpo") if "dpo" in names else 0]["default"] = True
    return found


def _licence(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the licence if all have one that the hub knows; of several it wants one name."""
    named = sorted({name for one in content["licences"].values() for name in one.values()})
    if len(named) == 1 and named[0] in _KNOWN:
        return {"license": named[0]}
    return {"license": "other", "license_name": "-and-".join(named).replace(" ", "-")}


def _body(
    content: Mapping[str, Any],
    recipe: Recipe,
    answers: Mapping[str, Answer],
    pictures: Sequence[str],
) -> Iterator[str]:
    made_by, policy = content["recipe"], content["policy"]
    name = markdown_text(made_by["name"])
    yield f"# {name}: preference data for {markdown_text(_policy(content))}\n"
    if made_by["description"]:
        yield f"{markdown_text(made_by['description'])}\n"
    strategy = content["selection"]["strategy"]
    weights = markdown_text(shown_weights(policy["weights"]))
    yield (
        "Prompts of the sources below, completions of several models, rewards of a reward model or "
        "a judge, and pairs that were selected for the policy "
        f"**{markdown_text(policy['name'])}** ({weights}) by the strategy "
        f"`{strategy}`: written by `alignment-assets` {content['versions']['alignment_assets']}. "
        "`manifest.json` has the recipe's fingerprint, versions, and the size, hash and columns of "
        "each file.\n"
    )
    yield from _loading(content)
    yield from _counts(content, recipe, answers)
    for heading, names in SECTIONS.items():
        yield f"## {heading}\n"
        for name, empty in names.items():
            yield from _answer(answers[name], empty, pictures)
    yield "## Known limits\n"
    yield "\n".join(f"- {limit}" for limit in KNOWN_LIMITS) + "\n"
    yield "## Licences\n"
    yield (
        "Texts of prompts are under the licences of their sources, completions under the terms of "
        "the models that wrote them. What the recipe does not state has to be looked up before "
        "anything is passed on.\n"
    )
    rows = [
        (kind.removesuffix("s"), name, licence)
        for kind, named in content["licences"].items()
        for name, licence in named.items()
    ]
    yield markdown_table(_texts(("of", "name", "licence"), rows))


def _loading(content: Mapping[str, Any]) -> Iterator[str]:
    configs = configs_of(content)
    yield "## How to load it\n"
    if configs:
        first = next(one for one in configs if "default" in one)
        name, split = first["config_name"], first["data_files"][0]["split"]
        yield (
            "```python\n"
            "from datasets import load_dataset\n\n"
            f'pairs = load_dataset("path/of/this/folder", "{name}", split="{split}")\n'
            "```\n"
        )
        yield (
            "Conversations are lists of `{role, content}`; ids are text. Rows are in the order of "
            "their ids: shuffle them.\n"
        )
    if content["policy"]["chat_template"]:
        yield (
            f"Give the tokenizer the policy's own chat template, `{TEMPLATE}`; counts and "
            "log-probabilities are by it.\n"
        )
    if content["policy"]["chat_template_arguments"]:
        yield "Each row has what the template is to be given, as `chat_template_kwargs`.\n"
    names = {one["config_name"] for one in configs}
    rows = [
        (
            name,
            sum(one["rows"].values()),
            ", ".join(f"{split} {count:,}" for split, count in one["rows"].items()),
            "yes" if name in names else "no",
            _TAKEN_BY.get(name, one["about"]).replace("`", ""),
        )
        for name, one in content["formats"].items()
    ]
    types = ("VARCHAR", "BIGINT", "VARCHAR", "VARCHAR", "VARCHAR")
    yield markdown_table(Rows(("format", "rows", "splits", "config", "for"), types, rows))


def _counts(
    content: Mapping[str, Any], recipe: Recipe, answers: Mapping[str, Answer]
) -> Iterator[str]:
    yield "## Counts\n"
    prompts: dict[str, int] = {}
    for row in answers["prompts_by_track"].rows.records:
        prompts[row["track"]] = prompts.get(row["track"], 0) + row["prompts"]
    pairs: dict[str, int] = {}
    for row in answers["pairs_by_source"].rows.records:
        pairs[row["track"]] = pairs.get(row["track"], 0) + row["pairs"]
    published: Mapping[Any, int] = recipe.published_prompts
    tracks = dict.fromkeys((*published, *prompts))
    rows = [
        (track, prompts.get(track, 0), pairs.get(track, 0), published.get(track))
        for track in tracks
    ]
    columns = ("track", "prompts", "pairs", "prompts published")
    yield markdown_table(Rows(columns, ("VARCHAR", "BIGINT", "BIGINT", "BIGINT"), rows))
    if not published:
        yield "The recipe names no published counts to compare with.\n"


def _answer(answer: Answer, empty: str, pictures: Sequence[str]) -> Iterator[str]:
    question = answer.question
    yield f"### {question.title[:1].upper()}{question.title[1:]}\n"
    yield f"{markdown_text(question.about)}\n"
    if question.name in pictures:
        yield f"![{question.title}]({IMAGES}/{question.name}.png)\n"
    rows = answer.rows
    if not rows.values:
        yield f"{empty}\n"
        return
    yield markdown_table(Rows(rows.columns, rows.types, rows.values[:ROWS]))
    if len(rows.values) > ROWS:
        yield f"These are the first {ROWS} of {len(rows.values):,} rows.\n"


def _draw(folder: Path, answers: Mapping[str, Answer]) -> list[str]:
    """Draw the pictures; return the names of those that there are."""
    drawn = {}
    for name in DRAWN:
        try:
            drawn[name] = picture(answers[name])
        except Exception:  # whatever values are: the table shows them
            drawn[name] = None
    there = {name: png for name, png in drawn.items() if png}
    if there:
        (folder / IMAGES).mkdir()
    for name, png in there.items():
        (folder / IMAGES / f"{name}.png").write_bytes(png)
    return list(there)


def _policy(content: Mapping[str, Any]) -> str:
    return ascii_controls(content["policy"]["name"])


def _most_rows(content: Mapping[str, Any]) -> int:
    return max((sum(one["rows"].values()) for one in content["formats"].values()), default=0)


def _size(rows: int) -> str:
    return next((name for most, name in _SIZES if rows < most), "1M<n<10M")


def _texts(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Rows:
    return Rows(columns, ["VARCHAR"] * len(columns), rows)
