"""Technique, knob and slot: the three terms that everything else uses.

A *technique* is a frozen dataclass in a file of its own under ``model/techniques/<stage>/``; its fields are its
*knobs*. It fills exactly one *slot*, a named place in the pipeline that takes values and returns a value. The folder
is the registry: `catalogue` finds every technique there is, and a new one needs no edit anywhere else.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from golflab.model.shape import Shape, plain_value
from golflab.model.slots import SLOTS, STAGES
from golflab.model.system.wording import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

    from golflab.model.recipe import Recipe


@dataclass(frozen=True)
class Knob:
    """The range of a technique's field: bounds are inclusive; ``choices`` replaces them where values are not numbers.

    ``faults`` are choices that reproduce a fault of a published entry. A recipe may have them, but no space draws them.
    ``speed`` marks a knob whose values all give the same result; no space draws it either. ``step`` is the distance between
    two values of a whole number.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    faults: tuple[Any, ...] = ()
    step: int | None = None
    speed: bool | None = None

    def allows(self, value: Any) -> bool:
        """Whether ``value`` lies inside the range or is one of the choices."""
        if self.choices:
            return value in self.choices
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low is not None and self.high is not None and self.low <= value <= self.high

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.choices)) if self.choices else f"between {self.low} and {self.high}"


def knob(
    default: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    log: bool = False,
    choices: Iterable[Any] = (),
    faults: Iterable[Any] = (),
    later: bool = False,
    step: int | None = None,
    speed: bool | None = None,
) -> Any:
    """Declare a technique's field: its default, and its `Knob`.

    ``later`` marks a knob that was added after recipes had used the technique. At its default it is left out of a recipe's
    JSON, so that those recipes keep their hash.
    """
    rule = Knob(low, high, log, tuple(choices), tuple(faults), step, speed)
    return field(default=default, metadata={"knob": rule, "later": later})


class Technique:
    """Base of all techniques: subclass it with ``@dataclass(frozen=True)`` and fill one slot.

    The first line of the docstring is the one-line effect; the rest holds the formula with shapes. `build` returns what
    the slot calls (see `SLOTS`), or None where the technique does nothing in this layer.

    Class attributes:
        slot: the slot it fills.
        sources: papers, and pull requests of openai/parameter-golf, that it comes from.
        doubt: what is known against it, in a sentence; empty if nothing is.
        clashes: names of techniques that it cannot be combined with, and the reason that a user is shown.
        needs: names of techniques without which it cannot work, and the reason.
        reads: slots of later stages that it reads, so that its stage depends on the techniques in them too.
        instead: name of the technique that an ablation puts in its place where an empty slot would be another task.
    """

    slot: ClassVar[str]
    sources: ClassVar[tuple[str, ...]] = ()
    doubt: ClassVar[str] = ""
    clashes: ClassVar[dict[str, str]] = {}
    needs: ClassVar[dict[str, str]] = {}
    reads: ClassVar[tuple[str, ...]] = ()
    instead: ClassVar[str] = ""
    name: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        cls.name = cls.__module__.rpartition(".")[2]

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            value = plain_value(getattr(self, spec.name), type(spec.default), f"{self.name}: {spec.name}")
            object.__setattr__(self, spec.name, value)  # 1 and 1.0 are the same knob and the same hash
            rule = spec.metadata.get("knob")
            if rule is not None and not rule.allows(value):
                raise ValueError(f"{self.name}: {spec.name}={value!r} is out of range; it must be {rule}.")

    def build(self, shape: Shape, layer: int | None = None) -> Any:
        """Return what the slot calls: a module, a function, or None where there is nothing to do in this layer."""
        raise NotImplementedError

    def start_table(self, table: Tensor) -> Tensor:
        """Return the token table (V,D) as it starts; overridden in the slot ``text`` where rows stand for several tokens."""
        return table

    def check(self, recipe: Recipe) -> str | None:
        """Return why this technique cannot work in ``recipe``, as a sentence for the user, or None if it can."""
        return None

    def rescale(self, old: Shape, new: Shape) -> Technique:
        """Return this technique for another shape; overridden where a knob must change with the size of the model."""
        return self

    def canonical(self, recipe: Recipe) -> Technique:
        """Return the one form that stands for all settings of this technique with the same effect in ``recipe``.

        A knob that has no effect there (EMA's ``horizon`` beside a fixed ``decay``) takes its default. A knob beyond the last
        value that changes anything (XSA in more layers than the model has) takes that value. Every new recipe calls this
        method, so it must be quick, must not raise, and must return its own result unchanged. What depends on the schedule is
        not simplified: a recipe with a longer schedule would otherwise keep what is true of the short run only.
        """
        return self

    @classmethod
    def ranges(cls, bare: Recipe) -> dict[str, Knob]:
        """Name and range of every knob in a given shape; the declared bounds are meant for the challenge's shape.

        The bounds are converted by `rescale`, and end where `canonical` says that nothing changes any more.

        Args:
            bare: a recipe of that shape without techniques.
        """
        found = {}
        for name, rule in cls.knobs().items():
            low, high = rule.low, rule.high
            if low is None or high is None:
                found[name] = rule
                continue
            ends = [cls(**{name: end})._rescaled(Shape(), bare.shape) for end in (low, high)]
            settled = [t.canonical(bare) for t in ends]
            if getattr(settled[0], name) != getattr(settled[1], name):  # equal where nothing in an empty recipe reads the knob
                ends = settled
            bounds = [getattr(t, name) for t in ends]
            found[name] = dataclasses.replace(rule, low=bounds[0], high=bounds[1]) if bounds[0] < bounds[1] else rule
        return found

    def _rescaled(self, old: Shape, new: Shape) -> Technique:
        """`rescale`, or self where the converted knob would leave its range."""
        try:
            return self.rescale(old, new)
        except ValueError:
            return self

    def _with(self, **knobs: Any) -> Self:
        """Self with these knobs, or self where they have these values already."""
        return self if all(getattr(self, k) == v for k, v in knobs.items()) else dataclasses.replace(self, **knobs)  # type: ignore[type-var]

    def _without(self, *knobs: str) -> Self:
        """Self with these knobs at their defaults."""
        defaults = {spec.name: spec.default for spec in dataclasses.fields(self)}  # type: ignore[arg-type]
        return self._with(**{name: defaults[name] for name in knobs})

    @classmethod
    def stage(cls) -> str:
        """The stage its slot belongs to."""
        return SLOTS[cls.slot].stage

    @classmethod
    def summary(cls) -> str:
        """The docstring's first line, which says what the technique does."""
        return (cls.__doc__ or "").strip().partition("\n")[0]

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """Name and range of every knob, in the order of the fields."""
        return {spec.name: spec.metadata["knob"] for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]

    def settings(self) -> dict[str, Any]:
        """Knob values for JSON; a knob that was added `later` is included only where it differs from its default."""
        values = {}
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, spec.name)
            if not (spec.metadata.get("later") and value == spec.default):
                values[spec.name] = value
        return values

    def __str__(self) -> str:
        changed = ",".join(
            f"{spec.name}={getattr(self, spec.name)}"
            for spec in dataclasses.fields(self)  # type: ignore[arg-type]
            if getattr(self, spec.name) != spec.default
        )
        return f"{self.name}:{changed}" if changed else self.name


@functools.cache
def _modules() -> dict[str, str]:
    """Technique name -> dotted module, from the file names; no technique is imported."""
    found = {}
    for stage in STAGES:
        package = importlib.import_module(f"golflab.model.techniques.{stage}")
        for info in pkgutil.iter_modules(package.__path__):
            found[info.name] = f"{package.__name__}.{info.name}"
    return found


@functools.cache
def find(name: str) -> type[Technique]:
    """Return the technique called ``name`` (``smear_gate``; the class name works too).

    Raises:
        ValueError: there is none; the message proposes the nearest name.
    """
    plain = {known.replace("_", ""): known for known in _modules()}
    key = plain.get(name.replace("_", "").replace("-", "").lower(), name)
    if key not in _modules():
        hint = did_you_mean(key, _modules(), cutoff=0.5)
        raise ValueError(f"There is no technique called {name!r}.{hint} `golflab techniques` lists all of them.")
    module = importlib.import_module(_modules()[key])
    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Technique)]
    mine = [c for c in classes if c.__module__ == module.__name__]
    if len(mine) != 1:
        raise TypeError(f"{module.__name__} must define exactly one Technique, it defines {len(mine)}.")
    return mine[0]


@functools.cache
def catalogue() -> dict[str, type[Technique]]:
    """Every technique there is, by name, in the order of the slots."""
    order = list(SLOTS)
    every = sorted((find(name) for name in _modules()), key=lambda cls: (order.index(cls.slot), cls.name))
    return {cls.name: cls for cls in every}


def parse(text: str) -> Technique:
    """Read a technique as the command line writes it: ``bigram_hash`` or ``bigram_hash:buckets=2048,dim=64``.

    Raises:
        ValueError: unknown technique or knob, a value that does not read as the knob's type, or one out of range.
    """
    name, _, rest = text.partition(":")
    cls = find(name.strip())
    defaults = {spec.name: spec.default for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]
    settings = {}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if key not in defaults:
            hint = did_you_mean(key, defaults)
            raise ValueError(f"{cls.name} has no knob {key!r}.{hint} Its knobs: {', '.join(defaults) or 'none'}.")
        settings[key] = _read(cls.name, key, value, defaults[key])
    return cls(**settings)


def _read(name: str, key: str, value: str, default: Any) -> Any:
    """Read one knob's value as the type of its default."""
    readers: dict[type, Callable[[str], Any]] = {
        bool: lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()],
        int: int,
        float: float,
        str: str,
    }
    try:
        return readers[type(default)](value)
    except (KeyError, ValueError):
        raise ValueError(f"{name}: {key}={value!r} does not read as {type(default).__name__}.") from None
