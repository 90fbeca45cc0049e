"""How many tokens a second does one core train at `nano`, one model at a time, several as one batch, or compiled?

    python -m benchmarks.batched [--replicas 4] [--steps 12] [--compile]

All arms train the same models on the same batches; what is printed are medians of processor time, so that a neighbour on the
machine changes little, and the ratio to the first arm. The first arm is how golflab trained until November 2026, with Muon's
Newton-Schulz in bfloat16. The batched arm holds its replicas as one stack of parameters (``torch.func.stack_module_state``) and
runs them by ``vmap`` over the same forward pass. Its losses must be those of the single models up to rounding.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from golflab.model.network import kernels
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.recipe import Recipe
from golflab.model.training import optimizers
from golflab.spaces.presets import preset


class Single:
    """One model and its optimisers; Newton-Schulz works in ``working``."""

    def __init__(self, recipe: Recipe, working: torch.dtype, compiled: bool = False) -> None:
        self.model = initialize(GPT(recipe), recipe)
        self.optimizers = optimizers.Optimizers(self.model, recipe)
        self.working = working
        self.forward: Callable[[Tensor, Tensor], Tensor] = torch.compile(self.model) if compiled else self.model

    def step(self, ids: Tensor, targets: Tensor) -> list[float]:
        """Train on one batch; the loss."""
        self.model.zero_grad(set_to_none=True)
        loss = self.forward(ids, targets)
        loss.backward()
        with mock.patch.object(optimizers, "WORKING", self.working):
            self.optimizers.step(1.0, 0.5)
        return [float(loss.detach())]


class Batched:
    """Several models as one stack of parameters; each keeps its own optimisers."""

    def __init__(self, recipe: Recipe, replicas: int) -> None:
        self.models = [initialize(GPT(recipe), recipe.with_(seed=k)) for k in range(replicas)]
        self.optimizers = [optimizers.Optimizers(model, recipe) for model in self.models]
        skeleton = GPT(recipe)

        def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], ids: Tensor, targets: Tensor) -> Tensor:
            return functional_call(skeleton, (parameters, buffers), (ids, targets))

        self.gradients = vmap(grad_and_value(loss))

    def step(self, ids: Tensor, targets: Tensor) -> list[float]:
        """Train every replica on its own batch, (replicas, B, T); the losses."""
        parameters, buffers = stack_module_state(self.models)
        with mock.patch.object(kernels, "_by_hand", return_value=False), sdpa_kernel(SDPBackend.MATH):
            gradients, losses = self.gradients(parameters, buffers, ids, targets)
        for k, (model, own) in enumerate(zip(self.models, self.optimizers, strict=True)):
            for name, parameter in model.named_parameters():
                parameter.grad = gradients[name][k]
            own.step(1.0, 0.5)
        return [float(loss) for loss in losses.detach()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--compile", action="store_true", help="also a compiled arm; compiling takes a minute")
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = preset("baseline", "nano")
    rows, context = recipe.schedule.batch_tokens // recipe.shape.context, recipe.shape.context
    text = torch.randint(0, recipe.shape.vocabulary, (given.steps, given.replicas, rows, context + 1))
    ids, targets = text[..., :-1].contiguous(), text[..., 1:].contiguous()
    singles = {
        "one model, Newton-Schulz in bfloat16": Single(recipe, torch.bfloat16),
        "one model, as it is today": Single(recipe, torch.float32),
    }
    if given.compile:
        singles["one model, compiled"] = Single(recipe, torch.float32, compiled=True)
    batched = Batched(recipe, given.replicas)
    times: dict[str, list[float]] = {name: [] for name in (*singles, "batched")}
    losses: dict[str, list[float]] = {name: [] for name in times}
    for turn in range(given.steps):
        for name, single in singles.items():
            began = time.process_time()
            losses[name] += single.step(ids[turn, 0], targets[turn, 0])
            times[name].append(time.process_time() - began)
        began = time.process_time()
        losses["batched"].append(batched.step(ids[turn], targets[turn])[0])
        times["batched"].append((time.process_time() - began) / given.replicas)
    first = statistics.median(next(iter(times.values()))[2:])
    own = losses["one model, as it is today"]
    for name, seconds in times.items():
        typical = statistics.median(seconds[2:])
        label = f"{given.replicas} models as one batch" if name == "batched" else name
        apart = max(abs(a - b) for a, b in zip(losses[name], own, strict=True))
        speed = recipe.schedule.batch_tokens / typical
        print(f"{label:38} {typical * 1e3:6.1f} ms/step {speed:8,.0f} tokens/s  x{first / typical:.2f}  loss apart {apart:.1e}")


if __name__ == "__main__":
    main()
