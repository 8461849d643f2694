-- A prompt is on one of the two tracks.
SELECT prompt_id, track
FROM alignment_prompts
WHERE track NOT IN ('standard', 'controversial')
