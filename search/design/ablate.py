"""Plan an ablation before anything is spent: which recipes, how many trainings, how long, how small an effect it could show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from golflab.model.compression.forecast import fit
from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.technique import Technique, find
from golflab.search.design import matrices as designs
from golflab.search.experiment.options import REFERRING
from golflab.search.ledger.forecast import Forecaster
from golflab.search.ledger.trainings import training_key

DESIGNS = ("leave-one-out", "add-one-in", "pairs", "screen", "d-optimal", "factorial")
# Standard deviation of one run, bits per byte. Full scale: the median of 23 published submissions. Below it: what is left
# of 0.014 between seeds once arms share seeds, at 0.6 million tokens. An experiment's own is measured as soon as it runs.
NOISE_FULL, NOISE_SMALL = 0.0007, 0.004


@dataclass(frozen=True)
class Plan:
    """What an ablation will run.

    Attributes:
        design: its name, after "screen" has become folded Plackett-Burman or D-optimal.
        preset: what varies around.
        techniques: names that are switched.
        recipes: to run, the preset first where the design has it.
        trainings: how many of them must train; the others differ only after training.
        se: standard error expected of an effect, bits per byte.
        smallest: smallest effect that shows at 5 % with power 0.8, bits per byte.
        noise: assumed standard deviation of one run.
        seconds: expected wall time on one worker, None if unknown.
        notes: what a reader should know before paying.
    """

    design: str
    preset: Recipe
    techniques: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    trainings: int
    se: float
    smallest: float
    noise: float
    seconds: float | None = None
    notes: tuple[str, ...] = field(default=())

    def json(self) -> dict[str, Any]:
        """The plan as one JSON object, recipes by hash."""
        return {
            "design": self.design,
            "preset": self.preset.name,
            "techniques": list(self.techniques),
            "runs": len(self.recipes),
            "trainings": self.trainings,
            "seconds": self.seconds,
            "noise": self.noise,
            "se": _finite(self.se),
            "smallest": _finite(self.smallest),
            "recipes": [r.hash for r in self.recipes],
            "notes": list(self.notes),
        }

    def text(self, console: Any) -> None:
        """Print the plan to a `rich` console."""
        from rich.table import Table

        grid = Table(
            show_header=False, title=f"Plan: {self.design} ablation of {self.preset.name or 'a recipe'}", title_justify="left"
        )
        grid.add_row("techniques", f"{len(self.techniques)}: {', '.join(self.techniques)}")
        grid.add_row("runs", str(len(self.recipes)))
        grid.add_row(
            "trainings", f"{self.trainings} (the other {len(self.recipes) - self.trainings} differ only after training)"
        )
        grid.add_row(
            "expected time",
            "unknown until one run has been timed" if self.seconds is None else f"{self.seconds / 60:.0f} min on one worker",
        )
        shows = (
            f"{self.smallest:.4f} bits per byte"
            if math.isfinite(self.smallest)
            else "nothing: no degree of freedom is left for an error; add --seeds"
        )
        grid.add_row("smallest effect it can show", f"{shows} (5 %, power 80 %, if one run's noise is {self.noise:.4f})")
        for note in self.notes:
            grid.add_row("note", note)
        console.print(grid)


def plan(
    preset: Recipe,
    design: str = "screen",
    *,
    techniques: Sequence[str | Technique] = (),
    seeds: int = 1,
    iso_size: bool = False,
    runs: int | None = None,
    forecaster: Callable[[Recipe], dict[str, float]] | None = None,
    existing: Sequence[Recipe] = (),
    noise: float | None = None,
    seconds_per_training: float | None = None,
    binding: bool = True,
) -> Plan:
    """Choose the recipes of an ablation.

    Args:
        preset: the recipe to take apart.
        design: one of `DESIGNS`. ``screen`` is folded Plackett-Burman where all its combinations are possible, and D-optimal
            over the possible ones where they are not.
        techniques: what to vary; by default what the preset has on. Names of the preset's techniques, or techniques to try
            on top (needed for ``add-one-in`` from a bare recipe).
        seeds: runs of every combination, with the same seeds in all of them (common random numbers).
        iso_size: widen or narrow the MLP of every recipe until it is as large as the preset (or as the limit, if that is
            less), so that the bytes a removed technique frees are given back.
        runs: number of combinations of a D-optimal design; by default as many as folded Plackett-Burman would take.
        forecaster: recipe -> low, mid and high bytes; by default the search's own. A combination whose middle forecast is
            over the limit is not possible.
        existing: recipes already run: a D-optimal design complements them.
        noise: standard deviation of one run, for the smallest effect; by default what is usual at the preset's scale.
        seconds_per_training: for the expected time.
        binding: whether the byte limit makes combinations impossible; `golflab.search.experiment.start.run_plan` is to be told
        the same.

    Raises:
        ValueError: an unknown design or technique, nothing to vary, no possible combination, or a limit that leaves out what
            all others would be compared with.
    """
    if design not in DESIGNS:
        raise ValueError(f"ablate: unknown design {design!r}; it is one of {', '.join(DESIGNS)}.")
    if seeds < 1:
        raise ValueError(f"ablate: seeds={seeds} must be 1 at least.")
    forecaster = Forecaster() if forecaster is None else forecaster
    noise = usual_noise(preset) if noise is None else noise
    switched = _switched(preset, techniques)
    names = list(switched)
    size = int(forecaster(preset)["mid"])
    target = (min(preset.limit, size) if binding else size) if iso_size else None
    build = _Builder(preset, switched, lambda r: forecaster(r)["mid"], target, binding)
    name, combinations, notes = _combinations(design, names, build, runs, existing)
    if not binding:
        notes.append(_unbound(preset, size))
    dropped = [c for c in combinations if not build.possible(c)]
    kept = list(dict.fromkeys(c for c in combinations if build.possible(c)))
    if dropped:
        notes.append(
            f"left out, because not possible: {len(dropped)} of {len(combinations)} combinations, e.g. "
            f"{_reason(build, dropped[0], names)}"
        )
    if dropped and not iso_size and any("fit" in build.why_not(c) for c in dropped):
        notes.append("with --iso-size the MLP is narrowed until they fit")
    if len(kept) < 2:
        raise ValueError(
            "ablate: fewer than two combinations are possible, so nothing can be compared. Raise the byte limit or "
            "take other techniques."
        )
    if design in REFERRING and "fit" in build.why_not(combinations[0]):
        raise ValueError(
            f"ablate: what all others are compared with is not possible: {build.why_not(combinations[0])}. Raise --limit, or "
            "leave it out: without it, the byte limit stops nothing in an ablation."
        )
    recipes = [build.recipe(c).with_(seed=preset.seed + s) for c in kept for s in range(seeds)]
    recipes = list({r.hash: r for r in recipes}.values())
    se, smallest, blind = _resolution(kept, names, seeds, noise)
    notes += [f"cannot be told apart by these runs: {', '.join(blind)}"] if blind else []
    trainings = len({training_key(r) for r in recipes})
    seconds = None if seconds_per_training is None else trainings * seconds_per_training
    return Plan(name, preset, tuple(names), tuple(recipes), trainings, se, smallest, noise, seconds, tuple(notes))


@dataclass
class _Builder:
    """From combinations to recipes, with what is possible remembered."""

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
        made = self.preset.without(*off).with_(*(self.switched[n] for n in sorted(on)))
        # Plain text has other bytes than rewritten text, so a score by them would be no comparison.
        instead = [find(t.instead)() for n, t in self.switched.items() if n not in on and t.instead]
        return made.with_(*(t for t in instead if made.tenant(t.slot) is None))

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
        """A quick stand-in for `possible`: the rules as they are, the size from a product of one factor per technique."""
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


def _unbound(preset: Recipe, size: int) -> str:
    """That the byte limit does not bind, and whether that matters here."""
    told = f"the byte limit of {preset.limit:,} stops nothing here (--limit BYTES makes it bind)"
    over = f"; {preset.name or 'the preset'} itself is forecast at {size:,}, over it"
    return told + (over if size > preset.limit else "")


def _log_sizes(build: _Builder, names: list[str]) -> tuple[float, dict[str, float]]:
    """Log bytes with every possible technique on, and what taking each one out adds to it."""
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


def _switched(preset: Recipe, techniques: Sequence[str | Technique]) -> dict[str, Technique]:
    """The techniques that vary, by name. A technique equal to its slot's default is always there and cannot."""
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
    asked = {n: t for n, t in asked.items() if SLOTS[t.slot].default != n or t != type(t)()}
    if len(asked) < 2:
        raise ValueError(
            f"ablate: {preset.name or 'the recipe'} has {len(asked)} technique(s) to switch; at least two are "
            "needed. Name some to try on top."
        )
    return asked


def _combinations(
    design: str, names: list[str], build: _Builder, runs: int | None, existing: Sequence[Recipe]
) -> tuple[str, list[designs.Combination], list[str]]:
    """The design's own name, its combinations and what should be said about them."""
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


def _d_optimal(names: list[str], runs: int, build: _Builder, done: list[designs.Combination]) -> list[designs.Combination]:
    """D-optimal over a cheap guess of what is possible; what then turns out not to be is chosen anew beside what is kept."""
    guess = build.guess(names)
    kept: list[designs.Combination] = []
    for attempt in range(6):
        missing = runs - len(kept)
        if missing and missing + len(kept) + len(done) > len(names) + 1:
            kept += [
                c for c in designs.d_optimal(names, missing, guess, [*done, *kept], seed=attempt, starts=1) if build.possible(c)
            ]
    return kept


def _resolution(kept: list[designs.Combination], names: list[str], seeds: int, noise: float) -> tuple[float, float, list[str]]:
    """Median standard error, the effect that shows with power 0.8 at 5 %, and the techniques these runs leave blind."""
    rows = np.array([[1.0, *(0.5 if n in c else -0.5 for n in names)] for c in kept])
    values, vectors = np.linalg.eigh(rows.T @ rows)
    null = vectors[:, values < 1e-9 * len(rows)]
    seen = (null[1:] ** 2).sum(axis=1) < 1e-8
    blind = [n for n, s in zip(names, seen, strict=True) if not s]
    df = len(kept) * seeds - (len(names) + 1 - null.shape[1]) - (seeds - 1)
    variance = np.diag(np.linalg.pinv(rows.T @ rows, hermitian=True))[1:][seen] / seeds
    se = noise * float(np.sqrt(np.median(variance))) if seen.any() else math.nan
    return se, se * detectable(df) if df >= 1 else math.inf, blind


def usual_noise(preset: Recipe) -> float:
    """Standard deviation of one run that is usual at a preset's scale, bits per byte."""
    return NOISE_FULL if (preset.schedule.tokens or 10**9) >= 10**8 else NOISE_SMALL


def detectable(df: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Standard errors an effect must measure for a two-sided t test to see it (search may not import analysis)."""
    crit = float(stats.t.ppf(1 - alpha / 2, df))
    low, high = 0.0, crit + 1.0
    while stats.nct.sf(crit, df, high) < power:
        high *= 1.5
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stats.nct.sf(crit, df, middle) < power else (low, middle)
    return high


def _reason(build: _Builder, on: designs.Combination, names: list[str]) -> str:
    off = [n for n in names if n not in on]
    label = f"without {', '.join(off)}" if len(off) <= len(on) else f"with {', '.join(sorted(on)) or 'none'}"
    return f"{label[:120]}: {build.why_not(on)}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
