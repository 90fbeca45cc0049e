"""Training between documents against the algorithm written out, alone and around per-document adapters."""

import math

import numpy as np
import pytest
import torch

from golflab.model.audit.judge import audit
from golflab.model.technique import parse
from golflab.model.techniques.evaluate.phased_sgd import sequences
from tests.scoring import RECIPE, documents, evaluator, model_of
from tests.test_audit import evaluator_with, texts, tokenizer  # noqa: F401  # a fixture

LENGTHS = (40, 120, 77, 90, 61, 33)
KNOBS = "phased_sgd:share=0.67,phases=2,rate=0.05,chunk=96,rows=2"


def unequal():
    return [documents(1, length, seed=length)[0].astype(np.int64) for length in LENGTHS]


def losses(gpt, text, begin, end):
    ids = torch.from_numpy(text)
    return torch.nn.functional.cross_entropy(gpt.logits(ids[None, begin:end])[0], ids[begin + 1 : end + 1], reduction="none")


def train_by_hand(gpt, text, order, context=32, rate=0.05, momentum=0.9, chunk=96, rows=2):
    """One pass over inputs, one sequence after the other; ``order`` holds (input, number of its document)."""
    velocity = [torch.zeros_like(p) for p in gpt.parameters()]
    chunks = [order[k : k + chunk] for k in range(0, len(order), chunk)]
    for c, inputs in enumerate(chunks):
        for piece in (inputs[k : k + rows * context] for k in range(0, len(inputs), rows * context)):
            cut, run = [], [piece[0]]
            for here in piece[1:]:
                if here[1] != run[-1][1] or len(run) == context:
                    cut.append(run)
                    run = []
                run.append(here)
            total = sum(losses(gpt, text, r[0][0], r[-1][0] + 1).sum() for r in [*cut, run]) / len(piece)
            gradients = torch.autograd.grad(total, list(gpt.parameters()))
            norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
            lr = rate * 0.5 * (1 + math.cos(math.pi * c / max(1, len(chunks) - 1)))
            with torch.no_grad():
                for p, v, g in zip(gpt.parameters(), velocity, gradients, strict=True):
                    v.mul_(momentum).add_(g * min(1.0, 1.0 / (norm + 1e-6)))
                    p.sub_(lr * v)


@pytest.mark.parametrize("local", ["", "lora_ttt:chunk=16,rank=2,batch=3"])
def test_it_scores_what_the_algorithm_written_out_scores(local):
    """Six documents, of which four are trained on in two phases: after two, and after four."""
    whole, begins = np.concatenate(unequal()), np.cumsum([0, *(n + 1 for n in LENGTHS)])
    queue = [1, 3, 2, 4, 0, 5]
    gpt, order = model_of(), []
    alone = evaluator(local or "chunked:isolated=true", model=gpt)
    expected = np.full(len(whole) - 1, np.nan)
    for rank, number in enumerate(queue, 1):
        begin, end = begins[number], min(begins[number + 1], len(whole) - 1)
        expected[begin:end] = alone.score(whole[begin : end + 1])
        order += [(k, number) for k in range(begin, end)]
        if rank in (2, 4):
            train_by_hand(gpt, whole, order)
    run = evaluator(KNOBS, local or "chunked:isolated=true")
    assert np.abs(run.score(whole) - expected).max() < 2e-3
    assert run.order(unequal()).tolist() == queue
    apart = evaluator(local or "chunked:isolated=true").score(whole)
    assert np.abs(apart - expected).max() > 0.05
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), model_of().parameters(), strict=True))


def test_documents_side_by_side_change_nothing():
    whole = np.concatenate(unequal())
    one, four = (evaluator(KNOBS, f"lora_ttt:chunk=16,rank=2,batch={n}").score(whole) for n in (1, 4))
    assert np.abs(one - four).max() < 1e-3


@pytest.mark.parametrize("keep", ["false", "true"])
def test_an_interrupted_evaluation_goes_on_as_it_would_have(keep):
    run = evaluator(KNOBS, f"lora_ttt:chunk=16,rank=2,batch=2,keep_a={keep}")
    text, parts, states_ = run.text(np.concatenate(unequal())), [], []
    for part in run.walk(text):
        parts.append(part)
        states_.append(run.adapter.state())
    for done in range(1, len(parts)):
        for old, new in zip(parts[done:], run.walk(text, done, states_[done - 1]), strict=True):
            assert (old.nats == new.nats).all()


@pytest.mark.parametrize("knobs", ["share=0.5,phases=1", "share=0.7,phases=3"])
def test_pauses_come_after_equal_shares_and_never_after_the_last(knobs):
    technique = parse(f"phased_sgd:{knobs}")
    assert technique.pauses(10) == ((5,) if technique.phases == 1 else (2, 4, 7))
    assert parse("phased_sgd:share=1,phases=2").pauses(10) == (5,)
    assert parse("phased_sgd").pauses(1) == ()


QUEUED = [
    ("phased_sgd", {"share": 0.5, "rate": 0.05, "chunk": 64}),
    pytest.param("lora_ttt", {"keep_a": True, "batch": 2}, marks=pytest.mark.full),
]


@pytest.mark.parametrize(("name", "knobs"), QUEUED)
def test_the_audit_finds_it_honest_in_the_announced_order(tokenizer, name, knobs):  # noqa: F811
    some = [t[: 30 + 7 * (k * 5 % 12)] for k, t in enumerate(texts(tokenizer))]
    made = evaluator_with(name, tokenizer, **knobs)
    result = audit(made, some, decode=tokenizer.decode, positions=30, budget=1, seed=1)
    assert result.passed, str(result)
    assert any("announced order" in note for note in result.notes)


@pytest.mark.parametrize(("name", "knobs"), QUEUED)
def test_the_audit_finds_it_dishonest_in_the_order_of_the_text(tokenizer, name, knobs):  # noqa: F811
    """The same scores, announced in another order than the one in which they were made."""
    some = [t[: 30 + 7 * (k * 5 % 12)] for k, t in enumerate(texts(tokenizer))]
    made = evaluator_with(name, tokenizer, **knobs)
    made.order = lambda given: np.arange(len(given))
    assert "causal" in audit(made, some, decode=tokenizer.decode, positions=30, budget=1, seed=1).breaches


def test_what_cannot_go_with_it_is_refused():
    for others, why in (
        ("sgd_ttt", "document by document"),
        ("lora_ttt:chunk=16,batch=1,reset=never", "in the order of the text"),
        ("chunked", "must not read other documents"),
    ):
        with pytest.raises(ValueError, match=why):
            RECIPE.with_(parse("phased_sgd"), parse(others)).check()
    with pytest.raises(ValueError, match="No single order explains both"):
        RECIPE.with_(parse("phased_sgd"), parse("chunked:isolated=true"), parse("hedge_mixer")).check()


def test_a_sequence_ends_with_its_document_also_where_the_next_one_follows_in_the_text():
    text = evaluator().text(np.array([1, *[9] * 39, 1, *[9] * 9, 1, *[9] * 19]))
    inputs = np.concatenate([np.arange(0, 50), np.arange(60, 69)])
    assert sequences(text, inputs, 32).tolist() == [[0, 32], [32, 40], [40, 50], [60, 69]]
