-- What does the recipe say? Each of its parts as JSON, defaults included; where models run is left out.
-- Page: recipes
SELECT
    said.key AS part,
    CAST(said.value AS VARCHAR) AS says
FROM recipes, json_each(recipes.settings) AS said
ORDER BY said.id
