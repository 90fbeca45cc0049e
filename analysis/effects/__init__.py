"""What techniques and knobs are worth: contributions, interactions, rungs, and what acts after training.

Take `contribution.contribution` and `interaction.interaction` from here.
It imports `table` and `inference`.
"""
