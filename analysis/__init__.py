"""Analysis of an experiment's runs, from tables to tables, with errors. `table.load` reads an experiment.

It imports `model.record` and the names of slots, and nothing else outside.
"""
