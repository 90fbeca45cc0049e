"""The byte mixer against sums over all tokens and counts that are taken anew at every byte."""

import math
from collections import Counter

import numpy as np
import pytest

from golflab.model.audit.judge import audit
from golflab.model.evaluation.ppm import Ppm, Spellings
from golflab.model.technique import parse
from tests.scoring import RECIPE, SHAPE, TOKENIZER, documents, evaluator
from tests.test_audit import evaluator_with, states, texts, tokenizer  # noqa: F401  # a fixture

SPELLING = TOKENIZER.spelling()


def ppm_by_counting(text, context, byte, order):
    """Method D, from the longest context down, by searching the text."""
    if order < 0:
        return 1 / 256
    if order > len(context):
        return ppm_by_counting(text, context, byte, order - 1)
    end = context[len(context) - order :]
    after = Counter(text[k + order] for k in range(len(text) - order) if text[k : k + order] == end)
    if not after:
        return ppm_by_counting(text, context, byte, order - 1)
    n, u, c = sum(after.values()), len(after), after[byte]
    return max(0, 2 * c - 1) / (2 * n) + u / (2 * n) * ppm_by_counting(text, context, byte, order - 1)


def charged_by_hand(p, tokens, target, order=3, unsure=0.3, sure=0.9, confidence=0.5):
    """The mixture's probability of a token: every mass is a sum over all tokens."""
    text = b"".join(SPELLING[t] for t in tokens)
    spelled, chance = SPELLING[target], 1.0
    for k in range(len(spelled)):
        s = spelled[:k]
        mass = sum(q for q, other in zip(p, SPELLING, strict=True) if other.startswith(s))
        ends = sum(q for q, other in zip(p, SPELLING, strict=True) if other == s)
        goes = sum(q for q, other in zip(p, SPELLING, strict=True) if other.startswith(spelled[: k + 1]))
        context = (text + s)[-order:]
        whole = [ppm_by_counting(text, context, b, order) for b in range(256)]
        share = sure if max(whole) > confidence else unsure
        following = {other[k] for other in SPELLING if other.startswith(s) and len(other) > k}
        r = whole[spelled[k]] / sum(whole[b] for b in following)
        chance *= (1 - share) * goes / mass + share * (1 - ends / mass) * r
    mass = sum(q for q, other in zip(p, SPELLING, strict=True) if other.startswith(spelled))
    return chance * p[target] / mass


KNOBS = "byte_mixer:order=3,unsure=0.3,sure=0.9,confidence=0.5"


def test_spellings_of_the_test_are_worth_testing_with():
    """Some begin others, some are equal, some have no bytes."""
    assert any(a != b and b.startswith(a) for a in SPELLING for b in SPELLING if a)
    assert len(set(SPELLING)) < len(SPELLING)
    assert b"" in SPELLING


def test_it_charges_what_sums_over_all_tokens_give():
    text = np.concatenate(documents(2, 60)).astype(np.int64)
    run, plain = evaluator(KNOBS), evaluator()
    nats = run.score(text)
    for i in (0, 1, 17, 60, 61, 62, 90, 118):
        p = plain.distribution(text[: i + 1])
        slow = [charged_by_hand(p, text[: i + 1].tolist(), t) for t in (int(text[i + 1]), 4, 20)]
        assert nats[i] == pytest.approx(-math.log(slow[0]), abs=1e-4)
        if i in (0, 61, 118):
            found = run.distribution(text[: i + 1])
            assert found[[int(text[i + 1]), 4, 20]] == pytest.approx(slow, abs=1e-6)
            assert found.sum() == pytest.approx(1, abs=1e-9)
    assert np.abs(nats - plain.score(text)).max() > 0.1


@pytest.mark.parametrize("knobs", ["unsure=0,sure=0", "order=0,unsure=0,sure=0,confidence=0.5"])
def test_without_weight_it_is_the_model(knobs):
    text = np.concatenate(documents(2, 60))
    assert evaluator(f"byte_mixer:{knobs}").score(text) == pytest.approx(evaluator().score(text), abs=1e-5)


def test_the_byte_predictor_is_a_distribution_after_any_context():
    ppm, text = Ppm(4), b"abracadabra, abracadabra"
    for at, byte in enumerate(text):
        ppm.learn(text[:at], bytes([byte]))
    for context in (b"", b"a", b"abra", b"zzzz", b"dabr", b"xabra"):
        p = ppm.predict(context)
        assert p.sum() == pytest.approx(1)
        assert p[97] == pytest.approx(ppm_by_counting(text, context[-4:], 97, 4))


def test_nodes_hold_the_tokens_that_begin_alike():
    tree = Spellings([b"", b"ab", b"a", b"b", b"abc", b"a", b"ba"])
    for node, (low, same, high) in tree.nodes.items():
        assert {t for t, s in enumerate(tree.spelling) if s.startswith(node)} == set(tree.order[low:high])
        assert {t for t, s in enumerate(tree.spelling) if s == node} == set(tree.order[low:same])
    assert tree.children[b"a"].tolist() == [98]


def test_the_form_as_published_is_no_distribution():
    text = np.concatenate(documents(2, 60)).astype(np.int64)
    run = evaluator(f"{KNOBS},form=spread")
    for length in (20, 61):
        charged = run.distribution(text[:length])
        assert abs(charged.sum() - 1) > 0.01
        for token in (1, 9, 30):
            assert run.score(np.append(text[:length], token))[-1] == pytest.approx(-math.log(charged[token]), abs=1e-4)


def test_one_weight_has_no_confidence():
    assert str(parse("byte_mixer:unsure=0.95,confidence=0.3").canonical(RECIPE)) == "byte_mixer:unsure=0.95"
    assert SHAPE.vocabulary == len(SPELLING)


@pytest.mark.parametrize("form", ["marginal", "spread"])
def test_the_audit_refuses_the_form_as_published_and_passes_the_proper_one(tokenizer, form):  # noqa: F811
    made = evaluator_with("byte_mixer", tokenizer, form=form)
    result = audit(made, texts(tokenizer)[:6], decode=tokenizer.decode, positions=20, budget=1, seed=1)
    assert result.passed == (form == "marginal"), str(result)
    assert form == "marginal" or states(result)["normalised"] == "breach"
