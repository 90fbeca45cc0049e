"""The adapters against a loop over single documents."""

import numpy as np
import pytest
import torch

from golflab.model.technique import parse
from tests.scoring import RECIPE, documents, evaluator


def test_with_fresh_adapters_it_is_the_model_itself():
    """Chunk 0 of every document is scored before anything is learned, with B = 0."""
    text = np.concatenate(documents())
    adapted = evaluator("lora_ttt:chunk=16,batch=4").score(text)
    plain = evaluator("chunked:isolated=true").score(text)
    begins = np.flatnonzero(text == 1)
    firsts = np.concatenate([np.arange(b, b + 16) for b in begins])
    others = np.setdiff1d(np.arange(len(plain)), firsts)
    assert np.abs(adapted[firsts] - plain[firsts]).max() < 1e-5
    assert (np.abs(adapted[others] - plain[others]) > 1e-4).mean() > 0.9


def test_documents_know_nothing_of_each_other():
    """Every document scores alone as it does in any company and order."""
    texts = documents()
    together = evaluator("lora_ttt:chunk=16,batch=4").score(np.concatenate(texts))
    ends = np.cumsum([len(t) for t in texts])
    for k in (0, 3, 8):
        begin, end = ends[k] - len(texts[k]), ends[k]
        tail = [] if k == 8 else [1]  # the next BOS is a document's last target
        alone = evaluator("lora_ttt:chunk=16,batch=4").score(np.append(texts[k], tail))
        assert np.abs(together[begin : end - 1 + len(tail)] - alone).max() < 1e-4


def by_hand(run, text, rank=2, rate=0.01, chunk=16, context=32):
    """One document: LoRA on Q, V and the head as plain matrices added to the weights."""
    gpt = run.model
    ids = torch.from_numpy(text.astype(np.int64))
    matrices = [m for block in gpt.blocks for m in (block.attention.query, block.attention.value)] + [gpt.table]
    random = torch.Generator().manual_seed(0)
    pairs = []
    for m in matrices:
        a = (torch.rand(rank, m.weight.size(1), generator=random) * 2 - 1) / m.weight.size(1) ** 0.5
        pairs.append((a.requires_grad_(), torch.zeros(m.weight.size(0), rank, requires_grad=True)))
    adam = torch.optim.Adam([t for pair in pairs for t in pair], lr=rate, betas=(0.9, 0.95), eps=1e-10)
    for m, (a, b) in zip(matrices, pairs, strict=True):
        m.delta = lambda x, y, a=a, b=b: y + x @ a.T @ b.T
    nats = []
    for first in range(0, len(ids) - 1, chunk):
        end = min(first + chunk, len(ids) - 1)  # a last, shorter chunk has its full context too
        begin = max(0, end - context)
        logits = gpt.head(gpt.hidden(ids[None, begin:end]))[0, first - begin :]
        losses = torch.nn.functional.cross_entropy(logits, ids[first + 1 : end + 1], reduction="none")
        nats.append(losses.detach().numpy())
        adam.zero_grad()
        losses.mean().backward()
        adam.step()
    for m in matrices:
        m.delta = None
    return np.concatenate(nats)


@pytest.mark.parametrize("knobs", ["batch=8", "batch=1,reset=never"])
def test_one_document_scores_what_the_algorithm_written_out_scores(knobs):
    text = documents(1, 120)[0]
    run = evaluator(f"lora_ttt:chunk=16,rank=2,{knobs}")
    assert np.abs(run.score(text) - by_hand(run, text)).max() < 1e-3


@pytest.mark.parametrize(("targets", "count"), [("q_v_head", 7), ("q_v", 6), ("head", 1)])
def test_the_targets_are_corrected_and_no_others(targets, count):
    from golflab.model.techniques.evaluate.lora_ttt import _matrices

    assert len(_matrices(evaluator().model, targets)) == count


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="chunk=256 is longer than context=32"):
        RECIPE.with_(parse("lora_ttt")).check()
    with pytest.raises(ValueError, match="needs batch=1"):
        RECIPE.with_(parse("lora_ttt:chunk=16,reset=never")).check()


def test_documents_of_unequal_ends_keep_their_full_context_side_by_side():
    """The last, shorter chunk of a document that is longer than the context is read with all the context there is."""
    texts = [documents(1, length)[0] for length in (121, 117, 97, 53)]
    run = evaluator("lora_ttt:chunk=16,rank=2,batch=4")
    together, start = run.score(np.concatenate(texts)), 0
    for text, more in zip(texts, (*(t[:1] for t in texts[1:]), []), strict=True):
        alone = by_hand(run, np.append(text, more).astype(np.int64))
        assert np.abs(together[start : start + len(alone)] - alone).max() < 1e-3
        start += len(text)
