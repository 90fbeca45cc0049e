"""The report of an experiment: sentences, tables for a terminal, figures, and one HTML page.

The first table: `terminal` prints it, `sections_effects.contributions` makes it for the page.
Take `report.report` and `plots` from here.
It imports every other room of `analysis`.
"""
