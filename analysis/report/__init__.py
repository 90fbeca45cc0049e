"""The report of an experiment: sentences, tables for a terminal, figures, and one HTML page.

Take `report.report` and `plots` from here.
It imports every other room of `analysis`.
"""
