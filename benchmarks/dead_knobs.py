"""Knobs whose values mean one model and are not one recipe, looked for over the whole catalogue.

    python -m benchmarks.dead_knobs                 # every technique, about six minutes of one core
    python -m benchmarks.dead_knobs xsa ema         # only these

For every knob some values are tried by what their stage makes of them (initial tensors and logits, batches, trained weights,
integers, bytes, scores), on the contract suite's tiny body: in a plain recipe, and in a rich one with side tables, an untied
head and GPTQ. What differs as a recipe and not in its outcome is printed, and the other way round. Some of it is alive all the
same and only not seen here (`ELSEWHERE` says why); what is left belongs into `Technique.canonical` and a line of
tests/test_canonical.py.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golflab.model.compression.quantize import quantise
from golflab.model.network.layers import parameters_of
from golflab.model.recipe import Recipe
from golflab.model.technique import Technique, catalogue, parse
from golflab.model.training.loop import train
from tests.contract_helpers import (
    BASE,
    BATCH,
    TINY,
    awake,
    default,
    documents,
    finished,
    fresh,
    ids_and_targets,
    scored,
    stream,
)

PLAIN = BASE.with_(tokens=2 * BATCH)
RICH = PLAIN.with_(default("bigram_hash"), default("value_embedding"), default("gptq"), parse("mixed_rows:table=8"), tied=False)
SURROUNDINGS = {"plain": PLAIN, "rich": RICH}
TEXT = np.concatenate(documents(4))

SCHEDULE = "tells values apart in longer runs: a share of the run that is rounded to whole steps"
# Alive, and not seen on a tiny body, a few steps and a short text.
ELSEWHERE = {
    ("muon", "momentum_start"): "the first step of the rich recipe has no gradient in its matrices",
    ("muon", "momentum_warmup"): SCHEDULE,
    ("ste_qat", "threshold"): SCHEDULE,
    ("crown_q", "threshold"): SCHEDULE,
    ("ema", "horizon"): SCHEDULE,
    ("ema", "correct"): SCHEDULE,
    ("swa", "threshold"): SCHEDULE,
    ("swa", "every"): SCHEDULE,
    ("magnitude", "mask"): "tells what a published code does; without GPTQ it says nothing",
    ("magnitude", "small"): "at four bits the smallest weights are zero anyway",
    ("mixed_rows", "extended"): "the lowest code is reached where a clip cuts, which the largest weight of a row does not",
    ("value_residual", "first_layer_pair"): "keeps parameters that nothing reads, as #680 does",
    ("lora_ttt", "batch"): "documents side by side, for speed",
    ("lora_ttt", "visits"): "of blocks that run several times",
    ("hedge_mixer", "warm"): "the text is shorter than that",
    ("hedge_mixer", "chunk"): "the text is shorter than that",
    ("hedge_mixer", "update"): "the text is shorter than that",
    ("adamw_ttt", "chunk"): "the text is shorter than that",
    ("sgd_ttt", "chunk"): "the text is shorter than that",
    ("gptq", "tokens"): "the text is shorter than that",
    ("selective_prune", "most"): "the file fits",
    ("selective_prune", "tolerance"): "the file fits",
    ("ternary_codebook", "book"): "a matrix this small has hardly more different vectors than there are codes",
    ("ternary_codebook", "distance"): "a matrix this small has hardly more different vectors than there are codes",
} | {("mixed_clip", role): "rules with a floor agree on weights this small" for role in ("mlp", "attention", "table", "bigram")}


def outcome(recipe: Recipe, stage: str) -> tuple[bytes, ...]:
    """What a stage makes of the recipe, bit by bit."""
    return {"data": _batches, "model": _model, "train": _training, "quantise": _integers, "pack": _bytes, "evaluate": _scores}[
        stage
    ](recipe)


def _raw(tensors: Any) -> tuple[bytes, ...]:
    return tuple(t.detach().numpy().tobytes() for t in tensors)


def _batches(recipe: Recipe) -> tuple[bytes, ...]:
    source = recipe.build("batches")(stream(), 8 * BATCH, 0)
    return _raw(source.batch(step)[0] for step in range(12))


def _model(recipe: Recipe) -> tuple[bytes, ...]:
    ids, _ = ids_and_targets()
    with torch.no_grad():
        seen = [awake(recipe, progress).logits(ids) for progress in (0.0, 0.5, 1.0)]
    return _raw([*fresh(recipe).parameters(), *seen])


def _training(recipe: Recipe) -> tuple[bytes, ...]:
    source = recipe.build("batches")(stream(), BATCH, 0)
    done = train(recipe, source)
    return _raw(done.chosen(recipe.technique_in("average")).values())


@functools.cache
def _weights(recipe: Recipe) -> tuple[Any, dict[str, Tensor]]:
    model = awake(recipe)
    return parameters_of(model), {name: p.detach() for name, p in model.named_parameters()}


def _weighed(recipe: Recipe) -> tuple[Any, dict[str, Tensor]]:
    return _weights(recipe.without(*(t.name for t in recipe.techniques if t.stage() != "model")))


def _integers(recipe: Recipe) -> tuple[bytes, ...]:
    infos, weights = _weighed(recipe)
    if recipe.technique_in("rounding").name == "gptq" or recipe.technique_in("trim") is not None:  # type: ignore[union-attr]
        done = finished(recipe, weights)[0]
    else:
        done = quantise(weights, infos, recipe, None, code_bytes=0)
    return tuple(part for q in done.values() for part in _raw([q.values, *([] if q.scales is None else [q.scales])]))


def _bytes(recipe: Recipe) -> tuple[bytes, ...]:
    return (finished(recipe, _weighed(recipe)[1])[1],)


def _scores(recipe: Recipe) -> tuple[bytes, ...]:
    return (scored(recipe, _weighed(recipe)[1], TEXT).tobytes(),)


def variants(technique: Technique, knob: str) -> list[Technique]:
    """The technique with other values of a knob: choices, or the ends of its range and what lies inside and beyond."""
    rule, here = type(technique).knobs()[knob], type(technique).ranges(Recipe(TINY))[knob]
    if rule.choices:
        values = list(rule.choices)
    else:
        low, high = float(here.low or 0), float(here.high or 0)
        middle = (low * high) ** 0.5 if rule.log else (low + high) / 2
        values = [low, middle, high, 2 * high, getattr(technique, knob)]
        if isinstance(getattr(technique, knob), int):
            values = [round(v) for v in values]
    return [dataclasses.replace(technique, **{knob: v}) for v in dict.fromkeys(values) if rule.allows(v)]  # type: ignore[type-var]


def placed(technique: Technique, around: Recipe) -> Recipe | None:
    """The recipe with the technique, or None where the two do not go together."""
    clashing = [t.name for t in around.techniques if t.name in technique.clashes or technique.name in t.clashes]
    needed = [default(name) for name in technique.needs]
    recipe = around.without(*clashing).with_(*needed, technique)
    try:
        return recipe.check()
    except ValueError:
        return None


def compared(name: str, knob: str, place: str) -> list[str]:
    """Pairs of values that are one recipe and not one outcome, or the other way round, in words."""
    technique, wrong = default(name), []
    made = [(t, r) for t in variants(technique, knob) if (r := placed(t, SURROUNDINGS[place])) is not None]
    outcomes = {recipe: outcome(recipe, technique.stage()) for _, recipe in dict.fromkeys((None, r) for _, r in made)}
    for (a, ra), (b, rb) in itertools.combinations(made, 2):
        if (ra == rb) != (outcomes[ra] == outcomes[rb]):
            wrong.append(f"{knob}={getattr(a, knob)} and {getattr(b, knob)}: one {'recipe' if ra == rb else 'outcome'} only")
    return wrong


def main(names: list[str]) -> None:
    for name, knob in ((n, k) for n, cls in catalogue().items() if n in (names or catalogue()) for k in cls.knobs()):
        for place in SURROUNDINGS:
            for found in compared(name, knob, place):
                reason = ELSEWHERE.get((name, knob))
                print(f"{name} ({place}): {found}" + (f" ({reason})" if reason else ""), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
