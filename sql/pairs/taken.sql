-- The pairs that a strategy has just drawn, as further pairs of the same prompts have to know them.
SELECT
    $pair_index::INTEGER AS pair_index,
    chosen.prompt,
    drawn.chosen,
    CASE WHEN chosen.prompt = rejected.prompt THEN drawn.rejected
        ELSE error('sql/selection/' || $selection_strategy || '.sql pairs completions of two prompts, '
            || drawn.chosen || ' and ' || drawn.rejected || '; join them on prompt')
    END AS rejected,
    chosen.text AS chosen_text,
    rejected.text AS rejected_text
FROM drawn
JOIN picked AS chosen ON chosen.candidate = drawn.chosen
JOIN picked AS rejected ON rejected.candidate = drawn.rejected
