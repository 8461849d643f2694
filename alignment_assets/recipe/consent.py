"""What a recipe says about licence and consent: who is asked, by what evidence, and rules of ours.

Here belong the fields and their validation; the rules are SQL, the evidence is read in ``sources``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from alignment_assets.recipe.part import Part

Decision = Literal["admitted", "refused"]
Day = Annotated[
    str,
    Field(pattern=r"^\d{4}-\d{2}-\d{2}$"),
    AfterValidator(lambda day: date.fromisoformat(day).isoformat()),
]
# A product token with its version, or all that are not named.
Agent = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9_-]+(/[\w.-]+)?)$")]
Named = Annotated[str, Field(min_length=1)]


class Licence(Part):
    """Collections that may not be used (report, section 4.1.4)."""

    excluded_subsets: tuple[Named, ...] = Field(
        description="names of sub-collections, looked for in a row's source and upstream_id"
    )
    excluded_sources: tuple[Named, ...] = Field(
        (), description="whole sources, by their value of `source` or their name in the recipe"
    )


class ConsentRule(Part):
    """What somebody decided about a source or sub-collection, and what they saw."""

    decision: Decision = Field(description="what becomes of rows that robots.txt does not decide")
    evidence: str | None = Field(None, description="where that can be read: a URL")
    date: Day | None = Field(None, description="the day somebody looked, as YYYY-MM-DD")

    @property
    def seen(self) -> str:
        """The evidence and its date as a reader wants them; empty without."""
        return ", ".join(part for part in (self.evidence, self.date) if part)


class DomainList(Part):
    """A list of domains that are kept out, one a line."""

    file: str = Field(description="the list, beside the recipe")
    date: Day = Field(description="the day it is of, as YYYY-MM-DD")


def _long_form(rule: Any) -> Any:
    return {"decision": rule} if isinstance(rule, str) else rule


# By the name of a source or sub-collection; a decision alone will do.
Rules = dict[
    str,
    Annotated[
        ConsentRule, BeforeValidator(_long_form, json_schema_input_type=Decision | ConsentRule)
    ],
]


class Consent(Part):
    """The robots.txt rule (report, Appendix B), and the rules where robots.txt does not decide."""

    agents: tuple[Agent, ...] = Field(
        min_length=1,
        description="crawlers; a page that its robots.txt forbids one of them is blocked. They are "
        "known by their product tokens, CCBot for CCBot/2.0; * stands for those not named",
    )
    robots: str | None = Field(
        None,
        description="snapshots: a folder of <host>.txt, or a table (Parquet, CSV) of host, "
        "fetched_at, http_status, content_type and body",
    )
    scope: Literal["host", "domain"] = Field(
        "domain",
        description="host: a page follows its own host's robots.txt; domain: the strictest of all "
        "hosts under its registrable domain",
    )
    blocked_domains: dict[str, DomainList] = Field(
        default_factory=dict, description="lists of domains that are kept out, by a name of yours"
    )
    unknown_origins: Decision | None = Field(
        None,
        description="what becomes of rows that neither robots.txt nor a rule below decides; "
        "without it they are excluded",
    )
    sources: Rules = Field(
        default_factory=dict,
        description="a decision for the rows of one source that robots.txt does not decide, by its "
        "value of `source` or its name in the recipe",
    )
    subsets: Rules = Field(
        default_factory=dict,
        description="the same for a sub-collection, looked for in a row's source and upstream_id; "
        "it goes before the source's, and of several a refusal counts",
    )


def decisions(rules: Mapping[str, ConsentRule]) -> dict[str, str]:
    """Return what is decided, by the name of the source or sub-collection."""
    return {name: rule.decision for name, rule in rules.items()}


def evidence(rules: Mapping[str, ConsentRule]) -> dict[str, str]:
    """Return what the decisions rest on, where the recipe says so."""
    return {name: rule.seen for name, rule in rules.items() if rule.seen}
