"""Which answers of a spool folder count, in SQL over its files.

The variables ``answer_files`` and ``answer_limits`` (`FINAL`: ``$files`` and ``$limits``) name the
files and the limits that refusals stand under. Which files there are is `spool`'s part.
"""

from __future__ import annotations

from alignment_assets.inference.types import ANSWER_SCHEMA, PROBABILITY_SLACK

_FILES = """read_parquet(
    getvariable('answer_files'), union_by_name = true, filename = true, file_row_number = true)"""
# The id of an answered request, whose text is a UUID, or in older files the whole sha256; what is
# neither answers nothing.
ANSWERED_ID = "try_cast(left(replace(request_id, '-', ''), 32) AS UUID)"
# False for what `accepted` turns down, which files of earlier versions may hold as final.
_MASS = "list_sum(list_transform(label_logprobs, lambda entry: exp(least(entry.logprob, 700))))"
_POSSIBLE = (
    f"coalesce(isfinite(value), true) AND coalesce({_MASS} <= 1 + {PROBABILITY_SLACK}, true)"
)
# Answers that do not count. A refusal does not if no engine has its limits now. Of several answers
# to one request one counts: a final one (`stop`, `length`) before a refusal, a refusal before a
# failure, and among equals the first in file order; it supersedes the others. Only narrow columns
# are read here: texts are read when rows are made of them.
_STANDS = f"""(
    finish_reason IN ('stop', 'length', 'failed')
    OR list_contains(getvariable('answer_limits')::VARCHAR[], engine_settings)
) AND {_POSSIBLE}"""
SUPERSEDED = f"""
CREATE OR REPLACE TEMP TABLE superseded AS
SELECT filename, file_row_number
FROM (SELECT *, {_STANDS} AS stands FROM {_FILES})
QUALIFY NOT stands OR row_number() OVER (
    PARTITION BY {ANSWERED_ID}
    ORDER BY
        NOT stands, finish_reason NOT IN ('stop', 'length'), finish_reason = 'failed',
        filename, file_row_number
) > 1
"""
# Whether there are any, in a third of the time.
ANY_SUPERSEDED = f"""
SELECT 1
FROM (SELECT {ANSWERED_ID} AS id, {_STANDS} AS stands FROM {_FILES})
GROUP BY id
HAVING count(*) > 1 OR NOT bool_and(stands)
LIMIT 1
"""
ANSWERS = f"""
CREATE OR REPLACE TEMP VIEW answers AS
SELECT {", ".join(ANSWER_SCHEMA.names).replace("request_id", f"{ANSWERED_ID} AS request_id")}
FROM {_FILES}"""
# A join with a table that is empty would cost nothing, but mislead what plans the joins after it.
WITHOUT_SUPERSEDED = " ANTI JOIN superseded USING (filename, file_row_number)"

FINAL = f"""
CREATE OR REPLACE TEMP TABLE final AS
SELECT {ANSWERED_ID} AS request_id
FROM read_parquet($files)
WHERE {ANSWERED_ID} IS NOT NULL AND {_POSSIBLE} AND (
    finish_reason IN ('stop', 'length')
    OR (finish_reason <> 'failed' AND list_contains($limits, engine_settings)))
"""
