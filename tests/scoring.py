"""A tiny model, tokenizer and text for the tests of scoring."""

from __future__ import annotations

import numpy as np
import torch

from golflab.model.evaluation.score import Evaluator
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import parse
from tests.machine import prepare

prepare()

SHAPE = Shape(layers=3, width=16, heads=2, kv_heads=1, hidden=32, vocabulary=64, context=32)
RECIPE = Recipe(shape=SHAPE)


class Tokens:
    """Stands in for a tokenizer: ids below 4 are control ids, the others stand for 1 to 4 bytes and maybe a space."""

    bos = 1
    vocabulary = SHAPE.vocabulary

    def spelling(self):
        """As many bytes as `token_bytes` counts, the second of eight letters, so that some spellings begin others."""
        letters = b"etaoinsh"
        whole = [bytes(letters[(i // 4 ** (k + 1)) % 8] for k in range(i % 4 + 1)) for i in range(self.vocabulary)]
        return [b"" if i < 4 else (b" " if i % 5 == 0 else b"") + text for i, text in enumerate(whole)]

    def token_bytes(self, targets, previous):
        space = (np.asarray(targets) % 5 == 0) & (np.asarray(previous) >= 4)
        return np.where(np.asarray(targets) < 4, 0, np.asarray(targets) % 4 + 1 + space).astype(np.int64)


TOKENIZER = Tokens()


def model_of(recipe=RECIPE, seed=1, noise=0.25):
    """A model whose predictions are far from uniform."""
    model = GPT(recipe)
    initialize(model, recipe)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            random = torch.Generator().manual_seed(100 * seed + number)
            parameter.add_(noise * torch.randn(parameter.shape, generator=random))
    return model


def documents(count=9, length=100, seed=0):
    """Text that repeats itself, in documents of different lengths, each beginning with BOS."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        tokens = [1]
        for _ in range(length + 13 * (number % 4)):
            tokens.append(int(4 + (tokens[-1] * 7 + random.integers(0, 3)) % (SHAPE.vocabulary - 4)))
        made.append(np.array(tokens, dtype=np.uint16))
    return made


def recipe_with(*techniques):
    return RECIPE.with_(*(parse(text) for text in techniques)).check()


def evaluator(*techniques, model=None, batch_tokens=None):
    recipe = recipe_with(*techniques)
    return Evaluator(model or model_of(recipe), TOKENIZER, recipe, batch_tokens)  # type: ignore[arg-type]


def nats_one_by_one(model, tokens, plan):
    """The slow way: each window by itself, all of it, no trimming and no padding."""
    nats = np.full(len(tokens) - 1, np.nan)
    ids = torch.from_numpy(np.asarray(tokens, dtype=np.int64))
    with torch.no_grad():
        for begin, end, first in plan:
            logits = model.logits(ids[None, begin:end])[0].double()
            losses = torch.nn.functional.cross_entropy(logits, ids[begin + 1 : end + 1], reduction="none")
            assert np.isnan(nats[first:end]).all()
            nats[first:end] = losses[first - begin :]
    return nats
