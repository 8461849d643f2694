"""What people look at: the questions of ``sql/analysis`` that are about a table, and their answers.

Here belongs which question is shown where, how it is asked, how its answer is drawn, and how it
is written as HTML. Imports `host` and `warehouse`; who shows it (Dagster's pages, the command's
summary and report) imports this.
"""
