"""What a search varies: named recipes (`presets`, `seeds`, `records`), spaces around them (`space`, `catalogue`), and how knobs
are drawn. `scales` says how a preset becomes small and how long it trains, `limits` how many bytes it may then have.

It imports `model`, and nothing of `search` or `analysis`.
"""
