"""What a recipe says of the stages that ask models or select: grades, answers, scores, pairs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from alignment_assets.host.paths import project_folder
from alignment_assets.recipe.part import Count, Part, Share

Variant = Literal["default", "principle", "persona", "charter"]
GraderWording = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Sampling(Part):
    """Sampling parameters; all reach the engine, so none comes from a model's own defaults."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, description="0 is off")] = 0
    min_p: Share = 0.0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_tokens: Count = Field(4096, description="of an answer; what is longer is cut off")

    def as_json(self) -> str:
        """Return the parameters as canonical JSON, the form that a request's id hashes."""
        return json.dumps(self.model_dump(), sort_keys=True)


class Trials(Part):
    """Candidates for the grader, tried on the prompts that people have labelled: a grid."""

    models: Annotated[
        tuple[str, ...], Field(description="names under models; the grader's by default")
    ] = ()
    wordings: Annotated[
        tuple[GraderWording, ...],
        Field(description="as controversy.wording; the grader's by default"),
    ] = ()


@dataclass(frozen=True)
class Candidate:
    """A model and a wording that grade, or may.

    Attributes:
        model: a name under models.
        wording: of its instruction; no dot is in it.
    """

    model: str
    wording: str

    @property
    def name(self) -> str:
        """What partitions and rows call it."""
        return f"{self.model}.{self.wording}"


class Controversy(Part):
    """The grader (report, section 4.1.4). The fold's threshold is not published: ours."""

    model: str = Field(description="a name under models")
    wording: GraderWording = Field(
        "controversy",
        description="the grader's instruction: the wordings NAME_system.txt and NAME_question.txt",
    )
    threshold: Annotated[int, Field(ge=1, le=3)] = Field(
        2, description="the lowest grade, of 0 to 3, that makes a prompt controversial"
    )
    attempts: Count = Field(
        3, description="how often a prompt is asked while its grade cannot be read"
    )
    reasoning_characters: Count = Field(1000, description="the longest reasoning of a grade")
    trials: Trials = Trials()
    min_accuracy: Share | None = Field(
        None,
        description="of grades against the majority of people, at the threshold; prompts are not "
        "graded by who had less in its trial",
    )
    min_kappa: Share | None = Field(
        None, description="Cohen's kappa, as min_accuracy: agreement beyond chance"
    )
    gate_on: Literal["figure", "lower_end"] = Field(
        "figure",
        description="what min_accuracy and min_kappa are held against: the figure of a trial, or "
        "the lower end of its interval of 95%",
    )
    sampling: Sampling

    @property
    def grader(self) -> Candidate:
        """Who grades."""
        return Candidate(self.model, self.wording)

    @property
    def candidates(self) -> dict[str, Candidate]:
        """Whom trials are of, by name: who grades first, then the grid of models and wordings."""
        models = self.trials.models or (self.model,)
        wordings = self.trials.wordings or (self.wording,)
        grid = [Candidate(model, wording) for model in models for wording in wordings]
        return {one.name: one for one in (self.grader, *grid)}

    @property
    def has_gate(self) -> bool:
        """Whether prompts are graded only by who is good enough in its trial."""
        return self.min_accuracy is not None or self.min_kappa is not None

    @model_validator(mode="after")
    def _retries_can_differ(self) -> Controversy:
        if self.attempts > 1 and self.sampling.temperature == 0:
            raise ValueError(
                "attempts above 1 need sampling.temperature above 0, or all answers agree"
            )
        return self


class Completions(Part):
    """Who answers, and under which system prompts (report, section 4.1.4)."""

    models: tuple[str, ...] = Field(
        min_length=1, description="names under models; they answer under every variant"
    )
    policies: tuple[str, ...] = Field(
        min_length=1, description="names under models that are aligned; they give references"
    )
    reference_completions: Count = Field(10, description="of each policy for each prompt")
    standard_variants: tuple[Variant, ...] = Field(
        ("default", "principle"), description="system prompts of answers to standard prompts"
    )
    controversial_variants: tuple[Variant, ...] = Field(
        ("persona", "charter"), description="system prompts of answers to controversial prompts"
    )
    stripped: bool = Field(
        False,
        description="whether white space around an answer's text is taken off before it is scored "
        "and trained on; by default texts stay as they come",
    )
    standard_charter_models: tuple[str, ...] = Field(
        (), description="of completions.models, those that answer standard prompts by charter too"
    )
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


class Scorer(Part):
    """How one track is scored: what is asked of which model, by which rubric if by one."""

    task: str = Field(
        description="a file in sql/requests/rewards, without its .sql",
        # Those that come along: a file of somebody's own changes no generated file.
        examples=["classify", "rate"],
    )
    model: str = Field(description="a name under models")
    rubric: Annotated[str | None, Field(pattern=r"^\w[\w.-]*$")] = Field(
        None, description="wordings file of the judge's system prompt, without its .txt"
    )

    thinking_tokens: Count | None = Field(
        None,
        description="for a judge that thinks aloud before it answers: so many tokens it may take, "
        "and its label is read after </think>",
    )

    @field_validator("task")
    @classmethod
    def _task_is_a_file(cls, task: str) -> str:
        tasks = _scorer_tasks()
        if task not in tasks:
            raise ValueError(f"no task {task!r}; sql/requests/rewards has {sorted(tasks)}")
        return task

    @model_validator(mode="after")
    def _rubric_fits(self) -> Scorer:
        by_rubric = "$rubric" in _scorer_tasks()[self.task].read_text(encoding="utf-8")
        if by_rubric != (self.rubric is not None):
            raise ValueError(f"task {self.task} {'needs a' if by_rubric else 'takes no'} rubric")
        return self


def _scorer_tasks() -> dict[str, Path]:
    folder = project_folder("sql") / "requests" / "rewards"
    return {path.stem: path for path in folder.glob("*.sql")}


class Rewards(Part):
    """The scorer of each track, and how many candidates the judge compares pairwise."""

    standard: Scorer
    controversial: Scorer
    comparison_judge: str = Field(
        description="a name under models; it compares the best controversial candidates in pairs"
    )
    judge_sees_question: bool = Field(
        True,
        description="whether judges are shown the prompt: their questions have {prompt}, or have "
        "it not",
    )
    min_score_mass: Share = Field(
        0.01,
        description="probability that a judge's answer gives all labels together, at least; below "
        "it there is no score, and no comparison",
    )
    comparison_thinking_tokens: Count | None = Field(
        None, description="as thinking_tokens of a scorer, for the judge of comparisons"
    )
    compared_candidates: Annotated[int, Field(ge=2)] = Field(
        5, description="how many of the best of each prompt are compared"
    )

    @property
    def scorers(self) -> dict[str, Scorer]:
        """The scorer of each track."""
        return {"standard": self.standard, "controversial": self.controversial}


Measure = Literal[
    "ladder_spearman",
    "ladder_kendall",
    "pairwise_spearman",
    "pairwise_kendall",
    "step_seen",
    "ties",
    "label_mass",
    "position_bias",
    "first_preferred",
    "flips",
    "length_correlation",
    "length_slope",
    "own_family",
    "agreement_spearman",
    "agreement_kendall",
    "retest",
]


Bound = Annotated[float, Field(allow_inf_nan=False)]


class Calibration(Part):
    """How scorers and judges are tried before selection goes by their scores."""

    prompts: Annotated[
        int,
        Field(
            ge=0,
            description="of each track, drawn by hash: an answer to each is made worse step by "
            "step, and scorers are asked about all of it; 0 tries nobody",
        ),
    ] = 0
    model: Annotated[
        str | None,
        Field(
            description="of completions.models, whose answers these are, and who makes them worse; "
            "the largest by default"
        ),
    ] = None
    at_least: dict[Measure, Bound] = Field(
        default_factory=dict,
        description="the least that a measure of a scorer may be, {ladder_kendall: 0.3}; with less "
        "nothing is selected by its scores",
    )
    at_most: dict[Measure, Bound] = Field(
        default_factory=dict,
        description="the most that it may be, a bias without its sign: {flips: 0.4}",
    )

    @property
    def has_gate(self) -> bool:
        """Whether selection goes only by scorers that are good enough."""
        return bool(self.at_least or self.at_most)

    @model_validator(mode="after")
    def _bounds_have_ladders(self) -> Calibration:
        if self.has_gate and self.prompts == 0:
            raise ValueError("at_least and at_most hold nobody to anything without prompts")
        for measure in self.at_least.keys() & self.at_most.keys():
            if self.at_least[measure] > self.at_most[measure]:
                raise ValueError(f"{measure}: at_least is above at_most; nothing is between them")
        return self


class Selection(Part):
    """How pairs are drawn (report, section 4.1.4)."""

    strategy: str = Field(
        "published",
        description="a file in sql/selection, without its .sql",
        examples=[
            *("published", "original", "best_worst", "max_margin", "delta", "on_policy_only"),
        ],
    )
    model_order: tuple[str, ...] = Field(
        (), description="models, the strongest first, for the strategy delta"
    )
    pairs_per_prompt: Count = Field(1, description="of each policy, at most")
    rejected_quantile: Share = Field(
        0.2, description="a reward up to this quantile of the references is of the worst band"
    )
    min_references: Annotated[int, Field(ge=1)] = Field(
        2, description="scored references that a prompt needs to be used"
    )
    max_sequence_tokens: Count = Field(
        4096,
        description="of prompt and answer together, as the policy's tokenizer counts the training "
        "row: without what was put before the prompt",
    )
    allow_truncated: bool = Field(False, description="whether answers cut off are candidates")
    references: Literal["all", "eligible"] = Field(
        "all",
        description="which reference completions rewards are compared with: all (ours), or those "
        "that are no longer than allowed, complete and not empty",
    )

    @field_validator("strategy")
    @classmethod
    def _strategy_is_a_file(cls, strategy: str) -> str:
        known = _strategies()
        if strategy not in known:
            folder = project_folder("sql") / "selection"
            raise ValueError(f"no strategy {strategy!r}; name one of {known} or add it to {folder}")
        return strategy

    @model_validator(mode="after")
    def _delta_has_an_order(self) -> Selection:
        if self.strategy == "delta" and len(self.model_order) < 2:
            raise ValueError(
                "the strategy delta takes a stronger model's answer over a weaker model's; name "
                "two models or more as model_order, the strongest first"
            )
        return self


class ReferenceLogprobs(Part):
    """The policy's own log-probabilities, which trainers compare with (DPO, QRPO)."""

    scope: Annotated[
        Literal["selected", "candidates", "none"],
        Field(
            description="of which completions: those in pairs, all candidates that are not too "
            "long, or none; a policy that servers answer for has none",
        ),
    ] = "selected"


class Export(Part):
    """What of the training sets is kept apart for tests."""

    test_share: Annotated[
        float,
        Field(ge=0, lt=1, description="of the prompts, for a split test, by hash; 0 makes none"),
    ] = 0.0


def _strategies() -> list[str]:
    return sorted(path.stem for path in (project_folder("sql") / "selection").glob("*.sql"))
