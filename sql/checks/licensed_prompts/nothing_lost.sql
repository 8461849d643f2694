-- Every row of the mix is licensed or excluded, and none is both.
SELECT row_number
FROM preference_mix
LEFT JOIN (SELECT row_number, 1 AS licensed FROM licensed_prompts) USING (row_number)
LEFT JOIN (SELECT row_number, 1 AS excluded FROM prompt_exclusions WHERE dataset = 'preference_mix')
    USING (row_number)
WHERE coalesce(licensed, 0) + coalesce(excluded, 0) <> 1
