"""Recipes side by side: ranking, paired differences, bytes against score, confirmation on fresh seeds.

It imports `effects`, `table` and `inference`.
"""
