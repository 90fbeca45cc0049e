"""The estimate is unbiased, knows its error, and reads little."""

import numpy as np
import pytest

from model.estimate import estimate
from model.evaluate import evaluate
from tests.scoring import TOKENIZER, documents, model_of, recipe_with

SLIDING = recipe_with("sliding_window:stride=8")


def test_it_is_unbiased_and_its_error_is_the_one_it_tells():
    gpt, texts = model_of(), documents(4)
    exact = evaluate(gpt, texts, TOKENIZER, SLIDING).bpb
    found = [estimate(gpt, texts, TOKENIZER, SLIDING, share=0.2, seed=seed) for seed in range(150)]
    bpb, errors = np.array([e.bpb for e in found]), np.array([e.error for e in found])
    assert abs(bpb.mean() - exact) < 4 * bpb.std(ddof=1) / len(bpb) ** 0.5
    assert (errors**2).mean() == pytest.approx(bpb.var(ddof=1), rel=0.4)


def test_all_windows_give_the_exact_number():
    gpt, texts = model_of(), documents()
    found = estimate(gpt, texts, TOKENIZER, SLIDING, share=1.0)
    assert found.bpb == pytest.approx(evaluate(gpt, texts, TOKENIZER, SLIDING).bpb, rel=1e-6)
    assert found.error == 0


def test_by_default_it_reads_at_most_half_as_much_again():
    gpt, texts = model_of(), documents(40, 200)
    found = estimate(gpt, texts, TOKENIZER, SLIDING)
    assert 0.05 < found.share <= 0.1
    assert found.share * 32 / 8 <= 0.41
    assert found.chunked.bits.tolist() == evaluate(gpt, texts, TOKENIZER, recipe_with("chunked")).bits.tolist()


@pytest.mark.parametrize("technique", ["sgd_ttt", "hedge_mixer"])
def test_what_learns_cannot_be_sampled(technique):
    with pytest.raises(ValueError, match="switch adapt and mixer off"):
        estimate(model_of(), documents(), TOKENIZER, SLIDING.with_(*recipe_with(technique).techniques))
