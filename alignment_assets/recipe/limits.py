"""How much of what is read, asked or scored may be lost before a step refuses to publish.

Here belong the limits and their defaults; ``sql/losses`` counts, `warehouse.losses` judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from alignment_assets.recipe.part import Name, Part, Share

LimitName = Literal[
    "malformed",
    "excluded",
    "unparsable",
    "empty",
    "truncated",
    "unscored",
    "massless",
    "uncompared",
    "uncounted",
]


class Limits(Part):
    """The largest shares of loss; a step that loses more publishes nothing (docs/limits.md)."""

    malformed: Annotated[
        Share, Field(description="of the rows of a source, of the personas, of the human labels")
    ] = 0.2
    excluded: Annotated[
        Share,
        Field(description="of the rows of a source, by one rule; limit and repeat are choices"),
    ] = 0.99
    unparsable: Annotated[
        Share, Field(description="of the graded prompts, those without a grade")
    ] = 0.1
    empty: Annotated[
        Share, Field(description="of a model's answers on a track, those that show no text")
    ] = 0.1
    truncated: Annotated[
        Share,
        Field(
            description="of a model's answers on a track, those cut off at max_tokens; none where "
            "selection.allow_truncated"
        ),
    ] = 0.5
    unscored: Annotated[
        Share, Field(description="of a model's texts on a track, those without a reward")
    ] = 0.1
    massless: Annotated[
        Share,
        Field(description="of a model's texts on a track, those below rewards.min_score_mass"),
    ] = 0.1
    uncompared: Annotated[
        Share, Field(description="of a policy's comparisons, those that say nothing")
    ] = 0.1
    uncounted: Annotated[
        Share,
        Field(description="of a policy's candidates, those whose tokens cannot be counted"),
    ] = 0.1
    exceptions: dict[Name, dict[LimitName, Share]] = Field(
        default_factory=dict,
        description="for one source, model or policy: {my_source: {excluded: 1}}",
    )

    def allowed(self, limit: str, part: str | None) -> float:
        """Return a limit, as it is for a source, model or policy."""
        exceptions: Mapping[str, float] = self.exceptions.get(part or "", {})  # type: ignore[assignment]
        return exceptions.get(limit, float(getattr(self, limit)))
