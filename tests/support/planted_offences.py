"""For each rule of ``sql/checks``, changes to a table that break it and no other rule of the table.

A change is a statement with ``{t}`` for the table, or an assignment to one row of it.
"""

from __future__ import annotations

from alignment_assets.warehouse import sql_files

AGAIN = "INSERT INTO {t} SELECT * FROM {t} LIMIT 1"
LESS = "DELETE FROM {t} WHERE rowid = (SELECT min(rowid) FROM {t})"
SAME = "completion_id = (SELECT max(completion_id) FROM {t}) WHERE variant = 'default'"
PLANTED: dict[str, list[str]] = {
    **{rule: [AGAIN] for rule in sql_files.sql_names("checks") if "/unique_" in rule},
    "alignment_prompts/known_track": ["track = 'both'"],
    "completion_requests/drawn_wording": [
        "wording_hash = NULL WHERE persona_id IS NOT NULL",
        "wording_hash = NULL WHERE principle <> ''",
        "wording_hash = NULL WHERE variant = 'charter'",
        "persona_id = NULL WHERE persona_id IS NOT NULL",
        "principle = NULL WHERE principle <> ''",
        "principle = '' WHERE variant = 'default'",
        "persona_id = uuid() WHERE variant = 'charter'",
    ],
    "completion_requests/unique_completion_id": [SAME],
    "completion_requests/unique_request_id": [SAME.replace("completion_id", "request_id")],
    "completions/every_request": [LESS, "request_id = uuid()"],
    "completions/text_or_error": [
        "text = NULL, error = '' WHERE finish_reason = 'stop'",
        "error = NULL WHERE text IS NULL",
        "error = 'lost' WHERE text IS NOT NULL",
        "finish_reason = 'length' WHERE text IS NULL",
        "finish_reason = 'abort' WHERE text IS NULL",
    ],
    "calibration_answers/value_or_reason": [
        "value = NULL WHERE missing_reason IS NULL",
        "missing_reason = 'lost' WHERE value IS NOT NULL",
    ],
    "controversy_labels/every_prompt": [LESS],
    "controversy_labels/grade_or_unparsable": [
        "grade = NULL WHERE parsed_as = 'json'",
        "grade = 4 WHERE grade = 3",
        "is_controversial = (grade < 2) WHERE grade >= 0",
        "parsed_as = 'guess' WHERE grade >= 0",
        "parsed_as = 'json' WHERE grade IS NULL",
    ],
    "degraded_answers/text_or_reason": ["text_hash = NULL WHERE missing_reason IS NULL"],
    "dpo_pairs/chosen_above_rejected": [
        "chosen_reward = rejected_reward",
        "rejected = chosen",
        "chosen_quantile = -1",
    ],
    "dpo_pairs/every_selected_pair": [LESS, "rejected_completion_id = uuid()"],
    "dpo_pairs/enough_references": ["reference_rewards = reference_rewards[:2]"],
    "grader_trials/grade_or_unparsable": [
        "grade = NULL WHERE parsed_as = 'json'",
        "grade = 4 WHERE grade = 3",
        "parsed_as = 'guess' WHERE grade >= 0",
        "parsed_as = 'json' WHERE grade IS NULL",
    ],
    "human_labels/label_or_reason": ["label = NULL", "label = 4", "malformed_reason = 'no label'"],
    "judge_comparisons/both_orders": [LESS],
    **{
        f"{table}/one_scorer": [
            "UPDATE rewards SET scorer_fingerprint = 'another' "
            "WHERE track = 'controversial' AND model = (SELECT min(policy) FROM {t})"
        ]
        for table in ("judge_comparisons", "quantile_rewards")
    },
    "judge_rankings/complete_positions": [
        "position = 2 WHERE position = 1",
        "position = 99 WHERE position = 1",
        "rank_reward = rank_reward + 1 WHERE position = 1",
    ],
    "judge_rankings/unique_candidate": [
        "UPDATE {t} SET completion_id = other.completion_id "
        "FROM (SELECT * FROM {t} WHERE position = 2 ORDER BY ALL LIMIT 1) AS other WHERE "
        "{t}.position = 1 AND {t}.policy = other.policy AND {t}.prompt_id = other.prompt_id"
    ],
    "licensed_prompts/no_blocked_origin": [
        "origin_url = 'https://river-gazette.example/2024/05/footbridge-tolls'"
    ],
    "licensed_prompts/admitted_by_somebody": [
        "consent_basis = 'robots_txt' WHERE consent_basis = 'source_rule'",
        "consent_basis = 'subset_rule'",
        "consent_basis = 'no_rule'",
    ],
    "licensed_prompts/no_excluded_subset": ["upstream_id = 'flan_v2_1'", "source = 'a/No_Robots'"],
    "licensed_prompts/nothing_lost": [
        LESS,
        "INSERT INTO prompt_exclusions SELECT dataset, row_number, uuid(), '', '', '', '' "
        "FROM {t} LIMIT 1",
        "DELETE FROM source_prompts WHERE dataset IN (SELECT dataset FROM {t} LIMIT 1)",
    ],
    "origin_consent/known_status": [
        "status = 'unsure'",
        "blocked_agents = [] WHERE status = 'blocked'",
        "blocked_agents = ['GPTBot'] WHERE status = 'admitted'",
    ],
    "personas/persona_or_reason": ["persona = NULL"],
    "policy_tokens/counts_or_reason": [
        "prompt_tokens = NULL",
        "completion_tokens = NULL",
        "missing_reason = 'none'",
    ],
    "prompt_exclusions/every_source": [
        "DELETE FROM source_prompts WHERE dataset IN (SELECT dataset FROM {t} LIMIT 1)"
    ],
    "prompt_exclusions/known_rule": ["rule = 'taste'"],
    "qrpo_samples/quantile_of_rewards": ["quantile = quantile + 0.1"],
    "quantile_rewards/band_fits_quantile": [
        "band = NULL WHERE quantile IS NOT NULL",
        "band = 'worst' WHERE band = 'above_all'",
        "band = 'best' WHERE band = 'middle'",
        "band = 'odd' WHERE band = 'middle'",
        "quantile = 1.5 WHERE band = 'middle'",
    ],
    "reference_logprobs/logprob_or_reason": [
        "logprob = NULL WHERE missing_reason IS NULL",
        "logprob = 0.5 WHERE missing_reason IS NULL",
        "completion_tokens = NULL WHERE missing_reason IS NULL",
        "missing_reason = 'none' WHERE missing_reason IS NULL",
    ],
    "reference_logprobs/tokens_as_counted": [
        f"{column} = {column} + 1 WHERE missing_reason IS NULL"
        for column in ("prompt_tokens", "completion_tokens")
    ],
    "rewards/every_completion": [LESS],
    "rewards/every_text_is_asked": ["request_id = NULL WHERE reward IS NOT NULL"],
    "rewards/weighed_in_range": [
        f"{wrong} WHERE reward BETWEEN 1 AND 9 AND task = 'rate'"
        for wrong in ("reward = 9.5", "reward = 0.5", "score_mass = 1.5")
    ],
    "rewards/reward_or_reason": [
        f"{wrong} WHERE reward > 0 AND task = 'classify'"
        for wrong in ("reward = NULL", "reward = 'nan'", "missing_reason = 'none'")
    ],
    "selected_pairs/chosen_above_rejected": [
        "chosen_reward = rejected_reward",
        "rejected_normal_hash = chosen_normal_hash",
        "chosen_quantile = -1",
    ],
    "selected_pairs/no_text_twice": [
        f"INSERT INTO {{t}} SELECT * REPLACE (pair_index + 1 AS pair_index, 7 AS {other}) "
        "FROM {t} LIMIT 1"
        for other in ("chosen_normal_hash", "rejected_normal_hash")
    ],
    "selection_exclusions/every_prompt": [
        "INSERT INTO quantile_rewards SELECT * REPLACE (uuid() AS prompt_id) FROM quantile_rewards "
        "SEMI JOIN {t} USING (policy) LIMIT 1"
    ],
    "selection_exclusions/unique_prompt": [
        AGAIN,
        "INSERT INTO {t} SELECT policy, prompt_id, '', '', 4, 8, 1 FROM selected_pairs LIMIT 1",
    ],
    "source_prompts/prompt_or_reason": [
        "messages = NULL WHERE messages <> []",
        "messages_hash = NULL WHERE messages <> []",
        "messages = [{'role': 'assistant', 'content': 'Yes.'}] WHERE messages <> []",
        "malformed_reason = NULL WHERE messages IS NULL",
    ],
}
