"""The training loop, its optimizers and clock, compiling, quantisation-aware training, and rungs.

`rungs.measure` measures a run at a rung; `state.RUNGS` says where rungs lie; `model/job/training.py` calls it.
Take `loop.train` and `result` from here.
It imports `compression` and `evaluation` (for rungs), `network`, `data`, `system` and the recipe.
"""
