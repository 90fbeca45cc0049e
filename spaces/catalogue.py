"""Catalogue: the ready-made spaces, and the lists that the command line prints, made from the techniques that exist.

Spaces are built when they are used, from the techniques in the folder, so a new technique is searched and listed without an
edit here.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.system.wording import did_you_mean
from golflab.model.technique import catalogue, find
from golflab.spaces.presets import BASELINE, PRESETS
from golflab.spaces.scales import SCALES, at_scale
from golflab.spaces.space import Space

# Twelve techniques, with alternatives for the same slots, so that every stage is used.
STARTER = (
    *("leaky_relu_squared", "xsa", "smear_gate", "bigram_hash", "unet_skips", "partial_rope", "ln_scale", "value_residual"),
    *("gated_attention", "ema", "swa", "orthogonal_init", "int6_rows", "int5_rows", "zstd_codec", "sliding_window"),
)

# What a first search varies, the most informative ones first: a design takes the first few, a search varies all.
FIRST = (
    *("bigram_hash", "smear_gate", "leaky_relu_squared", "ln_scale", "value_residual", "x0_injection"),
    *("xsa", "gated_attention"),
)


def spaces() -> dict[str, str]:
    """Name -> one line of what varies, for every ready-made space."""
    return {name: (build.__doc__ or "").partition("\n")[0] for name, build in _BUILDERS.items()}


def space(name: str, preset: Recipe) -> Space:
    """Return the ready-made space ``name`` around ``preset``, or a user's own given as ``module:VARIABLE``.

    A user's variable is a `Space`, whose own preset is kept, or a function from the preset to a `Space`.

    Raises:
        ValueError: no such space, module or variable.
    """
    if ":" in name:
        return _users(name, preset)
    if name not in _BUILDERS:
        hint = did_you_mean(name, _BUILDERS)
        raise ValueError(f"There is no space called {name!r}.{hint} Spaces: {', '.join(_BUILDERS)}; your own: module:VARIABLE.")
    return _BUILDERS[name](preset)


def describe() -> list[dict[str, Any]]:
    """What ``golflab techniques --json`` prints: one object per technique, in the order of the slots."""
    used: dict[str, list[str]] = {}
    for label, recipe in PRESETS.items():
        for t in recipe.all_techniques():
            used.setdefault(t.name, []).append(label)
    return [
        {
            "name": name,
            "stage": cls.stage(),
            "slot": cls.slot,
            "summary": cls.summary(),
            "knobs": {
                spec.name: {"default": spec.default}
                | {k: v for k, v in dataclasses.asdict(cls.knobs()[spec.name]).items() if v not in (None, ())}
                for spec in dataclasses.fields(cls)  # type: ignore[arg-type]
            },
            "sources": list(cls.sources),
            "used_by": used.get(name, []),
        }
        for name, cls in catalogue().items()
    ]


def _starter(preset: Recipe) -> Space:
    """The first dozen techniques, on or off, with no knobs."""
    return Space("starter", preset, techniques=tuple(name for name in STARTER if name in catalogue()))


def _first(preset: Recipe) -> Space:
    """What a first search varies: eight techniques, the bits of the matrices, the MLP's width and the bigram table's size."""
    width = preset.shape.width
    return Space(
        "first",
        preset,
        techniques=(*FIRST, "int6_rows", "int5_rows"),
        knobs=("bigram_hash.buckets",),
        shape={"hidden": tuple(sorted({preset.shape.hidden, *(round(width * ratio) for ratio in (2, 3, 4))}))},
    )


def _seeds(preset: Recipe) -> Space:
    """All techniques of the five seed submissions, with their knobs and shapes."""
    baseline = {t.name for t in BASELINE.techniques}
    used = dict.fromkeys(t.name for r in _seed_recipes() for t in r.techniques)
    optional = tuple(name for name in used if name not in baseline) + tuple(name for name in used if name in baseline)
    plans = [at_scale(r, _scale(preset)).shape for r in (BASELINE, *_seed_recipes())]
    shape = {name: tuple(sorted({*values, *(getattr(s, name) for s in plans)})) for name, values in _shapes(preset).items()}
    return Space("seeds", preset, techniques=optional, knobs=("*",), shape=shape | _vocabularies(preset))


def _architecture(preset: Recipe) -> Space:
    """Every technique inside the model, its knobs, and the shape."""
    return Space("architecture", preset, techniques=_of("model"), knobs=("*",), shape=_shapes(preset))


def _optimizer(preset: Recipe) -> Space:
    """Optimisers, schedules, averages, penalties and fake quantisation, with their knobs."""
    return Space("optimizer", preset, techniques=_of("data", "train"), knobs=("*",))


def _quantization(preset: Recipe) -> Space:
    """Grids, clipping, rounding, pruning, layouts and codecs: all of it after training, so it shares trainings."""
    return Space("quantization", preset, techniques=_of("quantise", "pack"), knobs=("*",))


def _evaluation(preset: Recipe) -> Space:
    """Windows, test-time training, temperature and mixers: all of it after packing."""
    return Space("evaluation", preset, techniques=_of("evaluate"), knobs=("*",))


def _everything(preset: Recipe) -> Space:
    """The whole catalogue except what rewrites text, with all knobs, and the shape."""
    return Space("everything", preset, techniques=_compared(catalogue()), knobs=("*",), shape=_shapes(preset))


_BUILDERS: dict[str, Callable[[Recipe], Space]] = {
    "starter": _starter,
    "first": _first,
    "seeds": _seeds,
    "architecture": _architecture,
    "optimizer": _optimizer,
    "quantization": _quantization,
    "evaluation": _evaluation,
    "everything": _everything,
}


def _of(*stages: str) -> tuple[str, ...]:
    """Techniques of these stages, without the defaults of slots, which are what "off" means."""
    found = (name for name, cls in catalogue().items() if cls.stage() in stages and SLOTS[cls.slot].default != name)
    return _compared(found)


def _compared(names: Iterable[str]) -> tuple[str, ...]:
    """Those whose scores can be compared: recipes that rewrite text count other bytes than recipes with plain text."""
    return tuple(name for name in names if find(name).slot != "text")


def _shapes(preset: Recipe) -> dict[str, tuple[int, ...]]:
    """Shapes around the preset's: a little shallower or deeper, MLPs of 2 to 4 widths, halved or full KV heads."""
    shape = preset.shape
    deep = max(1, round(shape.layers / 5))
    return {
        "layers": tuple(sorted({shape.layers - deep, shape.layers, shape.layers + deep, shape.layers + 2 * deep} - {0})),
        "hidden": tuple(sorted({shape.hidden, *(round(shape.width * ratio) for ratio in (2, 3, 4))})),
        "kv_heads": tuple(sorted({shape.kv_heads, max(1, shape.heads // 2), shape.heads})),
    }


def _vocabularies(preset: Recipe) -> dict[str, tuple[int, ...]]:
    """The seeds' vocabularies, if a tokenizer of any size can be trained; not for token shards."""
    if preset.data.tokenizer != "auto" or any(Path(preset.data.corpus).glob("*.bin")):
        return {}
    plans = [at_scale(r, _scale(preset)).shape for r in (BASELINE, *_seed_recipes())]
    found = {preset.shape.vocabulary, *(plan.vocabulary for plan in plans)}
    return {"vocabulary": tuple(sorted(found))}


def _seed_recipes() -> list[Recipe]:
    return [r for label, r in PRESETS.items() if label.startswith("seed_")]


def _scale(preset: Recipe) -> str:
    """The smallest scale that is as wide as the preset."""
    return next((name for name, scale in SCALES.items() if preset.shape.width <= scale.shape.width), "full")


def _users(name: str, preset: Recipe) -> Space:
    module_name, _, variable = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), variable)
    except ImportError as error:
        raise ValueError(f"space {name!r}: {error}. Run the command from the folder that contains the module.") from None
    except AttributeError:
        raise ValueError(f"space {name!r}: module {module_name!r} has no {variable!r}.") from None
    result = found(preset) if callable(found) and not isinstance(found, Space) else found
    if not isinstance(result, Space):
        raise ValueError(
            f"space {name!r}: {variable} is a {type(result).__name__}; it must be a Space or a function that returns one."
        )
    return result
