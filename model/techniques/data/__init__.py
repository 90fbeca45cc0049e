"""Techniques that decide which text is read, and how: slots of the stage `data`."""
