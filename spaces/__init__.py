"""What a search varies: named recipes (`presets`, `seeds`), spaces around them (`space`, `catalogue`), and how knobs are drawn.

It imports `model`, and nothing of `search` or `analysis`.
"""
