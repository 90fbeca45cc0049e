"""Adam groups: learning rates of tables, head and scales."""

from __future__ import annotations

from dataclasses import dataclass

from golflab.model.network.blueprint import blueprint
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.training.optimizers import AdamGroup, Grouping


@dataclass(frozen=True)
class AdamGroups(Technique):
    """Trains tables, an untied head and all scales with AdamW, each at its own learning rate.

    Tables (token and bigram) at ``table_lr``, an untied output matrix at ``head_lr``, scales at ``scale_lr``; one
    decoupled ``weight_decay`` for all of them. Scales may differ: their weight decay is ``scale_decay`` times it, and their
    second moments decay at ``scale_beta2`` (0: at ``beta2``). ``side`` moves the projections of bigram and value embedding
    from Muon to the scales' group (#680).
    """

    slot = "groups"
    sources = ("baseline", "PR #849", "PR #1125", "PR #1394", "PR #1855")
    doubt = "Weight decay on a tied table at a high learning rate cost 0.78 bpb in #1125; 0.01 to 0.04 is usual."

    table_lr: float = knob(0.05, 0.001, 1.0, log=True)
    head_lr: float = knob(0.008, 0.0005, 0.1, log=True)
    scale_lr: float = knob(0.04, 0.001, 0.3, log=True)
    weight_decay: float = knob(0.0, 0.0, 0.3)
    side: str = knob("muon", choices=("muon", "adam"))
    beta1: float = knob(0.9, 0.5, 0.99)
    beta2: float = knob(0.95, 0.8, 0.9999)
    scale_decay: float = knob(1.0, 0.0, 2.0, later=True)
    scale_beta2: float = knob(0.0, choices=(0.0, 0.9, 0.95, 0.98, 0.99, 0.999), later=True)

    def build(self, shape: Shape, layer: int | None = None) -> tuple[Grouping, tuple[float, float], float]:
        """The groups, Adam's betas and its epsilon."""

        def groups(infos: list[ParameterInfo]) -> list[AdamGroup]:
            rates = {"table": self.table_lr, "head": self.head_lr, "scale": self.scale_lr}
            names: dict[str, list[str]] = {key: [] for key in rates}
            for info in infos:
                side = info.kind == "linear" and info.role in ("bigram", "value") and self.side == "adam"
                key = "head" if info.role == "head" else "scale" if side else info.kind
                if key in names:
                    names[key].append(info.name)
            decays = {"scale": self.weight_decay * self.scale_decay}
            own = {"scale": self.scale_beta2 or None}
            return [
                AdamGroup(tuple(names[key]), rate, decays.get(key, self.weight_decay), beta2=own.get(key))
                for key, rate in rates.items()
            ]

        return groups, (self.beta1, self.beta2), 1e-8

    def canonical(self, recipe: Recipe) -> Technique:
        """Knobs about a head, side projections or a decay that the model lacks take their defaults."""
        tied = self._without("head_lr") if recipe.shape.tied else self
        tied = tied._without("scale_decay") if self.weight_decay == 0 else tied
        tied = tied._without("scale_beta2") if self.scale_beta2 == self.beta2 else tied
        if self.side == "muon" or any(i.kind == "linear" and i.role in ("bigram", "value") for i in blueprint(recipe)):
            return tied
        return tied._without("side")
