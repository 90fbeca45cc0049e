"""Split groups: four optimiser groups, the MLP's matrices trained by Adam."""

from __future__ import annotations

from dataclasses import dataclass

from golflab.model.network.layers import ParameterInfo
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.training.optimizers import AdamGroup, Grouping


@dataclass(frozen=True)
class SplitGroups(Technique):
    """Trains the MLP's matrices with Adam and coupled L2 decay, and leaves only the attention matrices to Muon.

    Four groups: tables, attention matrices (Muon), MLP latents (Adam, ``mlp_decay``·W added to the gradient before the
    moments), scales. Meant for ternary latents; as their rounding ignores a uniform shrinkage, the decay cannot make more
    zeros.
    """

    slot = "groups"
    sources = ("PR #211",)
    doubt = "It was published only with a model whose code is missing."

    table_lr: float = knob(0.05, 0.001, 1.0, log=True)
    mlp_lr: float = knob(0.02, 0.0005, 0.2, log=True)
    mlp_decay: float = knob(0.01, 0.0, 0.3)
    scale_lr: float = knob(0.04, 0.001, 0.3, log=True)
    beta1: float = knob(0.9, 0.5, 0.99)
    beta2: float = knob(0.95, 0.8, 0.9999)

    def build(self, shape: Shape, layer: int | None = None) -> tuple[Grouping, tuple[float, float], float]:
        """The groups, Adam's betas and its epsilon."""

        def groups(infos: list[ParameterInfo]) -> list[AdamGroup]:
            def named(kind: str, role: str | None = None) -> tuple[str, ...]:
                return tuple(i.name for i in infos if i.kind == kind and role in (None, i.role))

            return [
                AdamGroup(named("table"), self.table_lr),
                AdamGroup(named("linear", "mlp"), self.mlp_lr, self.mlp_decay, coupled=True),
                AdamGroup(named("linear", "head"), self.mlp_lr),
                AdamGroup(named("scale"), self.scale_lr),
            ]

        return groups, (self.beta1, self.beta2), 1e-8
