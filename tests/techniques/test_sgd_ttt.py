"""The chunk learner against a loop that writes the algorithm out."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from golflab.model.shape import Shape
from golflab.model.technique import parse
from tests.scoring import SHAPE, documents, evaluator, model_of


def by_hand(gpt, text, chunk, rate, epochs, rows, momentum, freeze, context=32):
    """Score a chunk window by window, then train on it with SGD written out."""
    ids = torch.from_numpy(text.astype(np.int64))
    inputs = len(ids) - 1
    chunks = -(-inputs // chunk)
    still = {id(p) for block in gpt.blocks[:freeze] for p in block.parameters()}
    learning = [p for p in gpt.parameters() if id(p) not in still]
    velocity = [torch.zeros_like(p) for p in learning]
    nats = []
    for c in range(chunks):
        first, last = c * chunk, min((c + 1) * chunk, inputs)
        for begin in range(first, last, context):
            end = min(begin + context, last)
            with torch.no_grad():
                nats.append(gpt.nats(ids[None, begin:end], ids[None, begin + 1 : end + 1])[0].double().numpy())
        if c == chunks - 1:
            break
        begins = list(range(first, first + chunk - context + 1, context))
        for _ in range(epochs):
            for group in (begins[k : k + rows] for k in range(0, len(begins), rows)):
                x = torch.stack([ids[b : b + context] for b in group])
                y = torch.stack([ids[b + 1 : b + context + 1] for b in group])
                gradients = torch.autograd.grad(gpt(x, y), learning)
                norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
                for p, v, g in zip(learning, velocity, gradients, strict=True):
                    v.mul_(momentum).add_(g * min(1.0, 1.0 / (norm + 1e-6)))
                    with torch.no_grad():
                        p.sub_(rate * 0.5 * (1 + math.cos(math.pi * c / (chunks - 1))) * v)
    return np.concatenate(nats)


def test_it_scores_what_the_algorithm_written_out_scores():
    text = np.concatenate(documents(5))
    slow = by_hand(model_of(), text, 128, 0.05, 2, 2, 0.9, 1)
    fast = evaluator("sgd_ttt:chunk=128,rate=0.05,epochs=2,rows=2,momentum=0.9,freeze=1").score(text)
    assert np.abs(fast - slow).max() < 1e-3
    assert np.abs(evaluator().score(text) - slow).max() > 0.05  # it did something


@pytest.mark.parametrize(("freeze", "frozen"), [(0, 0), (2, 2), (16, 3)])
def test_the_first_blocks_stay(freeze, frozen):
    gpt = model_of()
    learning = {id(p) for p in parse(f"sgd_ttt:freeze={freeze}").build(SHAPE).choose(gpt)}
    assert [all(id(p) in learning for p in block.parameters()) for block in gpt.blocks] == [k >= frozen for k in range(3)]
    assert id(gpt.table.weight) in learning


def test_a_chunk_stays_the_same_number_of_sequences():
    assert parse("sgd_ttt").rescale(Shape(), dataclasses.replace(SHAPE, context=256)).chunk == 8192
