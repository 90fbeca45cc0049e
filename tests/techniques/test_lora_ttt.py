"""The adapters against a loop over single documents."""

import numpy as np
import pytest
import torch

from golflab.model.evaluation.lora import Corrections, places
from golflab.model.technique import parse
from tests.scoring import RECIPE, SHAPE, documents, evaluator, recipe_with


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


@pytest.mark.parametrize(
    ("targets", "count"), [("q_v_head", 7), ("q_v", 6), ("head", 1), ("k_o_mlp_head", 10), ("q_k_v_o_mlp_head", 16)]
)
def test_the_targets_are_corrected_and_no_others(targets, count):
    assert len(places(evaluator().model, targets.split("_"), each=False)) == count


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


# ------------------------------------------------------------------------------------------------ the second generation

SECOND = {"rank": 2, "alpha": 6.0, "beta1": 0.0, "beta2": 0.99, "decay": 0.5, "rate": 0.01, "context": 48}
WORDS = "lora_ttt:" + ",".join(f"{key}={value}" for key, value in SECOND.items())


class Slow:
    """One document's corrections of everything at every visit, in forward methods that are written anew."""

    def __init__(self, gpt, names, each, start=None):
        random = torch.Generator().manual_seed(0)
        self.gpt, self.names, self.visit, self.pairs = gpt, names, {}, {}
        width = gpt.table.weight.size(1)
        for layer, block in enumerate(gpt.blocks):
            rows = {"q": width, "k": block.attention.key.weight.size(0), "v": block.attention.value.weight.size(0)}
            for name in (n for n in ("q", "k", "v", "o", "mlp") if n in names):
                for visit in range(gpt.order.count(layer) if each else 1):
                    self.draw((layer, name, visit), rows.get(name, width), width, random)
        if "head" in names:
            self.draw(("head",), gpt.table.weight.size(0), width, random)
        for key, a in (start or {}).items():
            self.pairs[key] = (a.clone().requires_grad_(), self.pairs[key][1])
        self.each = each

    def draw(self, key, rows, width, random):
        a = (torch.rand(SECOND["rank"], width, generator=random) * 2 - 1) / width**0.5
        self.pairs[key] = (a.requires_grad_(), torch.zeros(rows, SECOND["rank"], requires_grad=True))

    def more(self, key, x):
        if key not in self.pairs:
            return 0.0
        a, b = self.pairs[key]
        return SECOND["alpha"] / SECOND["rank"] * (x @ a.T @ b.T)

    def losses(self, ids, begin, first, end):
        """Nats of the targets of inputs first … end-1, read from ``begin`` on."""
        gpt, seen = self.gpt, []
        heads, groups = gpt.blocks[0].attention.heads, gpt.blocks[0].attention.kv_heads
        norm = lambda x: torch.nn.functional.rms_norm(x, (x.size(-1),), eps=torch.finfo(torch.float32).eps)
        x = norm(gpt.table.weight[ids[begin:end]])
        mask = torch.ones(len(x), len(x), dtype=torch.bool).tril()
        for layer in gpt.order:
            visit = seen.count(layer) if self.each else 0
            seen.append(layer)
            block, at = gpt.blocks[layer], (lambda name, layer=layer, visit=visit: (layer, name, visit))
            attention, h = block.attention, norm(x)
            q = h @ attention.query.weight.T + self.more(at("q"), h)
            k = h @ attention.key.weight.T + self.more(at("k"), h)
            v = h @ attention.value.weight.T + self.more(at("v"), h)
            q, k, v = (t.unflatten(-1, (n, -1)) for t, n in ((q, heads), (k, groups), (v, groups)))
            q, k = attention.rotary(q[None])[0], attention.rotary(k[None])[0]
            k, v = (t.repeat_interleave(heads // groups, 1) for t in (k, v))
            scores = torch.einsum("thd,shd->hts", q, k) / q.size(-1) ** 0.5
            y = torch.einsum("hts,shd->thd", scores.masked_fill(~mask, -torch.inf).softmax(-1), v).flatten(1)
            x = x + y @ attention.out.weight.T + self.more(at("o"), h)
            h = norm(x)
            x = x + block.mlp.activation(h @ block.mlp.up.weight.T) @ block.mlp.down.weight.T + self.more(at("mlp"), h)
        x = norm(x)[first - begin :]
        logits = x @ gpt.table.weight.T + self.more(("head",), x)
        return torch.nn.functional.cross_entropy(logits, ids[first + 1 : end + 1], reduction="none")

    def document(self, text, chunk):
        """Score a document, learning from every chunk but the last."""
        ids, nats = torch.from_numpy(np.asarray(text, dtype=np.int64)), []
        moments = [torch.zeros_like(t) for pair in self.pairs.values() for t in pair]
        for step, first in enumerate(range(0, len(ids) - 1, chunk), 1):
            end = min(first + chunk, len(ids) - 1)
            losses = self.losses(ids, max(0, end - SECOND["context"]), first, end)
            nats.append(losses.detach().numpy())
            if end == len(ids) - 1:
                break
            tensors = [t for pair in self.pairs.values() for t in pair]
            for t, square, g in zip(tensors, moments, torch.autograd.grad(losses.mean(), tensors), strict=True):
                square.mul_(SECOND["beta2"]).add_((1 - SECOND["beta2"]) * g**2)
                with torch.no_grad():  # AdamW with β₁ = 0
                    t.mul_(1 - SECOND["rate"] * SECOND["decay"])
                    t.sub_(SECOND["rate"] * g / ((square / (1 - SECOND["beta2"] ** step)).sqrt() + 1e-10))
        return np.concatenate(nats)


@pytest.mark.parametrize("visits", ["each", "shared"])
@pytest.mark.parametrize("targets", ["q_k_v_o_mlp_head", "k_o_mlp_head", "q_v_o_mlp_head"])
def test_every_target_at_every_visit_scores_what_the_algorithm_written_out_scores(targets, visits):
    text, loop = documents(1, 120)[0], "depth_recurrence:first=1,final=2"
    run = evaluator(f"{WORDS},chunk=16,targets={targets},visits={visits}", loop)
    run.model.set_progress(1.0)
    assert run.model.order.count(1) > 1
    slow = Slow(run.model, targets.split("_"), visits == "each").document(text, 16)
    assert np.abs(run.score(text) - slow).max() < 1e-3
    assert np.abs(evaluator("chunked:isolated=true", loop, model=run.model).score(text) - slow).max() > 0.05


def test_short_documents_have_chunks_of_their_own():
    """As in #2014: the chunk of a document follows from its length, whoever is scored beside it."""
    texts = [documents(1, length)[0] for length in (140, 97, 60, 33)]
    run = evaluator(
        f"{WORDS},chunk=16,batch=4,short_chunk=4,short_length=40,middle_chunk=8,middle_length=100,targets=q_k_v_o_mlp_head"
    )
    together, start = run.score(np.concatenate(texts)), 0
    for text, chunk in zip(texts, (16, 8, 8, 4), strict=True):
        more = [] if start + len(text) > len(together) else [1]
        alone = Slow(run.model, ["q", "k", "v", "o", "mlp", "head"], False).document(np.append(text, more), chunk)
        assert np.abs(together[start : start + len(alone)] - alone).max() < 1e-3
        start += len(text)


def test_a_document_begins_with_the_a_of_the_one_in_its_place_before():
    """Two places, three groups of unequal documents: A goes on as the last step of the document before left it."""
    texts = [documents(1, length)[0] for length in (40, 120, 77, 90, 61)]
    run = evaluator(f"{WORDS},chunk=16,batch=2,keep_a=true,targets=q_k_v_o_mlp_head")
    whole = np.concatenate(texts)
    nats, order = run.score(whole), run.order(texts)
    assert order.tolist() == [1, 3, 2, 4, 0]
    begins, left = np.cumsum([0, *map(len, texts)]), [None, None]
    for rank, number in enumerate(order):
        slow = Slow(run.model, ["q", "k", "v", "o", "mlp", "head"], False, left[rank % 2])
        expected = slow.document(whole[begins[number] : begins[number + 1] + 1], 16)
        left[rank % 2] = {key: a.detach() for key, (a, _) in slow.pairs.items()}
        assert np.abs(nats[begins[number] : begins[number] + len(expected)] - expected).max() < 1e-3
    apart = evaluator(f"{WORDS},chunk=16,batch=2,targets=q_k_v_o_mlp_head", model=run.model).score(whole)
    assert np.abs(apart - nats).max() > 1e-3


def test_documents_that_have_ended_cost_nothing_and_change_nothing(monkeypatch):
    """With half of a group's documents gone, the others go on alone, with the same scores."""
    texts = [documents(1, length)[0] for length in (200, 120, 90, 70, 50, 40, 30, 20)]
    words = f"{WORDS},chunk=16,batch=6,keep_a=true,targets=q_k_v_o_mlp_head"
    narrow, sizes = Corrections.narrow, []

    def noted(self, count, optimizer):
        narrow(self, count, optimizer)
        held = {t.size(0) for t in (*self.parameters(), *(s["exp_avg"] for s in optimizer.state.values() if s))}
        assert held == {count}
        assert len(optimizer.state) == len(self.parameters())
        sizes.append(count)

    monkeypatch.setattr(Corrections, "narrow", noted)
    run = evaluator(words)
    nats = run.score(np.concatenate(texts))
    assert sizes == [3, 1, 2]  # six documents, three, the longest alone; then two in the six places of the second group
    monkeypatch.setattr(Corrections, "narrow", lambda *_: None)
    assert np.abs(evaluator(words, model=run.model).score(np.concatenate(texts)) - nats).max() < 1e-4


def test_an_interrupted_evaluation_goes_on_with_the_a_that_was_left():
    texts = np.concatenate([documents(1, length)[0] for length in (60, 120, 77, 90, 61)])
    run = evaluator(f"{WORDS},chunk=16,batch=2,keep_a=true")
    text, parts, states = run.text(texts), [], []
    for part in run.walk(text):
        parts.append(part)
        states.append(run.adapter.state())
    again = list(run.walk(text, 1, states[0]))
    for old, new in zip(parts[1:], again, strict=True):
        assert (old.nats == new.nats).all()


def test_what_nothing_reads_takes_its_default():
    words = "lora_ttt:chunk=16,alpha=8,visits=each,context=32,short_length=99,middle_length=999"
    assert str(recipe_with(words).technique_in("adapt")) == "lora_ttt:chunk=16"
    assert recipe_with(words).shape == SHAPE
    carried = recipe_with("lora_ttt:chunk=16,batch=1,reset=never,keep_a=true").technique_in("adapt")
    assert carried == parse("lora_ttt:chunk=16,batch=1,reset=never")


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="short_chunk=64 is longer than context=32"):
        RECIPE.with_(parse("lora_ttt:chunk=16,short_chunk=64")).check()
    with pytest.raises(ValueError, match="middle_length=100 must be above short_length=256"):
        RECIPE.with_(parse("lora_ttt:chunk=16,short_chunk=4,middle_chunk=8,middle_length=100")).check()
    with pytest.raises(ValueError, match="No single order explains both"):
        RECIPE.with_(parse("lora_ttt:chunk=16,keep_a=true"), parse("hedge_mixer")).check()
