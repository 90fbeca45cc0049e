"""Layouts and codecs, which turn integers into the bytes of the artifact: slots of the stage `pack`.

To add a codec, see `docs/add_technique.md`, "Example: a codec".
"""
