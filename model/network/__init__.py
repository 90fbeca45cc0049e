"""The forward pass, written once, with its layers, kernels, rotary tables and initial values.

Take `gpt.GPT`, `layers`, `blueprint.blueprint` (a model's parameters without the model) and `weights` from here.
It imports the recipe.
"""
