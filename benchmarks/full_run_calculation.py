"""What a full run would take on 8, 64 and 512 GPUs: a calculation, not a measurement.

Counts follow from the recipe and the published prompts; speeds are those of `INPUTS`, measured ones
of two cores. Steps that ask engines have all GPUs, one after another, as the pool `engine` has it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.report import Claim, conclude, show

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "apertus.yaml"
SIZES = (8, 64, 512)
PUBLISHED, HOUR = 13_977_587, 3600.0

_PAGE = "docs/performance.md"
_LAMBDA = "Lambda, LLMs inference benchmarks using vLLM (v0.6.0)"
_GPUSTACK = "GPUStack, performance lab, Qwen3 on H100 (vLLM 0.11, no tuning)"
_SHEET = "NVIDIA, H100 data sheet (SXM)"


class Input(NamedTuple):
    """A number, and where it is from: measured here, published, assumed, or a setting of ours."""

    value: float
    unit: str
    kind: str
    source: str


INPUTS = {
    "graded prompts": Input(402_346, "", "assumed", f"as many as in {_PAGE}: full_scale"),
    "answer": Input(500, "tokens", "assumed", "AlpacaEval 2, Llama 3.1 70B: 2,044 characters"),
    "prompt": Input(250, "tokens", "assumed", "without rubrics, which the prefix cache has"),
    "grade": Input(150, "tokens", "assumed", "its reasoning, of at most 2,000 characters"),
    "characters a token": Input(4, "", "assumed", "English"),
    "write, 8B": Input(8_088, "tokens/s a GPU", "published", f"{_LAMBDA}, 1 GPU"),
    "write, 70B": Input(3_543 / 4, "tokens/s a GPU", "published", f"{_LAMBDA}, 4 GPUs"),
    "write, 14B": Input(3_174, "tokens/s a GPU", "published", _GPUSTACK),
    "write, 32B": Input(1_132, "tokens/s a GPU", "published", f"{_GPUSTACK}, 1 GPU"),
    "read, 14B": Input(10_597, "tokens/s a GPU", "published", f"{_GPUSTACK}, 2,000 in, 100 out"),
    "read, 32B": Input(3_195, "tokens/s a GPU", "published", f"{_GPUSTACK}, 2,000 in, 100 out"),
    "log-probabilities, of reading": Input(0.5, "", "assumed", "1,024 tokens a step, no cache"),
    "memory": Input(3.35e12, "bytes/s a GPU", "published", _SHEET),
    "start of engines": Input(250, "s", "published", "vLLM issue 19824 (70B), 1st request too"),
    "client": Input(9_269, "requests/s", "measured", f"{_PAGE}: endpoint_client, no latency"),
    "bytes a KB of text, spool": Input(524, "bytes", "measured", f"{_PAGE}: stored_spool"),
    "bytes a score, spool": Input(100, "bytes", "assumed", ""),
    "objects read": Input(11.9e-3, "s each", "measured", f"{_PAGE}: stored_spool, fetched, merged"),
    "files read": Input(41.7 / 20_000, "s each", "measured", f"{_PAGE}: small_files, merged"),
    "put": Input(5, "s", "setting", "docs/architecture.md: an object, or 1,000 answers"),
    "flush": Input(60, "s", "setting", "docs/architecture.md: a file, or 4,096 answers"),
    "objects of a prefix": Input(3_500, "PUT/s", "published", "Amazon S3, optimizing performance"),
    "count tokens": Input(1_924, "rows/s", "measured", f"{_PAGE}: policy_tokens, 2 KB a row"),
    "bytes of text": Input(298, "a KB", "measured", f"{_PAGE}: full_scale, completions"),
    "bytes of ids": Input(400 - 298 + 58 + 43, "", "measured", f"{_PAGE}: full_scale, 3 tables"),
    "lake, commit": Input(0.23, "s a million", "measured", f"{_PAGE}: lake_writers, turn held"),
    "file, held": Input(5.04, "s a million", "measured", f"{_PAGE}: lake_writers, turn held"),
    "processes of Dagster": Input(60 * 3, "s", "assumed", "60 partitions, 3 s each"),
}
# Seconds of benchmarks.full_scale: 9,445,237 completions of 1 KB, one policy, two cores.
ROWS = 9_445_237
PROMPTS = 19.8 + 18.5
REQUESTS_AND_REWARDS, COMPLETIONS = 64.1 + 64.8 + 57.6, 117.0 + 105.0
POLICY = 33.4 + 24.5 + 6.8 + 2.2 + 22.9  # comparisons and ranks, quantiles, pairs, the reports
TRAINING_ROWS, EXPORT = 28.3 + 15.6, 242.0  # of a policy, with texts of 1 KB
# MiB of its file: prompts, a policy's rows, a policy's texts.
PROMPTS_MIB, POLICY_MIB, TEXTS_MIB = 117 + 252, 218 + 288 + 32, 342 + 408


@dataclass(frozen=True)
class Part:
    """Requests to a model: tokens that each reads uncached and writes; slow: log-probabilities."""

    name: str
    model: str
    requests: int
    read: float = 0.0
    write: float = 0.0
    steps: int = 1
    text: bool = False
    slow: bool = False


class Calculation:
    """The run of a recipe, for answers of some length and a machine of some cores."""

    def __init__(self, recipe: dict[str, Any], answer: float, cores: int) -> None:
        self.models: dict[str, Any] = recipe["models"]
        self.policies: list[str] = recipe["completions"]["policies"]
        self.answer, self.cores = answer, cores
        self.kilobytes = answer * value("characters a token") / 1000
        self.parts = list(self._parts(recipe))
        self.completions = sum(part.requests for part in self.parts if part.text)

    def _parts(self, recipe: dict[str, Any]) -> Iterator[Part]:
        asked, rewards = recipe["completions"], recipe["rewards"]
        standard, controversial = recipe["published_prompts"].values()
        models, many, answer = asked["models"], len(self.policies), self.answer
        grader, judge = recipe["controversy"]["model"], rewards["controversial"]["model"]
        samples = asked["reference_completions"]
        grades = int(value("graded prompts"))
        yield Part("grading of prompts", grader, grades, write=value("grade"))
        made = samples * (standard + controversial) * many
        for model in models:
            variants = len(asked["standard_variants"]) + (model in asked["standard_charter_models"])
            count = standard * variants + controversial * len(asked["controversial_variants"])
            made += count
            yield Part(f"completions, {model}", model, count, write=answer, text=True)
        for policy in self.policies:
            count = samples * (standard + controversial)
            yield Part(f"samples, {policy}", policy, count, write=answer, text=True)
        both, steps = value("prompt") + answer, len(models) + many
        rated = len(asked["controversial_variants"]) * len(models) + samples * many
        rated *= controversial
        scorer = rewards["standard"]["model"]
        yield Part("rewards, reward model", scorer, made - rated, both, steps=steps)
        yield Part("rewards, judge", judge, rated, both, steps=steps)
        best = rewards["compared_candidates"]
        compared = controversial * best * (best - 1) * many
        yield Part("comparisons, judge", judge, compared, both + answer, steps=many)
        sides = 2 * (standard + controversial)
        for policy in self.policies:
            yield Part(f"log-probabilities, {policy}", policy, sides, both, slow=True)

    def gpus(self, part: Part) -> int:
        """Return how many GPUs one engine of a part takes, as the recipe says."""
        return int(self.models[part.model]["backend"]["vllm"]["gpus"])

    def rate(self, part: Part, what: str) -> float:
        """Return the tokens/s of a GPU; of the next published size, by billions, if not of this."""
        billions = float(self.models[part.model]["billions"])
        sizes = [float(name[len(what) + 2 : -1]) for name in INPUTS if name.startswith(what + ",")]
        nearest = min(sizes, key=lambda size: abs(size - billions))
        return value(f"{what}, {nearest:.0f}B") * nearest / billions

    def gpu_seconds(self, part: Part) -> float:
        """Return what a part keeps one GPU busy for."""
        slower = value("log-probabilities, of reading") if part.slow else 1
        reading = part.read / self.rate(part, "read") / slower
        return part.requests * (reading + part.write / self.rate(part, "write"))

    def waiting(self, part: Part, longest: int) -> float:
        """Return for how long GPUs wait for starts, and for the longest answer (roofline)."""
        weights = 2e9 * self.models[part.model]["billions"] / self.gpus(part)
        tail = longest * weights / value("memory") if part.text else 0.0
        return part.steps * (value("start of engines") + tail)

    def files(self, part: Part, stored: bool) -> float:
        """Return how many files engines of a part leave in the spool before any is merged."""
        every, rows = (value("put"), 1000) if stored else (value("flush"), 4096)
        engine_seconds = self.gpu_seconds(part) / self.gpus(part)
        return max(engine_seconds / every, part.requests / rows)

    def sizes(self) -> tuple[float, float]:
        """Return the bytes of all answers in the spool, and of all tables in a DuckDB file."""
        spool = self.completions * self.kilobytes * value("bytes a KB of text, spool")
        scores = sum(part.requests for part in self.parts if not part.text)
        row = value("bytes of ids") + value("bytes of text") * self.kilobytes
        policy = POLICY_MIB + TEXTS_MIB * self.kilobytes
        tables = self.completions * row + 2**20 * (PROMPTS_MIB + len(self.policies) * policy)
        return spool + scores * value("bytes a score, spool"), tables

    def other_seconds(self, stored: bool) -> dict[str, float]:
        """Return what is done without engines, on two cores, and tokens on all."""
        files = sum(self.files(part, stored) for part in self.parts)
        larger, many = self.completions / ROWS, len(self.policies)
        tables = PROMPTS + larger * (REQUESTS_AND_REWARDS + self.kilobytes * COMPLETIONS)
        tables += many * (POLICY + self.kilobytes * TRAINING_ROWS)
        # Measured with 1 KB of prompt and 1 KB of answer; policies with one tokenizer share counts.
        tokens = self.completions * (1 + self.kilobytes) / value("count tokens") / self.cores
        return {
            "spool: files fetched, merged": files
            * value("objects read" if stored else "files read"),
            f"tokens of candidates, {self.cores} cores": tokens,
            "tables, from prompts to pairs": tables,
            "export, all formats": many * self.kilobytes * EXPORT,
            "processes of Dagster": value("processes of Dagster"),
        }


def value(name: str) -> float:
    """Return an input's number."""
    return INPUTS[name].value


def _hours(*seconds: float) -> list[str]:
    return [f"{each / HOUR:,.{1 if each < 100 * HOUR else 0}f}" for each in seconds]


def main() -> None:
    """Show inputs, hours of each part, rates and bytes; fail where counts are not the published."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answer-tokens", type=float, default=value("answer"))
    parser.add_argument("--cores", type=int, default=2)
    chosen = parser.parse_args()
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    run = Calculation(recipe, chosen.answer_tokens, chosen.cores)

    inputs = [[name, each.value, *each[1:]] for name, each in INPUTS.items()]
    show("inputs", ["", "value", "unit", "kind", "source"], inputs)
    busy = {part: run.gpu_seconds(part) for part in run.parts}
    longest = recipe["completions"]["sampling"]["max_tokens"]
    waits = sum(run.waiting(part, longest) for part in run.parts)
    engines = [sum(busy.values()) / size + waits for size in SIZES]
    others = [run.other_seconds(stored=size > SIZES[0]) for size in SIZES]
    rest = [sum(other.values()) for other in others]
    rows: list[list[object]] = [
        [part.name, part.requests, *_hours(busy[part], *(busy[part] / size for size in SIZES))]
        for part in run.parts
    ]
    rows.append(["starts, longest answers", "", "", *_hours(*[waits] * len(SIZES))])
    rows.append(["engines, in all", "", *_hours(sum(busy.values()), *engines)])
    for name in others[0]:
        rows.append([name, "", "", *_hours(*(other[name] for other in others))])
    rows.append(["without engines, in all", "", "", *_hours(*rest)])
    ends = [sum(both) for both in zip(engines, rest, strict=True)]
    rows.append(["one after another", "", "", *_hours(*ends)])
    show("hours (calculated)", ["", "requests", "GPU hours", *map(str, SIZES)], rows)
    rates = []
    for part in run.parts:
        speeds = [part.requests / busy[part] * size for size in SIZES]
        objects = run.files(part, stored=True)
        rates.append([part.name, *speeds, objects / busy[part] * SIZES[-1], objects])
    columns = [f"requests/s, {size}" for size in SIZES] + [f"PUT/s, {SIZES[-1]}", "objects"]
    show("rates (calculated)", ["", *columns], rates)
    largest = max(part.requests for part in run.parts if part.text) / 1e6
    shown: list[list[object]] = [
        ["spool, GB", run.sizes()[0] / 1e9],
        ["database, GB", run.sizes()[1] / 1e9],
        ["spool files, a folder", sum(run.files(part, stored=False) for part in run.parts)],
        ["spool objects, S3", sum(run.files(part, stored=True) for part in run.parts)],
        ["file held for the largest partition, s", run.kilobytes * largest * value("file, held")],
        ["lake's turn for the largest partition, s", largest * value("lake, commit")],
    ]
    show("bytes and limits (calculated)", ["", ""], shown)
    conclude(Claim("completions", run.completions, PUBLISHED, PUBLISHED))


if __name__ == "__main__":
    main()
