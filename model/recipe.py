"""Recipe: everything one run needs, frozen, readable as JSON and identified by its content.

A recipe is a shape, a schedule, data, techniques, a byte limit and a seed. Recipes are derived in Python:
``BASELINE.with_(SmearGate(), layers=11).without("unet_skips")``. Techniques are kept in slot order and the ones equal to
their slot's default are left out, so that two recipes meaning the same thing are the same recipe.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from golflab.model.shape import Data, Schedule, Shape, make_plain
from golflab.model.slots import SLOTS
from golflab.model.system.wording import did_you_mean
from golflab.model.technique import Technique, find


def _by_slot(techniques: Iterable[Technique]) -> dict[str, tuple[Technique, ...]]:
    found: dict[str, tuple[Technique, ...]] = {}
    for t in techniques:
        found[t.slot] = (*found.get(t.slot, ()), t)
    return found


@functools.cache
def _default(slot: str) -> tuple[Technique, ...]:
    """The technique in a slot for which a recipe names none, with its default knobs; empty where the slot has no default."""
    name = SLOTS[slot].default
    return (find(name)(),) if name else ()


CHALLENGE_BYTES = 16_000_000  # what the code and the packed weights of an entry may have

_PARTS = {"shape": Shape, "schedule": Schedule, "data": Data}


@dataclass(frozen=True)
class Recipe:
    """Everything one run needs. ``name`` is a label (the preset it came from); it is not part of the recipe's identity."""

    shape: Shape = field(default_factory=Shape)
    schedule: Schedule = field(default_factory=Schedule)
    data: Data = field(default_factory=Data)
    techniques: tuple[Technique, ...] = ()
    limit: int = 16_000_000
    seed: int = 0
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        self._check_parts()
        order = list(SLOTS)
        kept = {t.name: t for t in self.techniques}
        if len(kept) != len(self.techniques):
            raise ValueError(f"recipe: a technique is named twice among {', '.join(t.name for t in self.techniques)}.")
        for slot, mates in _by_slot(self.techniques).items():
            if len(mates) > 1 and not SLOTS[slot].many:
                named = " and ".join(t.name for t in mates)
                raise ValueError(f"recipe: {named} both fill the slot {slot!r}, which holds one.")
        # Knob values that mean the same model in this recipe become one value, so that they are the same recipe.
        settled = [t.canonical(self) for t in self.techniques]
        self.__dict__.pop("_filled", None)  # cached before the techniques had their final form
        # An exported script carries only the default techniques that it uses, so no other default is looked up.
        ordered = sorted(
            (t for t in settled if not (SLOTS[t.slot].default == t.name and (t,) == _default(t.slot))),
            key=lambda t: (order.index(t.slot), t.name),
        )
        object.__setattr__(self, "techniques", tuple(ordered))

    def _check_parts(self) -> None:
        make_plain(self, "recipe")
        for part, kind in _PARTS.items():
            if not isinstance(getattr(self, part), kind):
                raise ValueError(f"recipe: {part}={getattr(self, part)!r} must be a {kind.__name__}.")
        if strange := [t for t in self.techniques if not isinstance(t, Technique)]:
            raise ValueError(f"recipe: {strange[0]!r} is no technique; `golflab.model.technique.parse` reads one from text.")
        if self.limit < 1:
            raise ValueError(f"recipe: limit={self.limit} must be a positive number of bytes.")
        if self.seed < 0:
            raise ValueError(f"recipe: seed={self.seed} must be a whole number of at least 0.")

    # ------------------------------------------------------------------ derive

    def with_(self, *techniques: Technique, **changes: Any) -> Recipe:
        """Return a copy with these techniques switched on and these fields changed.

        A new technique replaces the same technique with other knobs and, in a slot that holds one, the technique there.
        Keywords are fields of the recipe or of its shape, schedule or data: ``with_(SmearGate(), layers=11, tokens=2_000_000,
            seed=3)``.
        """
        new = {t.name: t for t in self.techniques}
        for t in techniques:
            if not SLOTS[t.slot].many:
                new = {name: old for name, old in new.items() if old.slot != t.slot}
            new[t.name] = t
        fields: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
        top: dict[str, Any] = {}
        for key, value in changes.items():
            owner = next((p for p, cls in _PARTS.items() if key in {f.name for f in dataclasses.fields(cls)}), None)
            if owner is not None:
                fields[owner][key] = value
            elif key in {"shape", "schedule", "data", "limit", "seed", "name"}:
                top[key] = value
            else:
                raise _unknown_field(key, _field_names())
        for part, values in fields.items():
            if values:
                top[part] = dataclasses.replace(top.get(part, getattr(self, part)), **values)
        return dataclasses.replace(self, techniques=tuple(new.values()), **top)

    def without(self, *names: str) -> Recipe:
        """Return a copy with these techniques switched off; their slots fall back to the default.

        Raises:
            ValueError: one of them is not switched on here.
        """
        wanted = {find(name).name for name in names}
        here = {t.name for t in self.techniques}
        if missing := sorted(wanted - here):
            raise ValueError(f"recipe: {missing[0]!r} is not switched on here. On are: {', '.join(sorted(here)) or 'none'}.")
        return dataclasses.replace(self, techniques=tuple(t for t in self.techniques if t.name not in wanted))

    # ------------------------------------------------------------------ ask

    def techniques_in(self, slot: str) -> tuple[Technique, ...]:
        """The techniques in ``slot``; the default one where the recipe names none."""
        return self._filled[slot]

    @functools.cached_property
    def _filled(self) -> dict[str, tuple[Technique, ...]]:
        named = _by_slot(self.techniques)
        return {slot: named.get(slot) or _default(slot) for slot in SLOTS}

    def technique_in(self, slot: str) -> Technique | None:
        """The technique in a slot that holds one, or None."""
        return next(iter(self.techniques_in(slot)), None)

    def all_techniques(self) -> tuple[Technique, ...]:
        """The techniques in all slots, the slots' defaults included, in slot order."""
        return tuple(t for slot in SLOTS for t in self.techniques_in(slot))

    def build(self, slot: str, layer: int | None = None) -> Any:
        """What the technique in a slot that holds one builds for this shape; None where the slot is empty.

        Args:
            slot: its name, one of `golflab.model.slots.SLOTS`.
            layer: the block it is built for, in slots that are filled per layer.
        """
        technique = self.technique_in(slot)
        return None if technique is None else technique.build(self.shape, layer)

    def check(self) -> Recipe:
        """Return self if its techniques can work together.

        Raises:
            ValueError: two techniques clash, one that another needs is missing, or a technique's `check` fails; with the
                reason.
        """
        names = {t.name for t in self.all_techniques()}
        for t in self.techniques:
            why: str | None
            for other, why in t.clashes.items():
                if other in names:
                    raise ValueError(f"{t.name} cannot be combined with {other}: {why} Switch one of them off.")
            for other, why in t.needs.items():
                if other not in names:
                    raise ValueError(f"{t.name} needs {other}: {why} Add `{other}` or leave `{t.name}` out.")
        for t in self.all_techniques():
            if why := t.check(self):
                raise ValueError(f"{t.name}: {why}")
        return self

    # ------------------------------------------------------------------ JSON and identity

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values; `from_json` reads it back."""
        body: dict[str, Any] = {part: dataclasses.asdict(getattr(self, part)) for part in _PARTS}
        if not self.data.allow_overlap:  # older recipes have no such field and must keep their hash
            del body["data"]["allow_overlap"]
        body["techniques"] = {t.name: t.settings() for t in self.techniques}
        return body | {"limit": self.limit, "seed": self.seed, "name": self.name}

    @staticmethod
    def from_json(body: dict[str, Any]) -> Recipe:
        """Read `to_json`'s output.

        Raises:
            ValueError: an unknown field or technique, or a value out of range.
        """
        if unknown := sorted(set(body) - _field_names(top=True)):
            raise _unknown_field(unknown[0], _field_names(top=True))
        try:
            parts = {part: cls(**body.get(part, {})) for part, cls in _PARTS.items()}
            techniques = tuple(find(name)(**settings) for name, settings in body.get("techniques", {}).items())
        except (TypeError, AttributeError) as error:
            raise ValueError(f"recipe: {error}.") from None
        rest = {key: body[key] for key in ("limit", "seed", "name") if key in body}
        return Recipe(techniques=techniques, **parts, **rest)

    @functools.cached_property
    def hash(self) -> str:
        """Twelve hex digits of the recipe's content: equal recipes share it, on every machine."""
        return digest({key: value for key, value in self.to_json().items() if key != "name"})

    def __str__(self) -> str:
        return " ".join([self.name or "recipe", *map(str, self.techniques)])


def counted_code(recipe: Recipe, length: int) -> int:
    """Bytes of a script of this length that count towards the recipe's limit.

    At the challenge's limit all of them do. A small model's limit is a share of that, and the same share of the script counts:
    a script is as long for a small model as for a large one, and would otherwise fill half of the smallest scale's limit.
    """
    return round(length * min(1.0, recipe.limit / CHALLENGE_BYTES))


def digest(body: Any) -> str:
    """Twelve hex digits identifying a JSON value."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]


def _field_names(top: bool = False) -> set[str]:
    names = {f.name for f in dataclasses.fields(Recipe)}
    return names if top else names.union(*({f.name for f in dataclasses.fields(cls)} for cls in _PARTS.values()))


def _unknown_field(name: str, known: set[str]) -> ValueError:
    hint = did_you_mean(name, known)
    return ValueError(f"recipe: unknown field {name!r}.{hint} The fields are: {', '.join(sorted(known))}.")
