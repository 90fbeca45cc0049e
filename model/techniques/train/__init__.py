"""Optimizers, schedules, averages and quantisation-aware training: slots of the stage `train`."""
