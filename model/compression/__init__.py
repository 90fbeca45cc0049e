"""From trained weights to the bytes of the artifact and back; and the forecast of their number before any training.

The way of a weight: `quantize` (with `gptq`) to a `grid`, then `artifact`, whose codec may be `rans`. `finish` does all of it.
It imports `network`, `data` and the recipe.
"""
