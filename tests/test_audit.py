"""The audit catches and names every planted cheat, and passes every honest evaluator there is."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import tests.cheats as cheats
from model.audit import Package, audit
from model.evaluate import Evaluator
from model.gpt import GPT
from model.initialize import initialize
from model.recipe import Recipe
from model.shape import Shape
from model.technique import catalogue
from model.tokens import Tokenizer, train_tokenizer

HERE = Path(__file__).resolve().parent


def documents(count=6, length=110, seed=0):
    """Text with something to learn in it: each token is likely followed by one of three."""
    random = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        tokens = [1, 5]
        while len(tokens) < length:
            tokens.append(int(2 + (tokens[-1] * 3 + random.integers(0, 3)) % (cheats.VOCABULARY - 2)))
        out.append(np.array(tokens))
    return out


def decode(tokens):
    return "x" * int((np.asarray(tokens) != 1).sum())


def states(result):
    return {v.name: v.state for v in result.verdicts}


@pytest.mark.parametrize("kind", ["Honest", "Announcing"])
def test_an_honest_evaluator_passes(kind):
    result = audit(getattr(cheats, kind)(), documents(), decode=decode)
    assert result.passed, str(result)
    unchecked = {"bytes": "unchecked", "no training data": "unchecked"}
    assert states(result) == dict.fromkeys(states(result), "pass") | unchecked


@pytest.mark.parametrize(
    ("kind", "named", "innocent"),
    [
        ("Peeks", {"causal"}, {"scored before updated", "single pass"}),
        ("TrainsFirst", {"causal", "scored before updated"}, {"single pass"}),
        ("LearnsItsTarget", {"scored before updated"}, {"causal", "single pass"}),
        ("Rescores", {"causal", "single pass"}, set()),
        ("RescoresOpenly", {"single pass"}, {"causal", "scored before updated"}),
        ("Remembers", {"single pass"}, set()),
        ("Unnormalised", {"normalised"}, {"causal", "scored before updated", "single pass"}),
        ("TargetInKey", {"normalised"}, {"causal", "scored before updated", "single pass"}),
        ("Miscounts", {"accounting"}, {"causal", "normalised", "scored before updated", "single pass"}),
    ],
)
def test_every_planted_cheat_is_caught_and_named(kind, named, innocent):
    result = audit(getattr(cheats, kind)(), documents(), decode=decode)
    assert named <= set(result.breaches), str(result)
    assert not innocent & set(result.breaches), str(result)


def test_a_file_read_while_scoring_is_seen_without_a_package(tmp_path):
    np.save(tmp_path / "statistics.npy", np.zeros((cheats.VOCABULARY, cheats.VOCABULARY)))
    result = audit(cheats.Reads(str(tmp_path / "statistics.npy")), documents(), decode=decode)
    assert result.breaches == ("no training data",)
    assert "statistics.npy" in str(result)


def package(folder, factory, **changes):
    np.save(folder / "weights.npy", np.eye(cheats.VOCABULARY))
    np.save(folder / "hidden.npy", np.ones(5000))
    path = str(folder / "weights.npy")
    made = Package(
        f"tests.cheats:{factory}", (path,), (Path(path),), (HERE / "cheats.py", HERE.parent / "model"), code_bytes=1000
    )
    return cheats.honest(path), dataclasses.replace(made, **changes)


def test_an_honest_package_passes_every_condition(tmp_path):
    evaluator, packed = package(tmp_path, "honest")
    result = audit(evaluator, documents(), decode=decode, package=packed)
    assert set(states(result).values()) == {"pass"}, str(result)


@pytest.mark.parametrize(
    ("factory", "named", "evidence"),
    [
        ("hides", "no training data", "hidden.npy"),
        ("maps", "no training data", "hidden.npy"),
        ("changes", "bytes", "are others"),
        ("fails", "bytes", "did not travel"),
    ],
)
def test_a_package_that_is_not_what_it_seems_is_caught(tmp_path, factory, named, evidence):
    evaluator, packed = package(tmp_path, factory)
    result = audit(evaluator, documents(), decode=decode, package=packed)
    assert result.breaches == (named,), str(result)
    assert evidence in str(result)


def test_too_many_bytes_and_too_much_time_are_breaches(tmp_path):
    evaluator, packed = package(tmp_path, "honest")
    size = 1000 + (tmp_path / "weights.npy").stat().st_size
    assert audit(evaluator, documents(), package=packed, limit=size).passed
    assert audit(evaluator, documents(), package=packed, limit=size - 1).breaches == ("bytes",)
    assert audit(evaluator, documents(), whole=10**12).breaches == ("time",)


def test_the_verdicts_can_be_printed_and_written(tmp_path):
    result = audit(cheats.Peeks(), documents(), decode=decode)
    body = result.to_json()
    assert body["passed"] is False
    assert [v["condition"] for v in body["verdicts"]] == list(range(1, 9))
    assert all(v["evidence"] for v in body["verdicts"])
    assert str(result).endswith("breached: causal")


def test_scores_of_a_wrong_shape_and_too_little_text_are_refused():
    class Short(cheats.Honest):
        def score(self, tokens):
            return super().score(tokens)[:-1]

    with pytest.raises(ValueError, match="gave shape"):
        audit(Short(), documents())
    with pytest.raises(ValueError, match="too little text"):
        audit(cheats.Honest(), documents(1, 20))


# ---------------------------------------------------------------------- the catalogue

SHAPE = Shape(layers=3, width=16, heads=2, kv_heads=1, hidden=32, vocabulary=300, context=32)
SMALL = {"epochs": 1, "chunk": 256, "warm": 256, "update": 64, "batch": 8, "rank": 2, "rows": 4}


@pytest.fixture(scope="module")
def tokenizer():
    text = [
        f"the {a} fox and the {b} dog went to town on day {i}"
        for i in range(60)
        for a, b in (("red", "old"), ("quick", "lazy"))
    ]
    return Tokenizer(train_tokenizer(text, 300))


def evaluator_with(name, tokenizer, **knobs):
    technique = catalogue()[name]
    small = {key: value for key, value in SMALL.items() if key in technique.knobs()}
    if name == "lora_ttt":
        small["chunk"] = 16
    made = technique(**small).rescale(SHAPE, SHAPE)
    recipe = Recipe(shape=SHAPE).with_(dataclasses.replace(made, **knobs)).check()
    model = GPT(recipe)
    initialize(model, recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return Evaluator(model, tokenizer, recipe)


def texts(tokenizer):
    return [tokenizer.encode(f"the lazy dog number {i} went to the old town and the red fox {i} too " * 2) for i in range(12)]


@pytest.mark.parametrize("name", [name for name, cls in catalogue().items() if cls.stage() == "evaluate"])
def test_every_honest_evaluator_of_the_catalogue_passes(name, tokenizer):
    result = audit(evaluator_with(name, tokenizer), texts(tokenizer), decode=tokenizer.decode)
    assert result.passed, str(result)
    assert states(result)["accounting"] == "pass"


def test_the_published_entropy_expert_is_flagged(tokenizer):
    evaluator = evaluator_with("hedge_mixer", tokenizer, entropy_expert="as_published")
    result = audit(evaluator, texts(tokenizer), decode=tokenizer.decode)
    assert result.breaches == ("normalised",), str(result)
