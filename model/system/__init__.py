"""The lowest layer: files and locks, tensors on disk, progress bars, the device, the machine, and what code imports.

`sources` finds import closures of source code; `slot_names` reads the slot of every technique without importing it.
It imports no other room.
"""
