"""Compiling a training: either all of it is compiled, or there is an error."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from golflab.model.network.gpt import GPT
from golflab.model.shape import Schedule

BACKEND = "inductor"
MOST_GRAPHS = 64  # of one recipe: one for each combination of late quantisation, recurrence, gradients and size of micro-batch
WORTH = 1_000  # steps from which it pays on a GPU: it takes about 14 s, and saves 1 to 19 ms a step (benchmarks/README.md)

Forward = Callable[[Tensor, Tensor], Tensor]  # ids (B,T), targets (B,T) -> mean loss ()


def pays(schedule: Schedule, device: str) -> bool:
    """Whether a training is compiled where nobody said.

    Args:
        schedule: of the recipe. Compiling does not count on the clock, so a run bounded by seconds alone gains in any case.
        device: ``cpu``, where it pays off late, or ``cuda``.
    """
    return device == "cuda" and (schedule.steps is None or schedule.steps >= WORTH)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Give one training a compiler of its own.

    The compiler counts graphs by the code they come from, which all recipes share. At a limit it stops compiling without an
    error, so a long-lived worker would compile its first recipes and no others. Therefore every training begins with an empty
    count, the limit is large enough for the graphs of one recipe, and reaching it is an error. At the end everything that was
    compiled is released, with its memory.
    """
    import torch._dynamo  # importing it takes half a second, and only a compiled training needs it

    torch.compiler.reset()
    try:
        with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS, fail_on_recompile_limit_hit=True):
            yield
    finally:
        torch.compiler.reset()


def compile_all(model: GPT, parts: list[tuple[Tensor, Tensor]], fake: Any) -> tuple[Forward, list[str]]:
    """Compile every graph that a run will use before the clock starts, so that the clock measures training only.

    Late quantisation and depth recurrence change the graph in mid-run, and micro-batches of another size have graphs of their
    own. Compiling those during the run would take seconds of training. Recurrence may change it several times.

    Args:
        model: on its device.
        parts: a step's micro-batches, ids and targets (rows, T).
        fake: the controller of quantisation-aware training, or None.

    Returns:
        The compiled forward pass, and a list with an entry for every graph; graphs that are compiled later are added to it.
    """
    import torch._dynamo

    build, graphs = torch._dynamo.lookup_backend(BACKEND), list[str]()

    def counted(graph: Any, inputs: Any) -> Any:
        graphs.append(f"{len(graph.graph.nodes)} nodes")
        return build(graph, inputs)

    forward: Forward = torch.compile(model, dynamic=False, fullgraph=True, backend=counted)
    changes = [] if model.path is None else model.path.changes
    for ids, targets in {part[0].shape: part for part in parts}.values():
        for progress, multiplier in itertools.product((1.0, 0.0, *changes[:-1]), (0.0, 1.0)):
            model.set_progress(progress)
            if fake is not None:
                fake.update(multiplier)
            forward(ids, targets).backward()
    return forward, graphs
