"""From trained weights to the bytes of the artifact and back; and the forecast of their number before any training.

The way of a weight: `quantize` (with `gptq`) to a `grid`, then `artifact`. `finish` does all of it.
Codecs are techniques: `model/techniques/pack/*_codec.py`. `rans` is the entropy coder of one of them.
It imports `network`, `data` and the recipe.
"""
