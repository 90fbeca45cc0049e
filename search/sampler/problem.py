"""Problem: which parameters there are, how large a combination is, and when two combinations are the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution

from golflab.search.sampler.encoding import Encoding, Params


@dataclass
class Problem:
    """What is searched. Only the space is needed; every other field has a default that assumes nothing.

    The space:
        space: parameter name -> Optuna distribution.
        owners: knob -> (the parameter that switches it on, the value that does). A knob that is off is ignored.
        defaults: value of each knob when its technique is switched on; the middle of its range where none is given.
        starts: combinations to try first.

    The size:
        overrun: size of a combination divided by the limit; it fits if this is at most 1. It must always give the same answer
            for the same combination, because it guides the local search. None: everything fits.
        chance: probability that a combination fits. It may change while trials finish (a forecast that learns). None: 1 where
            ``overrun`` is at most 1, else 0.

    The identity:
        key: equal for two combinations that describe the same thing; such a combination is proposed only once. None: two
            combinations are the same if all parameters that are on are equal.
        canonical: the combination that is run instead of the one that was drawn (clashes resolved). None: itself.
        training: equal for two combinations that differ only after training. None: no two trials share a training.
        after_training: parameters that act after training.
    """

    space: Mapping[str, BaseDistribution]
    owners: Mapping[str, tuple[str, Any]] | None = None
    defaults: Params | None = None
    starts: Sequence[Params] = ()
    overrun: Callable[[Params], float] | None = None
    chance: Callable[[Params], float] | None = None
    key: Callable[[Params], Hashable] | None = None
    canonical: Callable[[Params], Params] | None = None
    training: Callable[[Params], Hashable] | None = None
    after_training: Sequence[str] = ()
    encoding: Encoding = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.encoding = Encoding(self.space, self.owners, self.defaults)

    def chance_of(self, params: Params) -> float:
        """Probability that a combination fits."""
        if self.chance is not None:
            return self.chance(params)
        return float(self.overrun is None or self.overrun(params) <= 1)

    def key_of(self, params: Params) -> Hashable:
        """What this combination shares with all that describe the same thing."""
        return self.key(params) if self.key is not None else tuple(self.encoding.rows([params])[0])

    def canonical_of(self, params: Params) -> Params:
        """The combination that is run when this one is drawn."""
        return self.canonical(params) if self.canonical is not None else params

    def training_of(self, params: Params) -> Hashable:
        """The training that a combination needs; None where trials never share one."""
        return self.training(params) if self.training is not None else None
