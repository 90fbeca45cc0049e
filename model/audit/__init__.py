"""The judge of an evaluation: experiments that find out whether its score is honest.

Take `judge.audit` (anything that scores), `recipe.audit_recipe` (a golflab recipe) and `verdict` (what goes in and comes out)
from here. It may import every room of `model`.
"""
