"""GPTQ with the full Hessian."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from golflab.model.compression.gptq import Factor, collect, factorise, generate, gptq_round
from golflab.model.compression.grid import ToRound, stored_roles
from golflab.model.compression.quantize import nearest
from golflab.model.data.shards import BOS
from golflab.model.network.layers import ParameterInfo, Table
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

ROWS = 8  # sequences per calibration batch
WRITTEN = 16_384  # tokens of text that the model writes side by side: each new one costs a pass over all of them


@dataclass(frozen=True)
class Gptq(Technique):
    """Round columns one by one; the columns not yet rounded compensate the error of each (GPTQ).

    With H = mean x xᵀ over calibration inputs, damped by ``damping``·mean(diag H) and ordered by ``order`` diagonal,
    H⁻¹ = UᵀU: q_j = round(w_j/s), then w_k ← w_k − (w_j − q_j s) U_jk/U_jj for k > j. Scales are fixed before. On
    correlated inputs about a third of plain rounding's weighted error is left. ``order="ascending"`` with
    ``factor="inverse"`` (H⁻¹ in place of U) is what #849 and #1499's first commit do, and leaves far more.
    ``text="own"`` calibrates on text the model writes itself at temperature 0.8 (#1019) instead of the first ``tokens``
    training tokens: a pass over the text so far for every token, about 90 times the time of reading (proxy, one core). With
    ``windows="documents"`` every sequence that is read begins at a document's first token (BOS), not wherever the one before it
    ended. ``tables`` also rounds a tied token table with the Hessian of the final norm's output. The damping of the MLP's
    matrices and of the table is ``mlp_damping`` and ``table_damping`` times the others' (#2051: 2 and ½).
    """

    slot: ClassVar[str] = "rounding"
    sources: ClassVar[tuple[str, ...]] = ("arXiv:2210.17323", "#569", "#1019", "#849", "#1499", "#1394", "#2051")
    doubt: ClassVar[str] = "Damping by role: −0.0006 bpb claimed, with other changes (#2051)."

    tokens: int = knob(32_768, 256, 1 << 20, log=True)
    damping: float = knob(0.01, 1e-4, 1.0, log=True)
    order: str = knob("descending", choices=("descending", "ascending", "natural"))
    factor: str = knob("cholesky", choices=("cholesky", "inverse"), faults=("inverse",))
    text: str = knob("training", choices=("training", "own"))
    tables: bool = knob(True, choices=(True, False))
    windows: str = knob("stream", choices=("stream", "documents"), later=True)
    mlp_damping: float = knob(1.0, 0.1, 10.0, log=True, later=True)
    table_damping: float = knob(1.0, 0.1, 10.0, log=True, later=True)

    def canonical(self, recipe: Recipe) -> Technique:
        """Text is read in whole sequences; only a tied token table on a grid has inputs, and is rounded."""
        context = recipe.shape.context
        whole = max(1, self.tokens // context)
        usual = max(1, type(self).tokens // context)
        tokens = type(self).tokens if whole == usual else min(max(whole * context, 256), 1 << 20)
        asked = not self.tables or self.table_damping != type(self).table_damping
        stored = stored_roles(recipe) if asked else None
        unread = stored is not None and not (recipe.shape.tied and ("table", "table") in stored)
        settled = self._with(tokens=tokens, tables=self.tables or unread)
        settled = settled._without("table_damping") if unread or not settled.tables else settled
        return settled._without("windows") if self.text == "own" else settled  # what it writes begins with BOS anyway

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[ToRound], Tensor]:
        """Return (matrix to round) -> integers (rows, columns)."""
        factors: dict[tuple[int, float], tuple[Tensor, Factor]] = {}  # by identity: query, key and value share one

        def rounded(matrix: ToRound) -> Tensor:
            if matrix.hessian is None or matrix.grid.largest == 1:
                # A table nothing multiplies by has no inputs to speak of, and ternary rows were trained as they are.
                return nearest(matrix)
            key = id(matrix.hessian), self._damping(matrix.info)
            if key not in factors:
                made = factorise(matrix.hessian.to(matrix.weight.device), self.order, self.factor, key[1])
                factors[key] = (matrix.hessian, made)  # the Hessian is kept, so that its id stays its own
            return gptq_round(matrix.weight, matrix.scales, matrix.grid, factors[key][1], matrix.keep, matrix.finer)

        return rounded

    def _damping(self, info: ParameterInfo) -> float:
        """The share of the mean diagonal that is added to the diagonal of this matrix's Hessian."""
        return self.damping * {"mlp": self.mlp_damping, "table": self.table_damping}.get(info.role, 1.0)

    def calibrate(self, model: Any, stream: Any, recipe: Recipe) -> dict[str, Tensor]:
        """Hessians of every matrix, by parameter name.

        Args:
            model: a `GPT` holding the weights to be rounded.
            stream: training tokens, with ``take(start, count) -> (count,)``.
            recipe: its context and seed are used.
        """
        context = recipe.shape.context
        count = max(1, self.tokens // context)
        hessians = collect(model, self._batches(model, stream, count, context, recipe.seed))
        tables = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Table)}
        return {name: h for name, h in hessians.items() if self.tables or name not in tables}

    def _batches(self, model: Any, stream: Any, count: int, context: int, seed: int) -> Iterator[Tensor]:
        if self.text == "own":
            most = max(ROWS, WRITTEN // context)
            for start in range(0, count, most):
                yield from generate(model, min(most, count - start), context, 0.8, seed + start, BOS).split(ROWS)
            return
        places = self._places(stream, count, context)
        for start in range(0, count, ROWS):
            rows = [stream.take(place, context) for place in places[start : start + ROWS]]
            yield torch.from_numpy(np.stack(rows).astype(np.int64))

    def _places(self, stream: Any, count: int, context: int) -> list[int]:
        """Where the sequences begin: one behind the other, or each at the first document that begins behind the last one."""
        if self.windows == "stream":
            return [row * context for row in range(count)]
        places, behind = [], 0
        for _ in range(count):
            places.append(next_document(stream, behind, context))
            behind = places[-1] + context
        return places


def next_document(stream: Any, position: int, block: int) -> int:
    """The first position at or behind ``position`` where a document begins; ``position`` itself where none does.

    Args:
        stream: endless tokens, with a length after which they repeat.
        position: where to begin looking.
        block: tokens looked at together.
    """
    for start in range(position, position + len(stream), block):
        found = np.flatnonzero(stream.take(start, block) == BOS)
        if len(found):
            return start + int(found[0])
    return position
