"""Compiling a training: all of it, or an error; never a part of it without a word."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from golflab.model.network.gpt import GPT

BACKEND = "inductor"
MOST_GRAPHS = 64  # of one recipe: every mix of late quantisation, recurrence, gradients and unequal micro-batches is one

Forward = Callable[[Tensor, Tensor], Tensor]  # ids (B,T), targets (B,T) -> mean loss ()


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Hold the compiler to one recipe.

    The compiler counts graphs by the code they come from, which all recipes share, and at a limit it gives up without a
    word: a long-lived worker would train its first recipes compiled and all later ones not. So every training begins
    with an empty count, the limit holds one recipe's graphs, and reaching it is an error. At the end everything compiled is
    let go, and the memory with it.
    """
    import torch._dynamo  # takes half a second, and only a compiled training needs it

    torch.compiler.reset()
    try:
        with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS, fail_on_recompile_limit_hit=True):
            yield
    finally:
        torch.compiler.reset()


def compile_all(model: GPT, parts: list[tuple[Tensor, Tensor]], fake: Any) -> tuple[Forward, list[str]]:
    """Compile every graph a run will use and prime it, so that the clock measures training only.

    Late quantisation and depth recurrence switch graphs in mid-run, and micro-batches of unequal size have graphs of their own;
    a compilation there would cost the clock its seconds.

    Args:
        model: on its device.
        parts: a step's micro-batches, ids and targets (rows, T).
        fake: the controller of quantisation-aware training, or None.

    Returns:
        The compiled forward pass, and a list that holds an entry for every graph, those still to come included.
    """
    import torch._dynamo

    build, graphs = torch._dynamo.lookup_backend(BACKEND), list[str]()

    def counted(graph: Any, inputs: Any) -> Any:
        graphs.append(f"{len(graph.graph.nodes)} nodes")
        return build(graph, inputs)

    forward: Forward = torch.compile(model, dynamic=False, fullgraph=True, backend=counted)
    for ids, targets in {part[0].shape: part for part in parts}.values():
        for progress, multiplier in ((1.0, 0.0), (1.0, 1.0), (0.0, 0.0), (0.0, 1.0)):
            model.set_progress(progress)
            if fake is not None:
                fake.update(multiplier)
            forward(ids, targets).backward()
    return forward, graphs
