"""Documents to bits, exactly: windows, the reader that scores them, and adapters that learn from scored text.

Take `score.evaluate` from here.
It imports `network`, `data`, `system` and the recipe.
"""
