"""The recipe: the YAML file that fixes a whole run, as typed and validated models.

Here belong the recipe's fields, their validation and the values it hands to SQL. Reading data,
touching engines and naming assets do not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    JsonValue,
    PrivateAttr,
    field_validator,
    model_validator,
)

from alignment_assets.recipe.consent import Consent, Day, Licence, decisions, evidence
from alignment_assets.recipe.datasets import HumanLabels, Personas, PromptSource
from alignment_assets.recipe.limits import Limits
from alignment_assets.recipe.part import Count, Licensed, Name, Part
from alignment_assets.recipe.running import InferenceSettings, Price, WarehouseSettings
from alignment_assets.recipe.spool_place import check_place
from alignment_assets.recipe.stages import (
    Calibration,
    Completions,
    Controversy,
    Export,
    ReferenceLogprobs,
    Rewards,
    Sampling,
    Selection,
)

# The texts that come along; a recipe can name another folder.
WORDINGS = Path(__file__).resolve().parent / "wordings"


class Model(Part):
    """Weights, how they are asked, and the backend that answers for them."""

    weights: str = Field(
        description="hf:owner/name, a local folder, package:NAME for those that a Python package "
        "carries as GGUF, env:NAME holding one of these, or served:NAME for weights that only "
        "servers know"
    )
    revision: str = Field("main", description="of hub weights; resolved to a commit and recorded")
    backend: dict[str, dict[str, Any]] = Field(
        {"vllm": {}}, description="what answers for the model, and its settings: {vllm: {gpus: 4}}"
    )
    billions: Annotated[
        float, Field(gt=0, description="parameters, in billions; orders partitions")
    ]
    licence: Licensed | None = Field(
        None, description="of the weights, as the hub names it: apache-2.0; exports tell it"
    )
    price: Price | None = Field(
        None, description="of a million tokens, where somebody asks one; forecasts tell the cost"
    )
    family: str | None = Field(
        None,
        description="whose kin the model is, for judge_calibration: by default the owner of its "
        "hub weights",
    )
    max_model_len: Count = Field(8192, description="tokens of prompt and answer together")
    chat_template: str | None = Field(None, description="a file that stands in for the model's own")
    chat_template_arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="what the template is given: {enable_thinking: false}"
    )
    system_prompt: Literal["own_message", "prepend_to_user"] = Field(
        "own_message",
        description="prepend_to_user, for chat templates that leave system messages out: the text "
        "is put before the first user message's",
    )
    max_tokens: Count | None = Field(None, description="overrides completions.sampling")
    temperature: Annotated[float, Field(ge=0)] | None = Field(
        None, description="overrides completions.sampling"
    )

    reasoning: Literal["strip", "reject", "keep"] = Field(
        "strip",
        description="what becomes of an answer that thinks aloud (<think>…</think>): strip takes "
        "the thoughts out of what is scored and trained on, reject makes it a failed one",
    )

    @field_validator("backend")
    @classmethod
    def _one_backend_answers(cls, backend: dict[str, Any]) -> dict[str, Any]:
        if len(backend) != 1:
            raise ValueError(f"names {sorted(backend)}; one backend answers for a model")
        return backend

    @property
    def backend_name(self) -> str:
        """The backend that answers for the model."""
        return next(iter(self.backend))

    @property
    def backend_settings(self) -> dict[str, Any]:
        """What the recipe says to the backend, as written; the backend knows what it means."""
        return self.backend[self.backend_name]


class Recipe(Part):
    """A whole run in one readable file."""

    name: Name = Field(description="of the recipe; the run's folder is data/<name>")
    description: str = Field(description="a sentence for whoever reads the recipe")
    seed: int = Field(description="decides every draw: the same seed, the same draws")
    limit: Annotated[int, Field(ge=1)] | None = Field(
        None, description="how many prompts are taken, by hash; all by default"
    )
    wordings: str | None = Field(
        None, description="folder of your own principles, charter, rubrics and questions"
    )
    wordings_placeholders: dict[str, str] = Field(
        default_factory=dict,
        description="names of placeholders in your wordings: ours, as in {user_prompt: prompt}",
    )
    template_date: Day = Field(description="the day that chat templates are told, as YYYY-MM-DD")
    max_prompt_characters: Count = Field(description="longer prompts are dropped")
    max_row_bytes: Count = Field(
        16 * 2**20, description="of a row of a dataset; a larger one is malformed, and not held"
    )
    placeholders: tuple[str, ...] = Field(
        ("EMPTY STRING", "N/A", "None", "null", "-"),
        description="texts that stand for no prompt or no persona, whatever their case",
    )
    prompts: tuple[PromptSource, ...] = Field(
        min_length=1, description="the prompt sources; the first keeps a prompt of several"
    )
    personas: Personas = Field(
        description="who the persona variant speaks as; columns: {persona: theirs}"
    )
    human_labels: HumanLabels | None = Field(
        None,
        description="people's grades, 0 to 3; columns: {prompt: theirs, label: theirs, annotator: "
        "theirs}; prompt_id can stand for prompt, and annotator may be left out",
    )
    licence: Licence
    consent: Consent
    models: dict[Name, Model] = Field(
        description="every model that answers, grades, scores or judges, by a name of your own",
        json_schema_extra={"additionalProperties": False},
    )
    inference: InferenceSettings = InferenceSettings()
    limits: Limits = Limits()
    controversy: Controversy
    completions: Completions
    rewards: Rewards
    calibration: Calibration = Calibration()
    selection: Selection
    reference_logprobs: ReferenceLogprobs = ReferenceLogprobs()
    export: Export = Export()
    warehouse: WarehouseSettings = WarehouseSettings()
    spool: Annotated[str, AfterValidator(check_place)] | None = Field(
        None,
        description="where answers are kept for several machines: a folder that they share, or "
        "s3://bucket/prefix; by default the home's own folder",
    )
    published_prompts: dict[Literal["standard", "controversial"], int] = Field(
        default_factory=dict, description="what a report had; shown beside the run's own numbers"
    )

    _file: Path = PrivateAttr(default_factory=lambda: Path.cwd() / "recipe.yaml")

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
    def _accuracy_has_labels(self) -> Recipe:
        for field in ("min_accuracy", "min_kappa"):
            if getattr(self.controversy, field) is not None and self.human_labels is None:
                raise ValueError(
                    f"controversy.{field}: nothing is compared without human_labels; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _names_are_defined(self) -> Recipe:
        calibrated = self.calibration.model
        used = {
            "controversy.model": (self.controversy.model,),
            "controversy.trials.models": self.controversy.trials.models,
            "completions.models": self.completions.models,
            "completions.policies": self.completions.policies,
            "completions.standard_charter_models": self.completions.standard_charter_models,
            "rewards.standard.model": (self.rewards.standard.model,),
            "rewards.controversial.model": (self.rewards.controversial.model,),
            "rewards.comparison_judge": (self.rewards.comparison_judge,),
            "calibration.model": () if calibrated is None else (calibrated,),
            "selection.model_order": self.selection.model_order,
        }
        some = {
            "completions.standard_charter_models": set(self.completions.models),
            "calibration.model": set(self.completions.models),
            "selection.model_order": {*self.completions.models, *self.completions.policies},
        }
        for place, names in used.items():
            allowed = some.get(place, set(self.models))
            for name in names:
                if name not in allowed:
                    raise ValueError(f"{place}: no model {name!r}; defined are {sorted(allowed)}")
            if len(set(names)) < len(names):
                raise ValueError(f"{place}: {list(names)} names a model twice")
        columns = self.members.keys() - {"candidate", "scorer"}  # which have no limits
        members = {name for column in columns for name in self.members[column]}
        strangers = sorted(set(self.limits.exceptions) - members)
        if strangers:
            raise ValueError(
                f"limits.exceptions: {', '.join(strangers)} is no source, model or policy; there "
                f"are {', '.join(sorted(members))}"
            )
        both = set(self.completions.models) & set(self.completions.policies)
        if both:
            raise ValueError(f"completions: {sorted(both)} stand under models and under policies")
        return self

    @property
    def file(self) -> Path:
        """The file that it was read from."""
        return self._file

    def resolve(self, path: str) -> Path:
        """Return a path of the recipe, which is relative to the recipe's own file."""
        return Path(os.path.normpath(self.file.parent / Path(path).expanduser())).absolute()

    def chat_template(self, model: Model) -> str | None:
        """Return the chat template that stands in for a model's own; None if none does."""
        if model.chat_template is None:
            return None
        return self.resolve(model.chat_template).read_text("utf-8")

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the recipe says, defaults included."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def wordings_folder(self) -> Path:
        """The folder of prompt texts: the recipe's, or the package's."""
        return self.resolve(self.wordings) if self.wordings else WORDINGS

    @property
    def answering_models(self) -> list[str]:
        """The models and the policies, largest first: a backfill starts with what takes longest."""
        return self._largest_first(self.completions.models + self.completions.policies)

    @property
    def policies(self) -> list[str]:
        """The policies, largest first."""
        return self._largest_first(self.completions.policies)

    @property
    def members(self) -> dict[str, list[str]]:
        """Whom the recipe has, by the column of tables that names them, such as `dataset`."""
        return {
            "dataset": [source.name for source in self.prompts],
            "candidate": list(self.controversy.candidates),
            "scorer": list(self.rewards.scorers),
            "model": self.answering_models,
            "policy": self.policies,
        }

    def _largest_first(self, names: tuple[str, ...]) -> list[str]:
        return sorted(names, key=lambda name: (-self.models[name].billions, name))

    @property
    def calibration_model(self) -> str:
        """Whose answers scorers are tried on."""
        return self.calibration.model or self._largest_first(self.completions.models)[0]

    @property
    def _measured_models(self) -> list[str]:
        """Whose kinship matters: those that answer, and those that score."""
        scorers = (scorer.model for scorer in self.rewards.scorers.values())
        return sorted({*self.completions.models, *scorers})

    def family(self, name: str) -> str:
        """Return whose kin a model is: what the recipe says, or the owner of its weights.

        Weights without an owner, such as those of a folder, are kin of themselves alone.
        """
        model = self.models[name]
        owner, slash, _ = model.weights.removeprefix("hf:").partition("/")
        is_owned = model.weights.startswith("hf:") and slash
        return (model.family or (owner if is_owned else model.weights)).lower()

    def variants(self, model: str) -> dict[str, list[str]]:
        """Return the variants that a model answers under on each track (report, section 4.1.4).

        A policy gives reference completions only. Of the models, those named for it also answer
        standard prompts with the charter.
        """
        asked = self.completions
        if model in asked.policies:
            return {"standard": ["reference"], "controversial": ["reference"]}
        charter = ["charter"] if model in asked.standard_charter_models else []
        return {
            "standard": [*asked.standard_variants, *charter],
            "controversial": list(asked.controversial_variants),
        }

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
        Who answers has no order. Of models, ``$models_reasoning`` alone is there, by their names.
        Of rules of consent the decision and the evidence stand in a MAP each.
        """
        rules = [
            {"name": source.name, "track": source.track, "keep": _as_map(source.keep)}
            for source in self.prompts
        ]
        asked, consent = self.completions, self.consent
        return {
            **dict(_settings_of(self)),
            "prompts": rules,
            "calibration_model": self.calibration_model,
            "models_family": _as_map({name: self.family(name) for name in self._measured_models}),
            "controversy_candidates": list(self.controversy.candidates),
            "consent_sources": _as_map(decisions(consent.sources)),
            "consent_sources_evidence": _as_map(evidence(consent.sources)),
            "consent_subsets": _as_map(decisions(consent.subsets)),
            "consent_subsets_evidence": _as_map(evidence(consent.subsets)),
            "completions_models": sorted(asked.models),
            "completions_policies": sorted(asked.policies),
            "models_reasoning": _as_map(
                {name: self.models[name].reasoning for name in self.answering_models}
            ),
        }


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
