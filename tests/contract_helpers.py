"""What the contract suite and the technique tests stand on: a tiny body, random text, and short runs through the real code."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from golflab.model.compression.artifact import pack, unpack
from golflab.model.compression.finish import calibration
from golflab.model.compression.grid import Quantised
from golflab.model.compression.quantize import quantise
from golflab.model.data.shards import Stream
from golflab.model.data.tokenizer import tokenizer_of, train_tokenizer
from golflab.model.evaluation.score import Evaluator
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import generator, initialize
from golflab.model.network.layers import parameters_of
from golflab.model.recipe import Recipe
from golflab.model.shape import Schedule, Shape
from golflab.model.slots import SLOTS
from golflab.model.stages import finishing_part
from golflab.model.technique import Knob, Technique, catalogue, find, parse
from golflab.model.training.loop import train
from golflab.model.training.result import Trained
from golflab.model.training.state import TrainingState
from tests.machine import prepare

prepare()

FULL = Shape()
TINY = Shape(layers=4, width=32, heads=4, kv_heads=2, hidden=64, vocabulary=300, context=32)
BATCH = 64
STEPS = 8
# A warmdown over the whole run takes every threshold on the multiplier through its switch; at four bits, clipping matters;
# zlib packs in a hundredth of the time of rans_codec, which is what most of a test would wait for.
TECHNIQUES = (
    "unet_skips", "resid_mix", "qk_norm", "q_gain", "softcap", "branch_scale", "warmdown:fraction=1", "int4_rows",
    "zlib_codec",
)  # fmt: skip
BASE = Recipe(
    shape=TINY,
    schedule=Schedule(tokens=STEPS * BATCH, batch_tokens=BATCH, micro_tokens=BATCH),
    techniques=tuple(parse(t) for t in TECHNIQUES),
    limit=21_500,  # less than it needs, so that what trims has something to do
)
TRAINED_STAGES = ("data", "model", "train")
SCORED = (6, 30)  # documents of forty tokens by which two recipes are compared: most differ on a few, some only on many
TEXT_KNOBS = ("tokens", "chunk", "update", "warm", "batch")


# ------------------------------------------------------------------------------------------------ recipes


def default(name: str) -> Technique:
    """The technique with its default knobs on the tiny body."""
    return small(find(name)())


def small(technique: Technique) -> Technique:
    """A technique on the tiny body; its knobs that count text as small as they go, for there is little."""
    counts = {k: rule.low for k, rule in type(technique).knobs().items() if k in TEXT_KNOBS}
    return dataclasses.replace(technique.rescale(FULL, TINY), **counts)  # type: ignore[type-var]


def recipe_with(technique: Technique, base: Recipe | None = None) -> Recipe:
    """The base recipe with the technique, with what the refusals advise to add, and without what it clashes with.

    Raises:
        ValueError: the advice leads nowhere.
    """
    recipe = base or BASE
    if technique.slot == "average":
        recipe = recipe.with_(tokens=24 * BATCH)  # an average over a share of eight steps is the last weights
    for _ in range(5):
        recipe = recipe.without(*clashing(technique, recipe)).with_(technique)
        try:
            return recipe.check()
        except ValueError as refusal:
            advice = re.search(r"[Aa]dd `([^`]+)`", str(refusal))
            if advice is None:
                raise
            recipe = recipe.with_(small(parse(advice[1])))
    return recipe.check()


def refused(recipe: Recipe) -> str | None:
    """Why the recipe cannot be run, or None."""
    try:
        recipe.check()
    except ValueError as refusal:
        return str(refusal)
    return None


def switched_off(technique: Technique, on: Recipe) -> Recipe:
    """``on`` without the technique and without what needs it."""
    return on.without(*(t.name for t in on.techniques if t.name == technique.name or technique.name in t.needs))


def clashing(technique: Technique, recipe: Recipe) -> list[str]:
    return [t.name for t in recipe.techniques if t.name in technique.clashes or technique.name in t.clashes]


def is_default(name: str) -> bool:
    """Whether the technique fills its slot in every recipe that names no other."""
    return SLOTS[find(name).slot].default == name


def values_of(technique: Technique, knob_name: str) -> Iterator[Any]:
    """Other values of a knob that are worth trying: its bounds, its choices, and some between."""
    rule: Knob = type(technique).knobs()[knob_name]
    own = getattr(technique, knob_name)
    if rule.choices:
        yield from (v for v in rule.choices if v != own)
        return
    low, high = float(rule.low or 0), float(rule.high or 0)
    between = math.sqrt(low * high) if rule.log else (low + high) / 2
    near = [2 * own, own // 2, 8, 4, 2, 1] if isinstance(own, int) else [own * 1.5, own * 0.6, 0.99]
    for value in (low, between, high, *near):
        value = round(value) if isinstance(own, int) else float(value)
        if rule.allows(value) and value != own:
            yield value


# ------------------------------------------------------------------------------------------------ text


def stream(tokens: int = 4096) -> Stream:
    """Random tokens in documents of about twenty tokens, each beginning with BOS (1)."""
    rng = np.random.default_rng(5)
    ids = rng.integers(2, TINY.vocabulary, tokens)
    ids[rng.random(tokens) < 0.05] = 1
    ids[0] = 1
    return Stream([ids.astype(np.uint16)])


def documents(count: int = 6, length: int = 40) -> list[np.ndarray]:
    """Random documents, each beginning with BOS; the last is the first again, for what waits for repetitions."""
    rng = np.random.default_rng(6)
    made = [np.append(1, rng.integers(2, TINY.vocabulary, length - 1)) for _ in range(count)]
    return [*made[:-1], made[0]]


WORDS = "The cat Sat on a MAT and the\ndog ran to iPhone shops in USA  twice while Bob met\n\nAlice AGAIN for tea"


@functools.cache
def real(text: Technique | None) -> tuple[Stream, list[np.ndarray]]:
    """Words, rewritten by a technique of the slot ``text`` (or plain): training tokens, and held-out documents."""
    draw = random.Random(7)
    texts = [" ".join(draw.choices(WORDS.split(" "), k=25)) + "." for _ in range(240)]
    rewriting = None if text is None else text.build(TINY)
    train = train_tokenizer if rewriting is None else rewriting.train
    tokenizer = tokenizer_of(train(texts, TINY.vocabulary), rewriting)
    tokens = [tokenizer.encode(t) for t in texts]
    return Stream([np.concatenate(tokens[:200])]), tokens[200:]


def has_text(*recipes: Recipe) -> bool:
    """Whether one of the recipes rewrites text; then random tokens will not do."""
    return any(recipe.technique_in("text") is not None for recipe in recipes)


def ids_and_targets(rows: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A random batch (rows, context), with a BOS here and there."""
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, TINY.vocabulary, (rows, TINY.context + 1), generator=rng)
    ids[:, TINY.context // 3] = 1
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


class Bytes:
    """A tokenizer as far as evaluation needs one: every token is a byte, BOS none."""

    bos = 1

    def spelling(self) -> list[bytes]:
        """Every id is spelled by one or two letters; some share a spelling, some begin others."""
        letters = [b"abcdefgh"[i % 8 : i % 8 + 1] + b"xyz"[i % 4 : i % 4 + 1] for i in range(TINY.vocabulary)]
        return [b"", b"", *letters[2:]]

    def token_bytes(self, targets: np.ndarray, previous: np.ndarray) -> np.ndarray:
        return (targets != self.bos).astype(np.int64)


# ------------------------------------------------------------------------------------------------ models and runs


def fresh(recipe: Recipe) -> GPT:
    """The recipe's model at its initial weights."""
    model = GPT(recipe)
    initialize(model, recipe)
    return model


def awake(recipe: Recipe, progress: float = 1.0) -> GPT:
    """The model with noise on every weight (by name), so that no zero or identity at the start hides anything."""
    model = fresh(recipe)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(torch.randn(p.shape, generator=generator(99, name)) * 0.15)
    model.set_progress(progress)
    return model


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def trained(recipe: Recipe, words: bool = False) -> Trained:
    """The recipe trained for its whole schedule through the real loop; trained once, finished many times.

    On random tokens, or on ``words`` where it rewrites text or is compared with a recipe that does.
    """
    return _trained(training_of(recipe), words or has_text(recipe))


def training_of(recipe: Recipe) -> Recipe:
    """The recipe without what cannot change its training."""
    read = {slot for t in recipe.techniques for slot in t.reads}
    later = [t.name for t in recipe.techniques if type(t).stage() not in TRAINED_STAGES and t.slot not in read]
    return recipe.without(*later)


@functools.lru_cache(maxsize=64)
def _trained(recipe: Recipe, words: bool) -> Trained:
    tokens = real(recipe.technique_in("text"))[0] if words else stream()
    return train(recipe, recipe.build("batches")(tokens, recipe.schedule.batch_tokens, recipe.seed))


def finished(recipe: Recipe, weights: dict[str, Tensor]) -> tuple[dict[str, Quantised], bytes]:
    """Weights as the recipe quantises and packs them."""
    model = GPT(recipe)
    model.set_progress(1.0)
    load(model, weights)
    quantised = quantise(weights, parameters_of(model), recipe, calibration(recipe, model, stream()), code_bytes=0)
    return quantised, pack(quantised, recipe)


def finite(recipe: Recipe, blob: bytes) -> bool:
    """Whether the recipe scores the first tokens of two documents by finite numbers, with the weights of a packed file."""
    return bool(np.isfinite(scored(recipe, unpack(blob), np.concatenate(documents(2)))[:32]).all())


def load(model: nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(weights[name])


def scored(recipe: Recipe, weights: dict[str, Tensor], tokens: np.ndarray | None = None) -> np.ndarray:
    """Nats of every target of a text as the recipe evaluates it; NaN where it leaves one out."""
    model = GPT(recipe)
    model.set_progress(1.0)
    load(model, weights)
    return Evaluator(model, Bytes(), recipe).score(np.concatenate(documents()) if tokens is None else tokens)  # type: ignore[arg-type]


def again(recipe: Recipe, afresh: bool) -> tuple[bytes, np.ndarray]:
    """The packed bytes, and scores of a few documents; ``afresh`` of a training that no earlier one stands for."""
    words = has_text(recipe)
    weights = (_trained.__wrapped__ if afresh else _trained)(training_of(recipe), words).chosen(recipe.technique_in("average"))
    _, blob = finished(recipe, weights)
    texts = real(recipe.technique_in("text"))[1][:4] if words else documents(4)
    return blob, scored(recipe, unpack(blob), np.concatenate(texts))


@functools.lru_cache(maxsize=64)
def file_of(part: Recipe, words: bool) -> bytes:
    """The packed bytes of the weights that a recipe exports; of its `finishing_part`, so that how it scores packs no more."""
    return finished(part, trained(part, words).chosen(part.technique_in("average")))[1]


@functools.lru_cache(maxsize=64)
def scores_of(recipe: Recipe, words: bool, count: int) -> np.ndarray:
    """How the packed weights score so many documents."""
    texts = real(recipe.technique_in("text"))[1][:count] if words else documents(count)
    weights = unpack(file_of(finishing_part(recipe), words))
    return np.nan_to_num(scored(recipe, weights, np.concatenate(texts)), nan=-1.0)


def changes(a: Recipe, b: Recipe) -> bool:
    """Whether two recipes lead to other shared weights or other scores, by more than rounding noise, or to other bytes.

    Bytes count only where both models have the same tensors: a dead module, too, takes room in the file.
    """
    words = has_text(a, b)
    ours, theirs = (trained(r, words).chosen(r.technique_in("average")) for r in (a, b))
    if any(ours[n].shape != theirs[n].shape or differ(ours[n], theirs[n]) for n in set(ours) & set(theirs)):
        return True
    if set(ours) == set(theirs) and file_of(finishing_part(a), words) != file_of(finishing_part(b), words):
        return True
    pairs = ((scores_of(a, words, count), scores_of(b, words, count)) for count in SCORED)
    return any(nats.shape != other.shape or bool(np.abs(nats - other).max() > 1e-6) for nats, other in pairs)


def untrained(recipe: Recipe, steps: int = 6) -> set[str]:
    """Parameters that get no gradient in the first steps of a training that goes through everything that switches on."""
    run = TrainingState(recipe.with_(tokens=steps * BATCH), torch.device("cpu"), torch.float32)
    left = set(run.names)
    for step in range(steps):
        run.model.set_progress(step / (steps - 1))
        ids, targets = ids_and_targets(seed=step)
        run.model(ids, targets).backward()
        left -= {n for n, p in run.model.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
        run.optimizers.step(1.0, step / steps)
        run.model.zero_grad(set_to_none=True)
        if not left:
            break
    return left


def never_learning() -> dict[tuple[str, str, Any], set[str]]:
    """(technique, knob, choice of it), of all techniques of the model -> the parameters that it leaves without a gradient."""
    found = {}
    for name in of_stage("model"):
        for knob, rule in find(name).knobs().items():
            for value in rule.choices:
                dead = untrained(recipe_with(dataclasses.replace(default(name), **{knob: value})))
                if dead:
                    found[name, knob, value] = dead
    return found


def differ(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() > 1e-7 * b.abs().max())


NAMES = list(catalogue())


def of_stage(*stages: str) -> list[str]:
    """Names of the techniques of these stages."""
    return [name for name, cls in catalogue().items() if cls.stage() in stages]


def made_up_corpus(folder: Path) -> Path:
    """A file of a hundred documents of a small made-up language."""
    rng, path = random.Random(0), folder / "text.jsonl"
    words = ["".join(rng.choice("abcdefghijklmnop") for _ in range(rng.randint(2, 6))) for _ in range(200)]
    texts = [" ".join(rng.choice(words) for _ in range(rng.randint(20, 60))) for _ in range(100)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path
