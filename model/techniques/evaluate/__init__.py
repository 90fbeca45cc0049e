"""Windows, test-time training and mixing: slots of the stage `evaluate`."""
