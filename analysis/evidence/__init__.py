"""What entries of the challenge published about single techniques: a table of facts, and what it says together.

Take `published.load`, `published.summary`, `published.beside` and, for a search, `prior.expected` from here.
"""
