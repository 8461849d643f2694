"""Figures of agreement: those of well-known libraries, and their definitions once more."""

from __future__ import annotations

import csv
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.assets.graders import compare_with_people
from alignment_assets.warehouse import sql_files
from tests.support.agreement_cases import PROMPTS, grade_of, people_of
from tests.support.ids import uid
from tests.support.session import SHARED_DATA
from tests.support.tables import fill, new_warehouse, read_rows

# Of scikit-learn 1.9.1, statsmodels 0.15.0 and krippendorff 0.9.0 on the labels of
# `agreement_cases`, by threshold; the columns are those of FIGURES.
FIGURES = ("accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy")
KAPPAS = ("kappa", "kappa_low", "kappa_high")
EXPECTED = {
    1: (
        *(0.8450704225352113, 0.7434903714672241, 0.9112269572983023, 0.817481884057971),
        *(0.6422354557947778, 0.44994892120468766, 0.834521990384868),
    ),
    2: (
        *(0.8169014084507042, 0.7115182772560875, 0.8897527389571511, 0.8025451559934318),
        *(0.6149353358364622, 0.4272965355476003, 0.8025741361253244),
    ),
    3: (
        *(0.9130434782608695, 0.8229850166105781, 0.9595363787984661, 0.8248847926267281),
        *(0.5766871165644172, 0.2735383396301099, 0.879835893498724),
    ),
}
ALPHA, HUMAN_ALPHA = 0.6540355243592408, 0.6119856514407671

GRADER = {
    "controversy_model": "judge",
    "controversy_wording": "brief",
    "controversy_candidates": ["judge.brief"],
    "controversy_threshold": 2,
}

# Labels by person, and grades, of each prompt.
People = Mapping[str, Mapping[str, int]]
Grades = Mapping[str, int | None]


def agreement(folder: Path, people: People, grades: Grades) -> dict[int, dict[str, Any]]:
    """Return what the product makes of labels and grades, by threshold."""
    warehouse = new_warehouse(folder)
    labels = [
        {"prompt_id": uid(prompt), "annotator": person, "label": label}
        for prompt, labels in people.items()
        for person, label in labels.items()
    ]
    rows = [{"row_number": number, **label} for number, label in enumerate(labels)]
    fill(warehouse, "human_labels", rows)
    with warehouse.get_connection() as connection:
        for prompt, grade in grades.items():
            connection.execute(
                "INSERT INTO controversy_labels BY NAME SELECT $prompt_id::UUID AS prompt_id, "
                "uuid() AS request_id, $grade::TINYINT AS grade, 'grader' AS model, "
                "'' AS raw_answer, 'json' AS parsed_as, 1 AS attempts, 'stop' AS finish_reason",
                {"prompt_id": uid(prompt), "grade": grade},
            )
    with warehouse.stage("controversy_agreement") as staging:
        compare_with_people(staging.connection, "controversy_agreement", GRADER)
        staging.insert(sql_files.read_sql("assets", "controversy_agreement"), GRADER)
        staging.publish(GRADER)
    return {row["threshold"]: row for row in read_rows(warehouse, "FROM controversy_agreement")}


def plain_alpha(ratings: list[list[int]]) -> float:
    """Return Krippendorff's alpha of ordinal ratings, from pairs of ratings of one prompt."""
    units = [unit for unit in ratings if len(unit) > 1]
    numbers = Counter(itertools.chain.from_iterable(units))
    total = sum(numbers.values())

    def distance(one: int, other: int) -> float:
        low, high = min(one, other), max(one, other)
        between = sum(numbers[value] for value in range(low, high + 1))
        return float((between - (numbers[one] + numbers[other]) / 2) ** 2)

    observed = sum(
        distance(one, other) / (len(unit) - 1)
        for unit in units
        for one, other in itertools.permutations(unit, 2)
    )
    everything = [value for unit in units for value in unit]
    expected = sum(
        distance(one, other) * numbers[one] * numbers[other]
        for one, other in itertools.permutations(set(everything), 2)
    )
    return 1 - (total - 1) * observed / expected


def plain_kappa(pairs: list[tuple[bool, bool]]) -> float:
    agree = sum(one == other for one, other in pairs) / len(pairs)
    yes = [sum(pair[place] for pair in pairs) / len(pairs) for place in (0, 1)]
    chance = yes[0] * yes[1] + (1 - yes[0]) * (1 - yes[1])
    return (agree - chance) / (1 - chance)


def folded(people: People, grades: Grades, threshold: int) -> list[tuple[bool, bool]]:
    """Return majority and grade of each prompt that has both."""
    found = []
    for prompt, labels in people.items():
        positive, grade = sum(label >= threshold for label in labels.values()), grades.get(prompt)
        if grade is not None and 2 * positive != len(labels):
            found.append((2 * positive > len(labels), grade >= threshold))
    return found


def check_by_definition(
    people: People, grades: Grades, found: Mapping[int, Mapping[str, Any]]
) -> None:
    """Hold the product's figures against their definitions."""
    graded = {prompt for prompt, grade in grades.items() if grade is not None}
    ratings = [list(labels.values()) for labels in people.values()]
    with_grader = [
        [*labels.values(), grades[prompt]] for prompt, labels in people.items() if prompt in graded
    ]
    for threshold, row in found.items():
        pairs = folded(people, grades, threshold)
        n, share = len(pairs), sum(one == other for one, other in pairs) / len(pairs)
        z = 1.959963984540054
        half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        by_truth = defaultdict(list)
        for truth, grade in pairs:
            by_truth[truth].append(truth == grade)
        wanted = {
            "accuracy": share,
            "accuracy_low": middle - half,
            "accuracy_high": middle + half,
            "balanced_accuracy": sum(sum(hit) / len(hit) for hit in by_truth.values()) / 2,
            "kappa": plain_kappa(pairs),
            "alpha": plain_alpha(with_grader),
            "human_alpha": plain_alpha(ratings),
        }
        for name, value in wanted.items():
            assert row[name] == pytest.approx(value, abs=1e-9), (threshold, name)


def test_figures_are_those_of_the_libraries(tmp_path: Path) -> None:
    people = {
        f"prompt {number}": {f"person {one}": label for one, label in people_of(number).items()}
        for number in range(PROMPTS)
    }
    grades = {f"prompt {number}": grade_of(number) for number in range(PROMPTS)}
    found = agreement(tmp_path, people, grades)
    for threshold, figures in EXPECTED.items():
        row = found[threshold]
        values = [row[name] for name in (*FIGURES, *KAPPAS)]
        assert values == pytest.approx(figures, abs=1e-9), threshold
        assert row["alpha"] == pytest.approx(ALPHA, abs=1e-9)
        assert row["human_alpha"] == pytest.approx(HUMAN_ALPHA, abs=1e-9)
    check_by_definition(people, grades, found)


@pytest.mark.needs("shared_data")
def test_figures_are_their_definitions_on_real_labels(tmp_path: Path) -> None:
    people: dict[str, dict[str, int]] = defaultdict(dict)
    with (SHARED_DATA / "human_labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            people[row["prompt"]][row["annotator"]] = int(row["label"])
    grades: dict[str, int | None] = {
        prompt: (len(prompt) * 7 + number) % 4 if number % 9 else None
        for number, prompt in enumerate(people)
    }
    check_by_definition(people, grades, agreement(tmp_path, people, grades))


def test_what_cannot_be_told_is_null(tmp_path: Path) -> None:
    # All alike: chance would agree always, and there is one kind alone.
    people = {"one": {"a": 0, "b": 0}, "two": {"a": 0, "b": 0}}
    found = agreement(tmp_path / "alike", people, {"one": 0, "two": 0})
    for row in found.values():
        assert row["accuracy"] == 1 and row["accuracy_low"] == pytest.approx(0.3423802275)
        names = ("balanced_accuracy", *KAPPAS, "alpha", "human_alpha")
        assert [row[name] for name in names] == [None] * len(names)
    nothing = agreement(tmp_path / "nothing", {}, {"one": 2})
    assert [row["kappa"] for row in nothing.values()] == [None] * 3
    assert [row["accuracy_low"] for row in nothing.values()] == [None] * 3
