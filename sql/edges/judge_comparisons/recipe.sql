-- Who compares how many.
SELECT $rewards_comparison_judge AS judge, $rewards_compared_candidates AS candidates
