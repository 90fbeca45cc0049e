"""One idea a file, in the folder of its stage. The folder is the registry: nothing else lists techniques.

A technique imports `technique`, `recipe`, `shape`, and the rooms whose tools it uses.
"""
