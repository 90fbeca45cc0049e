"""The judge of an evaluation: experiments that find out whether its score is honest.

Take `judge.audit` (anything that scores) or `recipe.audit_recipe` (a recipe of ours) from here.
It may import every room of `model`.
"""
