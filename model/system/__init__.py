"""The lowest layer: files and locks, tensors on disk, progress bars, the device, the machine, and what code imports.

`sources` finds import closures of source code; `slot_names` reads the slot of every technique without importing it; `wording`
has what messages share: counts with their nouns, and a known name for an unknown one. It imports no other room.
"""
