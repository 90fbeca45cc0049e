"""Batches are deterministic by seed, random access by step, and shared by rank."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golflab.model.data.shards import Stream
from golflab.model.shape import Shape
from golflab.model.technique import parse

SHAPE = Shape(layers=1, width=8, heads=1, kv_heads=1, hidden=8, vocabulary=5000, context=16)
KINDS = ["sequential", "sequential:start=zero", "shuffled", "shuffled:order=coprime", "shuffled:documents=true"]


def stream(count=1000):
    tokens = np.arange(2, count + 2, dtype=np.uint16)
    tokens[::70] = 1  # documents of 70 tokens
    return Stream(np.split(tokens, [333, 334, 700]))


def source(kind, seed=0, tokens=64, text=None):
    return parse(kind).build(SHAPE)(text or stream(), tokens, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_the_next_tokens(kind):
    whole = stream().take(0, 1000)
    for step in range(40):
        ids, targets = source(kind).batch(step)
        assert ids.shape == targets.shape == (4, 16)
        assert (ids[:, 1:] == targets[:, :-1]).all()
        for row in targets.numpy():
            last = int(np.flatnonzero(whole == row[-2])[0]) if row[-2] != 1 else None
            assert last is None or whole[(last + 1) % 1000] == row[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_any_step_can_be_had_at_any_time_and_is_always_the_same(kind):
    one, other = source(kind), source(kind)
    steps = [7, 0, 45, 7, 3]
    wanted = {step: one.batch(step)[0] for step in sorted(set(steps))}
    for step in steps:
        assert (other.batch(step)[0] == wanted[step]).all()


@pytest.mark.parametrize("kind", [k for k in KINDS if "zero" not in k])
def test_seeds_differ_in_their_data(kind):
    assert (source(kind, seed=0).batch(0)[0] != source(kind, seed=1).batch(0)[0]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_share_the_rows_of_one_batch(kind):
    whole, _ = source(kind).batch(5)
    shares = [source(kind).batch(5, rank, 2)[0] for rank in range(2)]
    assert (np.concatenate(shares) == whole.numpy()).all()


def test_the_challenges_loader_begins_at_zero_and_wraps():
    batches = source("sequential:start=zero")
    whole = stream().take(0, 1000)
    assert batches.batch(0)[0].flatten().tolist() == whole[:64].tolist()
    assert batches.batch(1)[0].flatten().tolist() == whole[64:128].tolist()
    assert batches.batch(1000)[0].flatten().tolist() == whole.take(np.arange(64000, 64064), mode="wrap").tolist()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(["permuted", "coprime"]), st.integers(200, 900))
def test_shuffled_visits_every_sequence_once_an_epoch(seed, order, count):
    batches = source(f"shuffled:order={order}", seed, tokens=16, text=stream(count))
    begins = [int(batches.starts(step)[0]) for step in range(2 * (count // 16))]
    sequences = len(set(begins))
    assert sequences in (count // 16, (count - 16) // 16, (count - 1) // 16)
    assert len(set(begins[:sequences])) == sequences
    assert len(set(begins[sequences : 2 * sequences])) == len(begins[sequences : 2 * sequences])


def test_document_aware_sequences_begin_with_their_document():
    begins = np.concatenate([source("shuffled:documents=true").starts(step) for step in range(18)])
    inside = begins % 70
    assert set(inside) == {0, 16, 32, 48, 64}
    assert set(begins[inside == 0]) == set(range(0, 1000, 70))


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="multiple of context"):
        source("sequential", tokens=60)
    with pytest.raises(ValueError, match="only 10 tokens"):
        source("sequential", text=stream(10))
    with pytest.raises(ValueError, match="cannot be shared by 3"):
        source("sequential").batch(0, 0, 3)
    with pytest.raises(ValueError, match="begins with BOS"):
        source("shuffled:documents=true", text=Stream([np.full(100, 7)]))
