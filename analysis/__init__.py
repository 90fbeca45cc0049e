"""Tables in, tables out: what runs of an experiment say, with errors. `table.load` reads an experiment.

It imports `model.record` and the names of slots, and nothing else outside.
"""
