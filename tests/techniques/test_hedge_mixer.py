"""The mixer against tables that are really kept, as #849 keeps them."""

import math

import numpy as np
import pytest

from golflab.model.technique import parse
from golflab.model.techniques.evaluate.hedge_mixer import HedgeMixer
from golflab.spaces.presets import preset
from tests.scoring import SHAPE, documents, evaluator

V = SHAPE.vocabulary
KNOBS = "chunk=128,update=64,warm=128"


def with_tables(text, nats, entropy, sixth, chunk=128, update=64, warm=128, rate=0.1):
    """Five count tables, one loop over tokens, weights updated after every batch."""
    text = [int(t) for t in text]
    tables = [np.zeros((1, V)), np.zeros((V, V)), np.zeros((65_536, V)), np.zeros((32_768, V))]
    smoothing = (0.1, 0.1, 0.01, 0.005)
    logs, counted, counted_at_start, mixed, batch = np.array([2.0, 0, 0, 0, 0, 0]), 0, 0, [], []

    def rows(i):
        p1, p2, p3 = text[i], text[i - 1] if i > 0 else 0, text[i - 2] if i > 1 else 0
        keys = (0, p1, ((36313 * p2) ^ (27191 * p1)) % 65_536, ((48271 * p3) ^ (36313 * p2) ^ (27191 * p1)) % 32_768)
        return [table[key] for table, key in zip(tables, keys, strict=True)]

    for i in range(len(text) - 1):
        if i % chunk == 0 and i:
            for j in range(i - chunk, i):
                for row in rows(j):
                    row[text[j + 1]] += 1
            counted = i
        if i % update == 0 and i:
            if counted_at_start >= warm:
                logs = logs - rate / (1 + counted_at_start / 10_000) * np.mean(batch, axis=0)
            batch = []
        if i % update == 0:
            counted_at_start = counted
        y = text[i + 1]
        grams = [-math.log((row[y] + a) / (row.sum() + a * V)) for row, a in zip(rows(i), smoothing, strict=True)]
        losses = np.array([nats[i], *grams, entropy[i] if sixth == "entropy" else math.log(V)])
        batch.append(losses)
        weights = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
        mixed.append(nats[i] if counted < warm else -math.log((weights * np.exp(-losses)).sum()))
    return np.array(mixed)


@pytest.mark.parametrize(("expert", "sixth"), [("uniform", "uniform"), ("as_published", "entropy")])
def test_sorting_counts_what_tables_count(expert, sixth):
    text = np.concatenate(documents())
    random = np.random.default_rng(0)
    nats, entropy = random.exponential(2, len(text) - 1), random.uniform(0, 4, len(text) - 1)
    mixer = parse(f"hedge_mixer:{KNOBS},entropy_expert={expert}").build(SHAPE)
    assert mixer.mix(text, nats, entropy) == pytest.approx(with_tables(text, nats, entropy, sixth), rel=1e-9)


@pytest.mark.parametrize("length", [1, 100, 300, 801])
def test_every_mixture_sums_to_one(length):
    prefix = np.concatenate(documents())[:length]
    p = evaluator(f"hedge_mixer:{KNOBS}").distribution(prefix)
    assert p.sum() == pytest.approx(1, abs=1e-6)
    assert p.min() > 0


def test_the_published_expert_does_not():
    p = evaluator(f"hedge_mixer:{KNOBS},entropy_expert=as_published").distribution(np.concatenate(documents())[:801])
    assert abs(p.sum() - 1) > 0.01


def test_until_warm_the_model_predicts_alone():
    text = np.concatenate(documents())
    mixed, plain = evaluator(f"hedge_mixer:{KNOBS}").score(text), evaluator().score(text)
    assert (mixed[:128] == plain[:128]).all()
    assert (mixed[128:] != plain[128:]).all()


def test_on_text_that_repeats_it_helps():
    text = np.tile(documents(1)[0], 12)
    assert evaluator(f"hedge_mixer:{KNOBS}").score(text)[600:].mean() < 0.7 * evaluator().score(text)[600:].mean()


def test_a_small_body_keeps_the_tokens_between_updates_and_the_share_of_the_text():
    """With an update that shrank with the context, the mixer was worth nothing in small bodies: docs/presets.md."""
    for scale in ("nano", "micro", "proxy", "small"):
        mixer = preset("seed_849", scale).technique_in("mixer")
        assert (mixer.update, mixer.chunk, mixer.warm) == (2_048, 106, 32)
    assert preset("seed_849", "full").technique_in("mixer") == HedgeMixer()
    body = preset("seed_849", "full").shape
    assert HedgeMixer(update=64, chunk=64).rescale(body, body) == HedgeMixer(update=64, chunk=64)
    assert HedgeMixer(chunk=64).rescale(body, preset("seed_849", "nano").shape).chunk == 64
