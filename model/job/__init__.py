"""A run in progress, stage by stage. `golflab.model.run` tells the story; the stages are here.

`job` is the run's state and its keys in the stage cache. `request` is what the caller asks for. `training` trains, or finds the
training in the cache. `finishing` packs, scores and compares. Only `model.run` imports this package.
"""
