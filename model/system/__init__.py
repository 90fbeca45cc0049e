"""What everything else stands on: whole files and locks, tensors on disk, progress bars, the device, the machine,

and import closures of source code (`sources`, `slot_names`).
It imports no other room.
"""
