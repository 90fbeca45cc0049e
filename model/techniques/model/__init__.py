"""Techniques inside the forward pass: slots of the stage `model`."""
