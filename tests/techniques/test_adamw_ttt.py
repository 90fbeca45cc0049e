import numpy as np
import pytest
import torch

from golflab.model.technique import parse
from tests.scoring import RECIPE, SHAPE, TOKENIZER, documents, evaluator, model_of


def learning(knobs, *others):
    recipe = RECIPE.with_(*(parse(t) for t in others))
    gpt = model_of(recipe)
    chosen = {id(p) for p in parse(f"adamw_ttt:{knobs}").build(SHAPE).choose(gpt)}
    return {name for name, p in gpt.named_parameters() if id(p) in chosen}, dict(gpt.named_parameters())


def test_the_rule_as_run_trains_the_last_blocks_and_what_is_named_scale():
    names, every = learning("blocks=1", "branch_scale")
    assert names == {n for n in every if n.startswith("blocks.2.") or "scale" in n}
    assert "table.weight" not in names


def test_the_rule_as_written_freezes_the_first_blocks():
    names, every = learning("blocks=1,freeze=as_written")
    assert names == {n for n in every if not n.startswith("blocks.0.")}


@pytest.mark.parametrize(("c", "factor"), [(0, 1.0), (15, 0.5 * (1 + np.cos(np.pi * 15 / 99)) * 2), (99, 0.0)])
def test_the_rate_ramps_up_threefold_under_a_falling_cosine(c, factor):
    technique = parse("adamw_ttt:rate=0.001")
    assert technique._rate(c, 100) == pytest.approx(0.001 * factor)


def test_the_loss_weighs_bytes():
    """One step by hand: the gradient is that of Σ bytes·nats / Σ bytes."""
    text = np.concatenate(documents(2))[:129]
    run = evaluator("adamw_ttt:chunk=64,rows=2,epochs=1,polyak=0,ramp=false,rate=0.01,blocks=3")
    gpt = run.model
    ids = torch.from_numpy(text.astype(np.int64))
    weights = torch.from_numpy(TOKENIZER.token_bytes(text[1:65], text[:64])).view(2, 32)
    x, y = ids[:64].view(2, 32), ids[1:65].view(2, 32)
    names = dict(gpt.named_parameters())
    mine = [p for name, p in names.items() if name.startswith("blocks.")]
    before = [p.detach().clone() for p in mine]
    gradients = torch.autograd.grad((gpt.nats(x, y) * weights).sum() / weights.sum(), mine)
    norm = float(torch.sqrt(sum((g**2).sum() for g in gradients)))
    with torch.no_grad():
        for p, g in zip(mine, gradients, strict=True):
            g = g * min(1.0, 1 / (norm + 1e-6))
            p.sub_(0.01 * g / (g.abs() + 1e-8))  # Adam's first step
        expected = gpt.nats(ids[64:128].view(2, 32), ids[65:129].view(2, 32)).flatten().numpy()
        for p, old in zip(mine, before, strict=True):
            p.copy_(old)
    assert np.abs(run.score(text)[64:] - expected).max() < 1e-3


def test_the_average_scores_and_the_raw_weights_train():
    """With a decay near one the average hardly moves, however far the raw weights go."""
    text = np.concatenate(documents())
    plain = evaluator().score(text)
    slow = evaluator("adamw_ttt:chunk=128,rate=0.01,polyak=0.9999").score(text)
    raw = evaluator("adamw_ttt:chunk=128,rate=0.01,polyak=0").score(text)
    assert 0 < np.abs(slow - plain).mean() < 0.1 * np.abs(raw - plain).mean()


def test_the_rule_as_run_trains_all_that_849_calls_a_scale():
    """Its value embedding's shared scale and gains have "scale" in their names there; they carry other names here."""
    names, every = learning("blocks=1", "value_embedding:dim=4,last=2", "bigram_hash:buckets=32,dim=4", "smear_gate")
    outside = {n for n in names if not n.startswith("blocks.2.")}
    assert outside == {"embed.bigram_hash.scale.weight", "value_add.shared.weight", "value_add.gains.weight"}
    assert {"value_add.table.weight", "value_add.project.weight", "stem.theta.weight"} <= set(every)
