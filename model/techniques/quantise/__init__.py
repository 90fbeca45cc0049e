"""Techniques that turn trained weights into integers: slots of the stage `quantise`."""
