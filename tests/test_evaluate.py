"""Bits are exact, belong to their documents, and survive a crash."""

import math

import numpy as np
import pytest
import torch

import golflab.model.evaluation.resume
from golflab.model.evaluation.score import Score, evaluate
from tests.scoring import RECIPE, TOKENIZER, documents, evaluator, model_of, nats_one_by_one, recipe_with

EVERY = [
    "chunked",
    "chunked:isolated=true",
    "sliding_window:stride=8",
    "sliding_window:stride=8,isolated=true",
    "fixed_temperature:temperature=0.9",
    "adaptive_temperature",
    "sgd_ttt:chunk=128,rate=0.05,freeze=1",
    "adamw_ttt:chunk=128,rate=0.01",
    "adamw_ttt:chunk=128,rate=0.01,freeze=as_written,polyak=0",
    "lora_ttt:chunk=16,batch=4,rank=2",
    "lora_ttt:chunk=16,batch=1,reset=never",
    "lora_ttt:chunk=16,batch=4,rank=2,targets=q_k_v_o_mlp_head,keep_a=true,short_chunk=4,short_length=110,context=48",
    "hedge_mixer:chunk=64,update=64,warm=64",
    "ngram_tilt:order=2",
    "byte_mixer",
]


def short_documents():
    """More than two chunks of 128 tokens, and more than two batches of four documents."""
    return documents(length=50)


def straightforward(model, texts):
    """Bits per byte as the challenge defines it: one stream, chunks of T side by side, three tables, one loop."""
    stream = np.concatenate(texts).astype(np.int64)
    nats, size, context = 0.0, 0, RECIPE.shape.context
    for begin in range(0, len(stream) - 1, context):
        end = min(begin + context, len(stream) - 1)
        with torch.no_grad():
            logs = model.logits(torch.from_numpy(stream[None, begin:end]))[0].double().log_softmax(-1)
        for k in range(begin, end):
            nats -= float(logs[k - begin, stream[k + 1]])
            size += int(TOKENIZER.token_bytes(stream[k + 1], stream[k]))
    count = len(stream) - 1
    return nats / count / math.log(2) * (count / size), size


def test_bits_per_byte_equal_a_straightforward_count():
    texts, gpt = documents(), model_of()
    expected, size = straightforward(gpt, texts)
    score = evaluate(gpt, texts, TOKENIZER, RECIPE)
    assert score.bpb == pytest.approx(expected, rel=1e-6)  # a mean of nats that float32 knows to some 1e-7 each
    assert score.bytes.sum() == size
    assert score.tokens == sum(map(len, texts)) - 1


def test_bits_belong_to_the_document_their_target_lies_in():
    texts = documents()
    run = evaluator()
    nats = run.score(np.concatenate(texts))
    ends = np.cumsum([len(t) for t in texts])
    expected = [nats[max(0, b - 1) : e - 1].sum() / math.log(2) for b, e in zip([0, *ends[:-1]], ends, strict=True)]
    score = evaluate(run.model, texts, TOKENIZER, RECIPE)
    assert score.bits == pytest.approx(expected)
    assert score.bits.dtype == np.float64
    assert score.bytes.tolist() == [int(TOKENIZER.token_bytes(t[1:], t[:-1]).sum()) for t in texts]
    assert score.nats == pytest.approx(nats.mean())


@pytest.mark.parametrize(
    "windows", ["chunked", "chunked:isolated=true", "sliding_window:stride=8", "sliding_window:stride=5,isolated=true"]
)
def test_trimmed_and_batched_windows_score_what_whole_ones_do_one_by_one(windows):
    run = evaluator(windows)
    text = np.concatenate(documents())
    slow = nats_one_by_one(run.model, text, run.plan(len(text) - 1, np.flatnonzero(text == 1)))
    # Nats of up to 8, whose logits are sums in float32 in another order: some ten roundings of half of 2⁻²⁰ each.
    assert np.abs(run.score(text) - slow).max() < 2e-5


def test_a_stride_of_the_context_is_chunked_to_the_last_bit():
    text = np.concatenate(documents())
    assert (evaluator("sliding_window:stride=32").score(text) == evaluator("chunked").score(text)).all()


def test_a_dropped_tail_is_neither_scored_nor_counted():
    texts = documents(3)
    run = evaluator("chunked:tail=dropped")
    score = evaluate(run.model, texts, TOKENIZER, run.recipe)
    whole = np.concatenate(texts)
    kept = (len(whole) - 1) // 32 * 32
    assert score.tokens == kept
    assert score.bytes.sum() == TOKENIZER.token_bytes(whole[1 : kept + 1], whole[:kept]).sum()


@pytest.mark.parametrize("technique", EVERY)
def test_scores_do_not_depend_on_the_batch_and_the_model_comes_back_unchanged(technique):
    recipe = recipe_with(technique)
    gpt = model_of(recipe)
    before = {name: p.clone() for name, p in gpt.named_parameters()}
    one = evaluate(gpt, short_documents(), TOKENIZER, recipe, batch_tokens=64)
    other = evaluate(gpt, short_documents(), TOKENIZER, recipe, batch_tokens=4096)
    assert one.bits == pytest.approx(other.bits, rel=1e-4)
    assert all((p == before[name]).all() and p.requires_grad and p.grad is None for name, p in gpt.named_parameters())
    assert all(getattr(m, "delta", None) is None for m in gpt.modules())


@pytest.mark.parametrize("technique", EVERY)
@pytest.mark.parametrize("length", [1, 40, 300])
def test_what_is_announced_is_what_is_charged(technique, length):
    run = evaluator(technique)
    prefix = np.concatenate(documents())[:length]
    announced = run.distribution(prefix)
    assert announced.sum() == pytest.approx(1, abs=1e-5)
    for token in (1, 17):
        assert run.score(np.append(prefix, token))[-1] == pytest.approx(-math.log(announced[token]), abs=1e-4)


@pytest.mark.parametrize(
    "technique", ["sgd_ttt:chunk=128,rate=0.05", "adamw_ttt:chunk=128,rate=0.01", "hedge_mixer:chunk=128,warm=128"]
)
def test_the_first_chunk_scores_bit_for_bit_as_without(technique):
    text = np.concatenate(documents())
    plain = evaluator(batch_tokens=128).score(text)
    adapted = evaluator(technique, batch_tokens=128).score(text)
    assert (plain[:128] == adapted[:128]).all()
    assert (np.abs(plain[128:] - adapted[128:]) > 1e-6).mean() > 0.9


class Crash(Exception):
    pass


@pytest.mark.parametrize("technique", EVERY)
def test_an_interrupted_evaluation_goes_on_where_it_was(technique, tmp_path, monkeypatch):
    monkeypatch.setattr(golflab.model.evaluation.resume, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(golflab.model.evaluation.resume, "SAVE_SHARE", float("inf"))
    monkeypatch.setattr("golflab.model.evaluation.adapters.Adapter.chunk", 128)
    recipe = recipe_with(technique)
    gpt = model_of(recipe)
    whole = evaluate(gpt, short_documents(), TOKENIZER, recipe)
    told = []

    def crash(done, total, bpb):
        told.append(done)
        if len(told) == 2:
            raise Crash

    with pytest.raises(Crash):
        evaluate(gpt, short_documents(), TOKENIZER, recipe, progress=crash, resume=tmp_path / "part")
    resumed = []
    again = evaluate(gpt, short_documents(), TOKENIZER, recipe, progress=lambda *a: resumed.append(a), resume=tmp_path / "part")
    assert again.bits.tolist() == whole.bits.tolist()
    assert resumed[0][0] > told[-1]
    assert resumed[-1][:2] == (whole.tokens, whole.tokens)
    assert not (tmp_path / "part").exists()


def test_leftovers_of_another_evaluation_are_ignored(tmp_path, monkeypatch):
    monkeypatch.setattr(golflab.model.evaluation.resume, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(golflab.model.evaluation.resume, "SAVE_SHARE", float("inf"))

    def crash(*_):
        raise Crash

    with pytest.raises(Crash):
        evaluate(model_of(seed=2), documents(), TOKENIZER, RECIPE, progress=crash, resume=tmp_path / "part")
    assert (tmp_path / "part").exists()
    clean = evaluate(model_of(), documents(), TOKENIZER, RECIPE)
    assert evaluate(model_of(), documents(), TOKENIZER, RECIPE, resume=tmp_path / "part").bits.tolist() == clean.bits.tolist()
    (tmp_path / "part").write_bytes(b"damaged")
    assert evaluate(model_of(), documents(), TOKENIZER, RECIPE, resume=tmp_path / "part").bits.tolist() == clean.bits.tolist()


def test_a_limit_takes_whole_documents_from_the_front():
    texts, gpt = documents(), model_of()
    score = evaluate(gpt, texts, TOKENIZER, RECIPE, limit=len(texts[0]) + len(texts[1]) + 5)
    assert score.bits.tolist() == evaluate(gpt, texts[:2], TOKENIZER, RECIPE).bits.tolist()


def test_a_score_is_kept_as_tensors():
    score = evaluate(model_of(), documents(3), TOKENIZER, RECIPE)
    back = Score.from_tensors(*score.to_tensors())
    assert (back.bpb, back.tokens, back.seconds) == (score.bpb, score.tokens, score.seconds)


def test_nothing_and_headless_documents_are_refused():
    with pytest.raises(ValueError, match="no documents"):
        evaluate(model_of(), [], TOKENIZER, RECIPE)
    with pytest.raises(ValueError, match="document 1 does not begin with BOS"):
        evaluate(model_of(), [documents()[0], np.array([5, 6])], TOKENIZER, RECIPE)
