"""Space: what may vary around a preset.

A space takes a few lines and makes its own Optuna distributions::

    SPACE = Space("mine", preset("baseline", "proxy"), techniques=("xsa", "ema", "swa"), knobs=("ema.decay",))

Techniques are grouped by slot. One that shares its slot with no other becomes a switch (``xsa``: False or True);
several that compete for a slot become one choice named after the slot (``average``: off, ema or swa). Knobs are
always sampled, and ignored while their technique is off. A proposal then takes half the time of one in a conditional space, and
there is one joint model. `Space.recipe` drops techniques that clash or lack what they need, so every sample is valid.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.slots import SLOTS
from golflab.model.system.wording import did_you_mean
from golflab.model.technique import Knob, Technique, find
from golflab.spaces.distributions import around, distribution, draw, drawn
from golflab.spaces.scales import paced, suited

OFF = "off"


@dataclass(frozen=True)
class Space:
    """A preset and what may vary around it.

    Attributes:
        name: label in reports.
        preset: the recipe around which everything varies.
        techniques: names of the techniques that may be on or off.
        knobs: ``technique.knob`` for each knob that varies; ``technique.*`` for all of a technique's; ``*`` for all.
        shape: field of the shape -> the values it may take.
    """

    name: str
    preset: Recipe
    techniques: tuple[str, ...] = ()
    knobs: tuple[str, ...] = ()
    shape: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "techniques", tuple(dict.fromkeys(find(name).name for name in self.techniques)))
        fields = [f.name for f in dataclasses.fields(Shape)]
        if unknown := sorted(set(self.shape) - set(fields)):
            hint = did_you_mean(unknown[0], fields)
            raise ValueError(
                f"space {self.name!r}: {unknown[0]!r} is no field of the shape.{hint} The fields are: {', '.join(fields)}."
            )
        self._expanded_knobs()
        self.preset.check()

    # ------------------------------------------------------------------ what varies

    @cached_property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """Parameter name -> techniques that compete for it. A single technique has its own name, several have their slot's."""
        groups: dict[str, tuple[str, ...]] = {}
        for name in self.techniques:
            slot = find(name).slot
            if name in self.always:
                continue
            mates = tuple(n for n in self.techniques if find(n).slot == slot)
            alone = SLOTS[slot].many or len(mates) == 1
            groups[name if alone else slot] = (name,) if alone else mates
        return groups

    @cached_property
    def always(self) -> tuple[str, ...]:
        """Listed techniques that cannot be off: the default of their slot, where no other one is listed for it."""
        slots = [find(name).slot for name in self.techniques]
        return tuple(
            n for n, slot in zip(self.techniques, slots, strict=True) if SLOTS[slot].default == n and slots.count(slot) == 1
        )

    @cached_property
    def owners(self) -> dict[str, tuple[str, Any]]:
        """Knob parameter (``ema.decay``) -> the choice it depends on and the value that switches it on."""
        value_of = {
            name: (parameter, True if alternatives == (parameter,) else name)
            for parameter, alternatives in self.choices.items()
            for name in alternatives
        }
        return {key: value_of[key.partition(".")[0]] for key in self._expanded_knobs() if key.partition(".")[0] in value_of}

    @cached_property
    def _distributions(self) -> dict[str, BaseDistribution]:
        found: dict[str, BaseDistribution] = {}
        for parameter, alternatives in self.choices.items():
            lone = alternatives == (parameter,)
            # Where the slot's default is one of them, it is what off would mean.
            off = () if SLOTS[find(alternatives[0]).slot].default in alternatives else (OFF,)
            found[parameter] = CategoricalDistribution((False, True) if lone else (*off, *alternatives))
        for key, (rule, default) in self._expanded_knobs().items():
            found[key] = distribution(rule, default)
        for name, values in self.shape.items():
            found[f"shape.{name}"] = CategoricalDistribution(tuple(values))
        return found

    def distributions(self) -> dict[str, BaseDistribution]:
        """Parameter name -> Optuna distribution: switches and choices first, then knobs, then shape fields."""
        return dict(self._distributions)

    def __len__(self) -> int:
        return len(self._distributions)

    # ------------------------------------------------------------------ parameters to recipe and back

    def recipe(self, params: Mapping[str, Any]) -> Recipe:
        """Return the recipe these parameters describe. Missing ones keep the preset's value; clashes are resolved.

        Of two techniques that clash, the one with the later slot is left out; so is one that lacks a technique it needs.

        Raises:
            ValueError: a parameter this space does not have, or a shape that no technique can repair.
        """
        return self._recipe(tuple(params.items()))

    @cached_property
    def _recipe(self) -> Callable[[tuple[tuple[str, Any], ...]], Recipe]:
        """`recipe`, cached, since a search asks for the same combination several times."""
        return lru_cache(maxsize=4096)(lambda items: self._made(dict(items)))

    def _made(self, params: Mapping[str, Any]) -> Recipe:
        if unknown := set(params) - set(self._distributions):
            name = sorted(unknown)[0]
            hint = did_you_mean(name, self._distributions) or f" It has: {', '.join(self._distributions)}."
            raise ValueError(f"space {self.name!r} has no parameter {name!r}.{hint}")
        shape = {key.partition(".")[2]: value for key, value in params.items() if key.startswith("shape.")}
        base = self.preset.with_(**shape) if shape else self.preset
        chosen = [self._tuned(name, params) for name in self._chosen(params)]
        taken = {t.slot for t in chosen if not SLOTS[t.slot].many}
        kept = [
            self._tuned(t.name, params) for t in base.all_techniques() if t.slot not in taken and t.name not in self.techniques
        ]
        defaults = [self._tuned(slot.default, params) for slot in SLOTS.values() if slot.default in self.techniques]
        return self._resolve(base, kept, chosen, defaults)

    def params(self, recipe: Recipe) -> dict[str, Any]:
        """The parameters of this space that describe ``recipe``: the inverse of `recipe`."""
        here = {t.name: t for t in recipe.all_techniques()}
        found: dict[str, Any] = {}
        for parameter, alternatives in self.choices.items():
            on = [name for name in alternatives if name in here]
            found[parameter] = bool(on) if alternatives == (parameter,) else (on[0] if on else OFF)
        for key, (_, default) in self._expanded_knobs().items():
            name, _, knob = key.partition(".")
            found[key] = getattr(here[name], knob) if name in here else default
        for name, values in self.shape.items():
            value = getattr(recipe.shape, name)
            found[f"shape.{name}"] = value if value in values else min(values, key=lambda v: abs(v - value))
        return found

    def canonical(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """``params`` with the switches of what `recipe` dropped set to off; knobs keep their sampled values."""
        switches = self.params(self.recipe(params))
        return {key: switches[key] if key in self.choices else value for key, value in params.items()}

    def random(self, rng: random.Random) -> dict[str, Any]:
        """Draw every parameter uniformly (on its log scale where it has one)."""
        return {key: draw(rule, rng) for key, rule in self._distributions.items()}

    # ------------------------------------------------------------------ helpers

    def _chosen(self, params: Mapping[str, Any]) -> list[str]:
        """Names of the listed techniques that ``params`` switch on; a missing parameter keeps the preset's."""
        preset = self.params(self.preset) if set(self.choices) - set(params) else {}
        values = {key: params.get(key, preset.get(key)) for key in self.choices}
        chosen = [key if value is True else value for key, value in values.items() if value not in (False, OFF, None)]
        return [*self.always, *chosen]

    def _tuned(self, name: str, params: Mapping[str, Any]) -> Technique:
        """A technique as the preset has it, with the knobs that ``params`` give it."""
        start, knobs = self._untuned[name]
        changes = {knob: params[key] for knob, key in knobs.items() if key in params}
        return dataclasses.replace(start, **changes) if changes else start  # type: ignore[type-var]

    def _default(self, name: str) -> Technique:
        """A technique's default knobs, which are meant for the challenge's shape and steps, as this preset needs them."""
        start = find(name)().rescale(Shape(), self.preset.shape)
        return suited(start, self.preset) if self._paced else start

    @cached_property
    def _paced(self) -> bool:
        return paced(self.preset) == self.preset

    @cached_property
    def _untuned(self) -> dict[str, tuple[Technique, dict[str, str]]]:
        """Name -> the technique as the preset has it, and the parameters of its knobs that vary."""
        here = {t.name: t for t in self.preset.all_techniques()}
        given = {t.name for t in self.preset.techniques}
        found = {}
        for name in dict.fromkeys([*here, *self.techniques]):
            start = here[name] if name in given else self._default(name)
            found[name] = start, {knob: key for knob in start.knobs() if (key := f"{name}.{knob}") in self._knob_table}
        return found

    def _resolve(self, base: Recipe, kept: list[Technique], chosen: list[Technique], defaults: list[Technique]) -> Recipe:
        """Drop chosen techniques, the last ones first, until all fit together; the preset's own are never dropped.

        A slot that loses its technique falls back to its default, with the knobs sampled for it. Where sampled knobs of one of
        the preset's own techniques cannot work (the first layer behind the last one, say), it keeps the preset's.
        """
        order = {slot: i for i, slot in enumerate(SLOTS)}
        on = sorted(chosen, key=lambda t: (order[t.slot], t.name))
        while (offender := _offender(kept, on)) is not None:
            on.remove(offender)
        while True:
            filled = {t.slot for t in (*kept, *on)}
            recipe = dataclasses.replace(base, techniques=(*kept, *on, *(t for t in defaults if t.slot not in filled)))
            objecting = next((t for t in reversed(on) if t.check(recipe)), None)
            if objecting is None:
                restored = [self._untuned[t.name][0] if t.check(recipe) else t for t in kept]
                return recipe.check() if restored == kept else self._resolve(base, restored, chosen, defaults)
            on.remove(objecting)
            while (offender := _offender(kept, on)) is not None:  # another technique may have needed it
                on.remove(offender)

    def _expanded_knobs(self) -> dict[str, tuple[Knob, Any]]:
        """``technique.knob`` -> its rule and its value in the preset (or default), wildcards expanded."""
        return self._knob_table

    @cached_property
    def _largest(self) -> Shape:
        """The deepest shape in this space, since ranges must be valid for all of its shapes."""
        return dataclasses.replace(self.preset.shape, layers=max((self.preset.shape.layers, *self.shape.get("layers", ()))))

    @cached_property
    def _knob_table(self) -> dict[str, tuple[Knob, Any]]:
        fixed = {t.name: t for t in self.preset.all_techniques()}
        searched = dict.fromkeys([*self.techniques, *(name for name in fixed if name not in self.techniques)])
        table: dict[str, tuple[Knob, Any]] = {}
        for pattern in self.knobs:
            wanted, _, which = pattern.partition(".")
            names = self.techniques if wanted == "*" else (find(wanted).name,)
            for name in names:
                if name not in searched:
                    raise ValueError(
                        f"space {self.name!r}: knob {pattern!r} belongs to {name}, which is neither listed nor in the preset."
                    )
                rules = find(name).ranges(Recipe(self._largest))
                if which not in ("", "*") and which not in rules:
                    raise ValueError(f"space {self.name!r}: {name} has no knob {which!r}; it has {', '.join(rules) or 'none'}.")
                start = fixed.get(name) or self._default(name)
                for knob, rule in rules.items():
                    default = getattr(start, knob)
                    varies = not rule.choices or len(drawn(rule, default)) > 1
                    if varies and (which == knob or (which in ("", "*") and not rule.speed)):
                        table[f"{name}.{knob}"] = (around(rule, default), default)
        return table


def _offender(kept: list[Technique], on: list[Technique]) -> Technique | None:
    """The last of ``on`` that needs something absent or clashes with something before it, or None."""
    filled = {t.slot for t in (*kept, *on)}
    defaults = [slot.default for slot in SLOTS.values() if slot.default and slot.name not in filled]
    names = {t.name for t in (*kept, *on)} | set(defaults)
    unmet = next((t for t in reversed(on) if any(other not in names for other in t.needs)), None)
    if unmet is not None:
        return unmet
    known, barred, last = {t.name for t in kept} | set(defaults), {name for t in kept for name in t.clashes}, None
    for t in on:
        if t.name in barred or not known.isdisjoint(t.clashes):
            last = t
        known.add(t.name)
        barred.update(t.clashes)
    return last
