"""The tilt against a loop that looks through the text anew at every position."""

import math
from collections import Counter

import numpy as np
import pytest

from golflab.model.audit.judge import audit
from golflab.model.technique import parse
from golflab.model.techniques.evaluate.ngram_tilt import NONE, contexts
from tests.scoring import SHAPE, TOKENIZER, documents, evaluator
from tests.test_audit import evaluator_with, states, texts, tokenizer  # noqa: F401  # a fixture


def hint_by_looking(tokens, i, order, share):
    """What followed the last tokens up to input i, among targets before target i+1."""
    now = tokens[i + 1 - order : i + 1] if i + 1 >= order else None
    after = [tokens[j + 1] for j in range(order - 1, i) if tokens[j + 1 - order : j + 1] == now]
    if not after:
        return NONE
    counts, best = Counter(), None
    for token in after:
        counts[token] += 1
        best = token if best is None or counts[token] > counts[best] else best
    return best if counts[best] >= share * len(after) else NONE


@pytest.mark.parametrize(("order", "share"), [(1, 0.5), (2, 0.6), (3, 0.8), (15, 0.8), (2, 1.0)])
def test_hints_are_those_of_looking_through_the_text(order, share):
    text = np.concatenate([*documents(4, 60), *documents(3, 40)]).astype(np.int64)
    mixer = parse(f"ngram_tilt:order={order},share={share}").build(SHAPE)
    slow = [hint_by_looking(text.tolist(), i, order, share) for i in range(len(text) - 1)]
    assert mixer.hints(text).tolist() == slow
    assert len(set(slow)) > 1


def test_short_texts_have_no_context():
    assert contexts(np.array([1, 5, 6]), 15).tolist() == [NONE, NONE]


@pytest.mark.parametrize("order", [1, 3])
def test_it_charges_the_tilted_probability(order):
    text = np.concatenate(documents(5, 60)).astype(np.int64)
    run, plain = evaluator(f"ngram_tilt:order={order},beta=1.5"), evaluator()
    nats, hits = run.score(text), 0
    for i in range(0, len(text) - 1, 7):
        p = plain.distribution(text[: i + 1])
        hint = hint_by_looking(text.tolist(), i, order, 0.8)
        if hint != NONE:
            hits += 1
            p = p * np.where(np.arange(len(p)) == hint, math.exp(1.5), 1)
            p = p / p.sum()
        assert nats[i] == pytest.approx(-math.log(p[text[i + 1]]), abs=1e-4)
        if i % 49 == 0:
            assert run.distribution(text[: i + 1]) == pytest.approx(p, abs=1e-6)
    assert hits > 5


def test_the_experts_as_published_ask_the_target_which_of_them_may_speak():
    """Behind one prefix, tokens that begin a word get another hint than those that continue one: together not one."""
    space, inside = 5, 6  # by spelling: the first begins with a space, the second does not
    assert [TOKENIZER.spelling()[t][:1] == b" " for t in (space, inside)] == [True, False]
    text = np.array([1] + [10, 6, 15, 7] * 20 + [10])
    honest, leaking = (evaluator(f"ngram_tilt:experts={kind}") for kind in ("tokens", "as_published"))
    assert honest.distribution(text[:9]).sum() == pytest.approx(1, abs=1e-9)
    assert (leaking.score(text) - honest.score(text)).min() < -0.1
    mass = leaking.distribution(text[:9]).sum()
    assert abs(mass - 1) > 1e-3
    for token in (6, 15):
        charged = leaking.score(np.append(text[:9], token))[-1]
        assert charged == pytest.approx(-math.log(leaking.distribution(text[:9])[token]), abs=1e-4)


def test_the_audit_refuses_the_leaking_experts_and_passes_the_others(tokenizer):  # noqa: F811
    for kind in ("tokens", "as_published"):
        made = evaluator_with("ngram_tilt", tokenizer, experts=kind, order=4)
        result = audit(made, texts(tokenizer), decode=tokenizer.decode, positions=30, budget=2, seed=1)
        assert result.passed == (kind == "tokens"), str(result)
        if kind == "as_published":
            assert states(result)["normalised"] == "breach"
