"""The training loop, its optimizers and clock, compiling, quantisation-aware training, and what is measured on the way.

Take `loop.train` and `result` from here.
It imports `compression` and `evaluation` (for rungs), `network`, `data`, `system` and the recipe.
"""
