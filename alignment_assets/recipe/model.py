"""The recipe: the YAML file that fixes a whole run, as typed and validated models.

Here belong the recipe's fields, their validation and the values it hands to SQL. Reading data,
touching engines and naming assets do not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from alignment_assets.recipe.datasets import DatasetReference, PromptSource, needs_columns
from alignment_assets.recipe.part import Name, Part

# The texts that come along; a recipe can name another folder.
WORDINGS = Path(__file__).resolve().parent / "wordings"

Variant = Literal["default", "principle", "persona", "charter"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Day = Annotated[
    str,
    Field(pattern=r"^\d{4}-\d{2}-\d{2}$"),
    AfterValidator(lambda day: date.fromisoformat(day).isoformat()),
]


class Licence(Part):
    """Sub-collections that are dropped, whatever source they come in (report, section 4.1.4)."""

    excluded_subsets: tuple[str, ...]


class Consent(Part):
    """The robots.txt rule (report, Appendix B), and the rule for rows without a known origin."""

    agents: tuple[str, ...]
    robots: str | None = Field(None, description="folder of <domain>.txt snapshots")
    unknown_origins: Literal["admitted", "refused"] = "admitted"
    sources: dict[str, Literal["admitted", "refused"]] = Field(default_factory=dict)


class Sampling(Part):
    """Sampling parameters; all reach the engine, so none comes from a model's own defaults."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, description="0 is off")] = 0
    min_p: Share = 0.0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_tokens: Count = 4096

    def as_json(self) -> str:
        """Return the parameters as canonical JSON, the form that a request's identity hashes."""
        return json.dumps(self.model_dump(), sort_keys=True)


class Endpoints(Part):
    """OpenAI-compatible servers that answer for a model, all alike."""

    urls: tuple[str, ...] = Field(min_length=1, description="with the /v1 that ends them")
    name: str | None = Field(None, description="the servers' name of the model, else its weights'")
    api_key: Annotated[
        str | None, Field(pattern=r"^env:\w+$", description="env:NAME; no key stands in a recipe")
    ] = None
    concurrency: Annotated[int, Field(ge=1, description="requests in flight at each, at most")] = (
        256
    )
    timeout: Annotated[float, Field(gt=0, description="seconds for one answer")] = 600.0

    @field_validator("urls")
    @classmethod
    def _urls_are_http(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} does not begin with http:// or https://")
            if "@" in url or "?" in url:
                raise ValueError("a url has no user, password or query; a key goes to api_key")
        stripped = tuple(url.rstrip("/") for url in urls)
        if len(set(stripped)) < len(stripped):
            raise ValueError(f"{list(stripped)} names an endpoint twice")
        return stripped


class Model(Part):
    """Weights, and what serves them: vLLM on this host, or endpoints elsewhere."""

    weights: str = Field(
        description="hf:owner/name, a local folder, env:NAME holding either, or served:NAME for "
        "weights that only endpoints know"
    )
    revision: str = "main"
    endpoints: Endpoints | None = None
    billions: Annotated[
        float, Field(gt=0, description="parameters, in billions; orders partitions")
    ]
    gpus: Annotated[int, Field(ge=1, description="tensor parallel size")] = 1
    replicas: Annotated[
        int | None, Field(ge=1, description="engines side by side; by default all that fit")
    ] = None
    max_model_len: Count = 8192
    max_num_seqs: Count = 256
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    chat_template: str | None = Field(None, description="a file that stands in for the model's own")
    chat_template_arguments: dict[str, Any] = Field(default_factory=dict)
    max_tokens: Count | None = Field(None, description="overrides completions.sampling")
    temperature: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _served_weights_have_endpoints(self) -> Model:
        if self.weights.startswith("served:") and self.endpoints is None:
            raise ValueError(f"weights {self.weights!r} need endpoints that serve them")
        return self


class Inference(Part):
    """What is done about requests that fail."""

    attempts: Annotated[
        int,
        Field(ge=1, description="how often a request is asked that the engine fails"),
    ] = 5
    max_failed_share: Annotated[
        float, Field(ge=0, le=1, description="of a partition's requests; more, and it is not made")
    ] = 0.01


class Controversy(Part):
    """The grader (report, section 4.1.4). The fold's threshold is not published: ours."""

    model: str
    threshold: Annotated[int, Field(ge=1, le=3)] = 2
    attempts: Count = 3
    reasoning_characters: Count = 1000
    sampling: Sampling

    @model_validator(mode="after")
    def _retries_can_differ(self) -> Controversy:
        if self.attempts > 1 and self.sampling.temperature == 0:
            raise ValueError(
                "attempts above 1 need sampling.temperature above 0, or all answers agree"
            )
        return self


class Completions(Part):
    """Who answers, and under which system prompts (report, section 4.1.4)."""

    models: tuple[str, ...] = Field(min_length=1)
    policies: tuple[str, ...] = Field(min_length=1)
    reference_completions: Count = 10
    standard_variants: tuple[Variant, ...] = ("default", "principle")
    controversial_variants: tuple[Variant, ...] = ("persona", "charter")
    standard_charter_models: tuple[str, ...] = ()
    sampling: Sampling

    @model_validator(mode="after")
    def _variants_are_asked_once(self) -> Completions:
        for names in (self.standard_variants, self.controversial_variants):
            if len(set(names)) < len(names):
                raise ValueError(f"{list(names)} names a variant twice")
        if self.standard_charter_models and "charter" in self.standard_variants:
            raise ValueError(
                "standard_charter_models: every model answers standard prompts with the charter "
                "already, by standard_variants; leave one of them out"
            )
        return self


class Scoring(Part):
    """How one track is scored: a reward model's logit, or a judge's rating by a rubric."""

    task: Literal["classify", "rate"]
    model: str
    rubric: str | None = Field(None, description="rate: wordings file of the judge's system prompt")

    @model_validator(mode="after")
    def _rubric_fits(self) -> Scoring:
        if (self.task == "rate") != (self.rubric is not None):
            raise ValueError("task rate needs a rubric, task classify takes none")
        return self


class Rewards(Part):
    """The scorer of each track, and how many candidates the judge compares pairwise."""

    standard: Scoring
    controversial: Scoring
    comparison_judge: str
    compared_candidates: Annotated[int, Field(ge=2)] = 5


class Selection(Part):
    """How pairs are drawn (report, section 4.1.4)."""

    pairs_per_prompt: Count = 1
    rejected_quantile: Share = 0.2
    min_references: Annotated[int, Field(ge=1)] = 2
    max_sequence_tokens: Count = 4096
    allow_truncated: bool = False


class Warehouse(Part):
    """Limits of the database engine; what is left out comes from the machine."""

    memory_limit: str | None = None
    threads: Count | None = None
    temp_directory: Annotated[
        str | None, Field(description="a folder; queries that outgrow memory spill there")
    ] = None


class Recipe(Part):
    """A whole run in one readable file."""

    name: Name
    description: str
    seed: int
    limit: Annotated[int, Field(ge=1)] | None = None
    wordings: str | None = None
    template_date: Day
    max_prompt_characters: Count
    prompts: tuple[PromptSource, ...] = Field(
        min_length=1, description="the prompt sources; the first keeps a prompt of several"
    )
    personas: Annotated[DatasetReference, needs_columns("persona")]
    human_labels: Annotated[
        DatasetReference | None, needs_columns("prompt", "label", optional=("annotator",))
    ] = None
    licence: Licence
    consent: Consent
    models: dict[Name, Model]
    inference: Inference = Inference()
    controversy: Controversy
    completions: Completions
    rewards: Rewards
    selection: Selection
    warehouse: Warehouse = Warehouse()
    published_prompts: dict[Literal["standard", "controversial"], int] = Field(default_factory=dict)

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @field_validator("prompts")
    @classmethod
    def _sources_have_names_of_their_own(
        cls, prompts: tuple[PromptSource, ...]
    ) -> tuple[PromptSource, ...]:
        names = [source.name for source in prompts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} names two sources; give each its own name")
        return prompts

    @model_validator(mode="after")
    def _names_are_defined(self) -> Recipe:
        used = {
            "controversy.model": (self.controversy.model,),
            "completions.models": self.completions.models,
            "completions.policies": self.completions.policies,
            "completions.standard_charter_models": self.completions.standard_charter_models,
            "rewards.standard.model": (self.rewards.standard.model,),
            "rewards.controversial.model": (self.rewards.controversial.model,),
            "rewards.comparison_judge": (self.rewards.comparison_judge,),
        }
        for place, names in used.items():
            allowed = set(self.completions.models) if "charter" in place else set(self.models)
            for name in names:
                if name not in allowed:
                    raise ValueError(f"{place}: no model {name!r}; defined are {sorted(allowed)}")
            if len(set(names)) < len(names):
                raise ValueError(f"{place}: {list(names)} names a model twice")
        both = set(self.completions.models) & set(self.completions.policies)
        if both:
            raise ValueError(f"completions: {sorted(both)} stand under models and under policies")
        return self

    def resolve(self, path: str) -> Path:
        """Return a path of the recipe, which is relative to the recipe's own file."""
        return Path(os.path.normpath(self._folder / Path(path).expanduser())).absolute()

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the recipe says, defaults included."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def wordings_folder(self) -> Path:
        """The folder of prompt texts: the recipe's, or the package's."""
        return self.resolve(self.wordings) if self.wordings else WORDINGS

    def completion_sampling(self, model: str) -> Sampling:
        """Return the sampling of a model's completions: the recipe's, the model's own on top."""
        own = self.models[model]
        changes = {"max_tokens": own.max_tokens, "temperature": own.temperature}
        given = {key: value for key, value in changes.items() if value is not None}
        return self.completions.sampling.model_copy(update=given)

    def settings(self) -> dict[str, Any]:
        """Return every value that SQL files may name as a parameter, whatever the partition.

        A value is named by its place in the recipe: ``selection.rejected_quantile`` is
        ``$selection_rejected_quantile``. Mappings become DuckDB's MAP. ``$prompts`` is a list of
        structs in the recipe's order, with the parts of a source that are rules: name, track, keep.
        Models, which SQL has no use for, are left out.
        """
        rules = [
            {"name": source.name, "track": source.track, "keep": _as_map(source.keep)}
            for source in self.prompts
        ]
        return {**dict(_settings_of(self)), "prompts": rules}


def _as_map(values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return a mapping in the form that DuckDB reads as a MAP."""
    lists = [list(value) if isinstance(value, tuple) else value for value in values.values()]
    return {"key": list(values), "value": lists}


def _settings_of(part: BaseModel, place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in part:
        named = f"{place}{name}"
        if isinstance(value, BaseModel):
            yield from _settings_of(value, f"{named}_")
        elif isinstance(value, tuple):
            if not any(isinstance(entry, BaseModel) for entry in value):
                yield named, list(value)
        elif isinstance(value, dict):
            if not any(isinstance(entry, BaseModel) for entry in value.values()):
                yield named, _as_map(value)
        else:
            yield named, value
