-- The positions of a prompt's ranked candidates are 1 to their number, and the ranks add up to theirs.
SELECT policy, prompt_id, count(position) AS ranked
FROM judge_rankings
GROUP BY ALL
HAVING count(DISTINCT position) <> count(position)
    OR max(position) <> count(position)
    OR abs(sum(rank_reward) - count(position) * (count(position) + 1) / 2) > 1e-6
