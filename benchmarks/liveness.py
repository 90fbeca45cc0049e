"""What every technique changes when it is switched on, eager and traced by the compiler: writes docs/liveness.md.

    python -m benchmarks.liveness

Each technique is trained, packed and scored with and without on the contract suite's tiny body. A published entry's dead
technique would be a row of zeros here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from golflab.model.compression.artifact import unpack
from golflab.model.recipe import Recipe
from golflab.model.technique import catalogue
from tests.contract_helpers import (
    awake,
    default,
    finished,
    ids_and_targets,
    is_default,
    never_learning,
    recipe_with,
    scored,
    switched_off,
    trained,
)

HEAD = """# Liveness: what each technique changes

Written by `python -m benchmarks.liveness`. Every technique is trained for a few steps, packed and scored on the contract
suite's tiny body, with it and without it (a slot's default: against a slot mate). *loss* is the change of the loss of a
model whose weights were disturbed, and *traced* the same loss through the compiler's graph; *weights* the largest change of the
exported weights, relative to the largest weight; *bytes* the change of the packed file; *nats* the mean absolute change of a
target's score from the unpacked file. A dash: not the business of that stage.

| technique | slot | loss | traced | weights | bytes | nats |
|---|---|---|---|---|---|---|
"""

DEAD = """
## Settings with parameters that never learn

Every choice of every technique of the model is trained for six steps. These leave parameters without a gradient: they are
stored and never change. All of these settings reproduce published entries. `asym_logit` as published is in four accepted
rows (#1945, #1953, #2014, #2135).

| technique | setting | parameters without a gradient |
|---|---|---|
"""


def main() -> None:
    rows = [row(name) for name in catalogue()]
    dead = [
        f"| {name} | {knob}={value} | {', '.join(sorted(left))} |" for (name, knob, value), left in never_learning().items()
    ]
    Path("docs/liveness.md").write_text(HEAD + "\n".join(rows) + "\n" + DEAD + "\n".join(dead) + "\n")
    print(f"{len(rows)} techniques in docs/liveness.md")


def row(name: str) -> str:
    """One technique's line."""
    technique = default(name)
    on = recipe_with(technique)
    mate = next((m for m, cls in catalogue().items() if cls.slot == technique.slot and m != name), None)
    off = recipe_with(default(mate)) if is_default(name) and mate else switched_off(technique, on)
    loss = traced = "–"
    if technique.stage() == "model" and technique.slot not in ("init", "table_init"):
        before, after = losses(off), losses(on)
        loss, traced = (f"{a - b:+.2g}" for a, b in zip(after, before, strict=True))
    a, b = exported(on), exported(off)
    shared = [n for n in a if n in b and a[n].shape == b[n].shape]
    scale = max(float(b[n].abs().max()) for n in shared)
    weights = max(float((a[n] - b[n]).abs().max()) for n in shared) / scale
    (_, file_a), (_, file_b) = finished(on, a), finished(off, b)
    change = np.nanmean(np.abs(scored(on, unpack(file_a)) - scored(off, unpack(file_b))))
    return f"| {name} | {technique.slot} | {loss} | {traced} | {weights:.2g} | {len(file_a) - len(file_b):+,} | {change:.2g} |"


def losses(recipe: Recipe) -> tuple[float, float]:
    """The loss of a disturbed model, eager and traced as one graph."""
    torch._dynamo.reset()
    model = awake(recipe)
    graph = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")
    return model(*ids_and_targets()).item(), graph(*ids_and_targets()).item()


def exported(recipe: Recipe) -> dict[str, torch.Tensor]:
    """The weights a short training of the recipe exports."""
    return trained(recipe).chosen(recipe.technique_in("average"))


if __name__ == "__main__":
    main()
