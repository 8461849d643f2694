-- Every text of a completion was shown to the scorer of its track.
SELECT rewards.completion_id, rewards.model, rewards.track
FROM rewards
JOIN completions USING (completion_id)
WHERE completions.text_hash IS NOT NULL AND rewards.request_id IS NULL
