"""What one trial does: a recipe becomes a trained, packed and scored model, and a record of it.

`run` tells the story. `recipe`, `shape`, `slots`, `technique` and `record` are its words. `stages` and `job` say what is
cached. This package imports nothing of `search`, `spaces` or `analysis`.
"""
