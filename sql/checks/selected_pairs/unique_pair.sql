-- A prompt has one pair of each index.
SELECT policy, prompt_id, pair_index, count(*) AS times
FROM selected_pairs
GROUP BY ALL
HAVING count(*) > 1
