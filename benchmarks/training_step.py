"""How much the hand-written CPU kernels buy: the same model, the same step, with and without them, in one run.

    python benchmarks/training_step.py [--steps 6] [--tokens 8192]

Arms take turns, so that a neighbour on the machine slows all of them; what is printed are medians and ratios of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from unittest import mock

import torch

from golflab.model.network import kernels
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.training.optimizers import Optimizers
from golflab.spaces.presets import preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=8192)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = preset("baseline")
    rows = options.tokens // recipe.shape.context
    ids = torch.randint(0, recipe.shape.vocabulary, (rows, recipe.shape.context + 1))
    arms = {
        "PyTorch's operators, float32": (torch.float32, False),
        "PyTorch's operators, bfloat16": (torch.bfloat16, False),
        "ours, float32": (torch.float32, True),
        "ours, bfloat16": (torch.bfloat16, True),
    }
    steppers = {name: Stepper(recipe, dtype, ids, by_hand) for name, (dtype, by_hand) in arms.items()}
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(options.steps + 1):
        for name, stepper in steppers.items():
            start = time.perf_counter()
            stepper.step()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    slowest = statistics.median(times["PyTorch's operators, float32"])
    for name, seconds in times.items():
        typical = statistics.median(seconds)
        print(f"{name:32} {typical * 1e3:7.0f} ms/step {options.tokens / typical:8.0f} tokens/s   x{slowest / typical:.2f}")


class Stepper:
    """One arm: a model, its optimisers and a fixed batch."""

    def __init__(self, recipe, dtype, ids, by_hand):
        self.model = initialize(GPT(recipe, dtype), recipe)
        self.optimizers = Optimizers(self.model, recipe)
        self.ids, self.by_hand = ids, by_hand

    def step(self):
        """A forward pass, a backward pass and an update."""
        with mock.patch.object(kernels, "_by_hand", return_value=self.by_hand):
            self.model(self.ids[:, :-1], self.ids[:, 1:]).backward()
        self.optimizers.step(1.0, 0.5)
        self.model.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
