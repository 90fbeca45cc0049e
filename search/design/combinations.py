"""From a design to recipes: which combinations it has, which of them are possible, and what recipe each one is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from golflab.model.compression.forecast import fit
from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.system.wording import number_of
from golflab.model.technique import Technique, find
from golflab.search.design import matrices as designs
from golflab.spaces.scales import PACED, paced, without

DESIGNS = ("leave-one-out", "add-one-in", "pairs", "screen", "d-optimal", "factorial")


@dataclass
class Builder:
    """Makes recipes from combinations, and remembers which are possible."""

    preset: Recipe
    switched: dict[str, Technique]
    size: Callable[[Recipe], float]
    target: int | None
    binding: bool = True
    _known: dict[designs.Combination, str] = field(default_factory=dict)
    _rules: dict[designs.Combination, str] = field(default_factory=dict)

    def recipe(self, on: designs.Combination) -> Recipe:
        """The preset with exactly these of the switched techniques on, at the preset's size if that was asked for."""
        made = self._made(on)
        return made if self.target is None else fit(made, self.target, self.size)

    def _made(self, on: designs.Combination) -> Recipe:
        have = {t.name for t in self.preset.techniques}
        off = sorted((set(self.switched) & have) - on)
        made = without(self.preset, *off).with_(*(self.switched[n] for n in sorted(on)))
        # Plain text has other bytes than rewritten text, so a score by them would be no comparison.
        instead = [find(t.instead)() for n, t in self.switched.items() if n not in on and t.instead]
        return made.with_(*(t for t in instead if made.technique_in(t.slot) is None))

    def rule(self, on: designs.Combination) -> str:
        """Why a combination breaks a rule (slots, clashes, needs), whatever its size; empty if it breaks none."""
        if on not in self._rules:
            mates = [n for n in sorted(on) if any(m < n and _exclusive(self.switched[m], self.switched[n]) for m in on)]
            try:
                self._rules[on] = f"{mates[0]} shares its slot with another" if mates else ""
                if not mates:
                    self._made(on).check()
            except ValueError as error:
                self._rules[on] = str(error)
        return self._rules[on]

    def why_not(self, on: designs.Combination) -> str:
        """Why a combination is impossible, empty if it is possible."""
        if on not in self._known:
            self._known[on] = self.rule(on)
            try:
                made = self.recipe(on) if not self._known[on] else None
                size = self.size(made) if made is not None else 0.0
                if made is not None and self.binding and size > made.limit:
                    self._known[on] = f"it does not fit: {size:,.0f} bytes forecast, {made.limit:,} allowed"
            except ValueError as error:
                self._known[on] = str(error)
        return self._known[on]

    def guess(self, names: list[str]) -> designs.Allowed:
        """A fast approximation of `possible`: the same rules, but the size is a product of one factor per technique."""
        if self.target is not None or not self.binding:
            return lambda on: not self.rule(on)
        bare, change = _log_sizes(self, names)
        room = math.log(self.preset.limit) - bare
        return lambda on: (
            self._known[on] == "" if on in self._known else sum(change[n] for n in on) <= room and not self.rule(on)
        )

    def possible(self, on: designs.Combination) -> bool:
        """Whether a combination can be run."""
        return not self.why_not(on)


def reason_of(build: Builder, on: designs.Combination, names: list[str]) -> str:
    """A combination, named by the techniques that are off (or on, if these are fewer), and why it is impossible."""
    off = [n for n in names if n not in on]
    label = f"without {', '.join(off)}" if len(off) <= len(on) else f"with {', '.join(sorted(on)) or 'none'}"
    return f"{label[:120]}: {build.why_not(on)}"


def _log_sizes(build: Builder, names: list[str]) -> tuple[float, dict[str, float]]:
    """Log bytes without any technique, and the log factor that each technique adds."""
    full: set[str] = set()
    for name in names:
        if not build.rule(frozenset(full | {name})):
            full.add(name)
    whole = math.log(build.size(build.recipe(frozenset(full))))
    out = {}
    for name in names:
        other = frozenset(
            full ^ {name}
            if name in full
            else {m for m in full if not _exclusive(build.switched[m], build.switched[name])} | {name}
        )
        change = math.log(build.size(build.recipe(other))) - whole if not build.rule(other) else 0.0
        out[name] = -change if name in full else change
    return whole - sum(out[n] for n in full), out


def _exclusive(a: Technique, b: Technique) -> bool:
    """Whether two techniques compete for a slot that holds one."""
    return a.slot == b.slot and not SLOTS[a.slot].many


def switched_techniques(preset: Recipe, techniques: Sequence[str | Technique]) -> dict[str, Technique]:
    """The techniques that vary, by name. What equals its slot's default is always on and cannot vary.

    Nor can the slot's default technique with knobs of its own, if a paced preset has it: what takes its place would be the same
    technique, paced too, with other knobs.
    """
    here = {t.name: t for t in preset.techniques}
    asked: dict[str, Technique] = {}
    for item in techniques or list(here):
        if isinstance(item, Technique):
            asked[item.name] = item
        elif item in here:
            asked[item] = here[item]
        else:
            raise ValueError(
                f"ablate: {item!r} is not switched on in {preset.name or 'the recipe'}. On are: {', '.join(here) or 'none'}."
            )
    own = paced(preset) == preset
    fixed = [n for n, t in asked.items() if SLOTS[t.slot].default == n and (t == type(t)() or (own and t.slot in PACED))]
    asked = {n: t for n, t in asked.items() if n not in fixed}
    if len(asked) < 2:
        raise ValueError(
            f"ablate: {preset.name or 'the recipe'} has {number_of(len(asked), 'technique')} to switch; at least two are "
            "needed. Name some to add with --technique."
        )
    return asked


def combinations_of(
    design: str, names: list[str], build: Builder, runs: int | None, existing: Sequence[Recipe]
) -> tuple[str, list[designs.Combination], list[str]]:
    """The design's full name, its combinations, and notes about them."""
    simple = {
        "leave-one-out": designs.leave_one_out,
        "add-one-in": designs.add_one_in,
        "pairs": designs.all_pairs,
        "factorial": designs.full_factorial,
    }
    if design in simple:
        return design, simple[design](names), []
    folded = designs.folded_plackett_burman(names)
    if design == "screen" and not existing and all(build.possible(c) for c in folded):
        return "folded Plackett-Burman", folded, []
    done = [frozenset(t.name for t in r.techniques) & set(names) for r in existing]
    chosen = _d_optimal(names, runs or len(folded), build, done)
    notes = (
        []
        if design == "d-optimal"
        else ["some of the folded design's combinations are not possible, so this one is D-optimal over those that are"]
    )
    return "D-optimal", chosen, notes


def _d_optimal(names: list[str], runs: int, build: Builder, done: list[designs.Combination]) -> list[designs.Combination]:
    """A D-optimal design over the combinations that seem possible; impossible ones are replaced, in up to six attempts."""
    guess = build.guess(names)
    kept: list[designs.Combination] = []
    for attempt in range(6):
        missing = runs - len(kept)
        if missing and missing + len(kept) + len(done) > len(names) + 1:
            kept += [
                c for c in designs.d_optimal(names, missing, guess, [*done, *kept], seed=attempt, starts=1) if build.possible(c)
            ]
    return kept
