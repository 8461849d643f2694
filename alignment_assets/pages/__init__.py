"""What people look at: the questions of ``sql/analysis`` that are about a table, and their answers.

Here belongs which question is shown where, how it is asked of new rows, and how its answer is
drawn. Imports `host` and `warehouse`; who shows it (Dagster's pages, the command) imports this.
"""
