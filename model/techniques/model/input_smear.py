"""Input-dependent SmearGate: an embedding takes in a share of the one before it; the token itself says how large a share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golflab.model.data.shards import BOS, FUSED
from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Knob, Technique, knob


class InputSmearing(nn.Module):
    """The module that `InputSmear` builds: gate weights (channels,) and one strength, both starting at zero."""

    def __init__(self, channels: int, mask_documents: bool, mask_fused: bool) -> None:
        super().__init__()
        self.gate = Scale((channels,), 0.0)
        self.strength = Scale((1,), 0.0)
        self.mask_documents, self.mask_fused = mask_documents, mask_fused

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        """Raw embeddings x (B,T,D), ids (B,T) -> (B,T,D)."""
        weight = self.gate(torch.float32)
        share = self.strength(torch.float32) * (x[..., : weight.numel()].float() @ weight).sigmoid()  # (B,T)
        if self.mask_documents:
            share = share * (ids != BOS)
        if self.mask_fused:
            behind = F.pad(ids[:, :-1], (1, 0))
            share = share * ((behind < FUSED.start) | (behind >= FUSED.stop))
        before = F.pad(x[:, :-1], (0, 0, 1, 0))
        return x + share.unsqueeze(-1).to(x.dtype) * before


@dataclass(frozen=True)
class InputSmear(Technique):
    """Adds to every raw token embedding a share of the one before it, by a gate that reads the token's own embedding.

    e_t ← e_t + λ·σ(w·e_t[:n])·e_{t−1}, before the first norm; w (n,) and λ start at zero, n is ``window``, and e_{−1} is 0.
    It adds, where `smear_gate` blends behind the norm. With ``mask_documents`` a document's first token (BOS) takes in nothing;
    without it, it takes in the last token of another document. With ``mask_fused`` a token behind a space and a marker that
    `caseops` has fused takes in nothing (#2109). As λ and w start at zero, w learns from the second step on.
    """

    slot = "embed_mix"
    sources = ("PR #1667", "PR #1797", "PR #1851", "PR #1855", "PR #2109")
    doubt = (
        "−0.0034 bpb together with a head gate (#1667, unpaired). Without the mask it scored better (1.0616 against 1.0641, "
        "confounded), and #2135 says that it masks and does not. Overlaps with BigramHash and `smear_gate`."
    )

    window: int = knob(12, 1, 512)
    mask_documents: bool = knob(True, choices=(True, False))
    mask_fused: bool = knob(False, choices=(False, True), later=True)

    def build(self, shape: Shape, layer: int | None = None) -> InputSmearing:
        """The gate: raw x (B,T,D), ids (B,T) -> x."""
        return InputSmearing(min(self.window, shape.width), self.mask_documents, self.mask_fused)

    def canonical(self, recipe: Recipe) -> Technique:
        """More channels than there are, are all channels; a text without fused tokens has none to mask."""
        settled = self._with(window=min(self.window, recipe.shape.width))
        return settled if getattr(recipe.technique_in("text"), "fusion", False) else settled._without("mask_fused")

    @classmethod
    def ranges(cls, bare: Recipe) -> dict[str, Knob]:
        """At most all channels."""
        return super().ranges(bare) | {"window": Knob(1, max(2, min(512, bare.shape.width)))}
