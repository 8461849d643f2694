"""Token counts of training rows: by the policy's own tokenizer, on all cores, nothing held whole.

Here belongs how many tokens; which rows there are, and what becomes of the counts, is SQL. The
processes that count load transformers, this one does not.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.host.expected import Expected
from alignment_assets.inference.chat_encoder import ChatEncoder, answer_begins
from alignment_assets.inference.types import ERROR_CHARACTERS, MESSAGES

# Rows that a process counts at once: a few megabytes.
STRETCH = 1024
UNCOUNTED_SCHEMA = pa.schema([("content_id", pa.string()), ("messages", MESSAGES)])
COUNTED_SCHEMA = pa.schema(
    [
        ("content_id", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("missing_reason", pa.string()),
    ]
)
TOLD_EACH_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class CountingError(Expected):
    """Tokens cannot be counted; the message says of which model and why."""


@dataclass(frozen=True)
class TokenizerSettings:
    """What makes a tokenizer count as it does.

    Attributes:
        folder: has its files.
        chat_template: stands in for its own.
        chat_template_arguments: what the template is given besides the messages.
        template_date: the day that templates which write a date are told.
    """

    folder: str
    chat_template: str | None
    chat_template_arguments: dict[str, Any]
    template_date: str


def count_tokens(
    settings: TokenizerSettings,
    uncounted: Path,
    counted: Path,
    report: Callable[[str], None],
    processes: int | None = None,
) -> None:
    """Count the tokens of training rows.

    Args:
        settings: of the tokenizer.
        uncounted: a Parquet file with the columns of `UNCOUNTED_SCHEMA`; each conversation ends
            with the answer.
        counted: the file to write, with the columns of `COUNTED_SCHEMA`, in any order; a row that
            the template or the tokenizer refuses has the reason.
        report: told every half minute how far it is.
        processes: how many count; one for each core by default.

    Raises:
        CountingError: the tokenizer cannot be loaded, or a process died.
    """
    with pq.ParquetFile(uncounted) as file:
        stretches, rows = file.metadata.num_row_groups, file.metadata.num_rows
    count = max(1, min(processes or len(os.sched_getaffinity(0)), stretches))
    context = multiprocessing.get_context("spawn")
    # Each process is one of many: a library's own threads would only get in the way.
    environment = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    arguments = (json.dumps(asdict(settings)), environment, os.getpid())
    pool = ProcessPoolExecutor(count, context, _begin, arguments)
    done, told_at = 0, time.monotonic()
    try:
        with pq.ParquetWriter(counted, COUNTED_SCHEMA, compression="zstd") as writer:
            work = (pool.submit(_count, str(uncounted), number) for number in range(stretches))
            for batch in _as_done(work, 2 * count):
                writer.write_batch(batch)
                done += batch.num_rows
                if time.monotonic() - told_at >= TOLD_EACH_SECONDS:
                    told_at = time.monotonic()
                    report(f"{done:,} of {rows:,} training rows counted")
    except BrokenProcessPool as error:
        raise CountingError(
            f"{settings.folder}: a process that counts tokens died as it loaded the tokenizer, or "
            f"for want of memory; its words are above"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _as_done(work: Iterator[Future[Any]], at_once: int) -> Iterator[Any]:
    """Yield results as they come, with so many in the making that no process waits."""
    running: set[Future[Any]] = set()
    while True:
        while len(running) < at_once and (future := next(work, None)) is not None:
            running.add(future)
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)


_encoder: ChatEncoder


def _begin(settings: str, environment: dict[str, str], parent: int) -> None:
    """Load the tokenizer into this process, which ends with its parent however that ends."""
    global _encoder
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's affair
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # Transformers does without what it does not find: tokenizers need no torch, which takes most of
    # the time and memory to load. It says so on the terminal otherwise.
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    sys.modules["torch"] = None  # type: ignore[assignment]
    from transformers import AutoTokenizer

    given = TokenizerSettings(**json.loads(settings))
    tokenizer = AutoTokenizer.from_pretrained(given.folder, trust_remote_code=False)
    _encoder = ChatEncoder(
        tokenizer, given.chat_template, given.chat_template_arguments, given.template_date
    )


def _count(path: str, number: int) -> pa.RecordBatch:
    """Count a stretch of a file."""
    with pq.ParquetFile(path) as file:
        rows = file.read_row_group(number)
    ids = rows.column("content_id").to_pylist()
    counts = _counts(_encoder, rows.column("messages").to_pylist())
    columns = [ids, *map(list, zip(*counts, strict=True))]
    arrays = [
        pa.array(values, field.type) for values, field in zip(columns, COUNTED_SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=COUNTED_SCHEMA)


Counts = tuple[int | None, int | None, str | None]


def _counts(encoder: ChatEncoder, conversations: Sequence[list[dict[str, str]]]) -> list[Counts]:
    """Return tokens of prompt and answer of each conversation, or why there are none."""
    found: list[Counts] = [(None, None, None)] * len(conversations)
    texts: list[tuple[int, str, str]] = []
    known: dict[str, str] = {}
    for place, messages in enumerate(conversations):
        try:
            # The answers to one prompt are neighbours, and begin alike.
            prompt = json.dumps(messages[:-1])
            before = known.get(prompt) or encoder.before_answer(messages[:-1])
            known[prompt] = before
            texts.append((place, before, encoder.with_answer(messages)))
        except ValueError as error:
            found[place] = (None, None, str(error)[:ERROR_CHARACTERS])
    befores = list(dict.fromkeys(before for _, before, _ in texts))
    try:
        encoded = encoder.training_tokens([*befores, *(whole for _, _, whole in texts)])
    except Exception as error:  # a tokenizer may fail of some text in any way
        if len(conversations) > 1:  # no other suffers
            return [_counts(encoder, [messages])[0] for messages in conversations]
        return [(None, None, f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS])]
    begin = dict(zip(befores, encoded, strict=False))
    for (place, before, _), whole in zip(texts, encoded[len(befores) :], strict=True):
        begins = answer_begins(begin[before], whole)
        found[place] = (begins, len(whole) - begins, None)
    return found
