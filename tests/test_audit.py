"""The audit catches and names every planted cheat, and passes every honest evaluator there is."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tests.cheats as cheats
from golflab.model.audit.experiments.accounting import Tables, judge_tables, read_tables
from golflab.model.audit.experiments.bench import Bench
from golflab.model.audit.experiments.made_up import invent
from golflab.model.audit.experiments.texts import Text
from golflab.model.audit.judge import audit
from golflab.model.audit.power import Power
from golflab.model.audit.verdict import Package
from golflab.model.data.tokenizer import Tokenizer, train_tokenizer
from golflab.model.evaluation.score import Evaluator
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import catalogue
from tests.contract_helpers import recipe_with

HERE = Path(__file__).resolve().parent
NEVER = 1e9  # seconds: what is found must not depend on how fast the machine is


def documents():
    return cheats.text(660, seed=3)


def states(result):
    return {v.name: v.state for v in result.verdicts}


def judged(evaluator, docs, seed=0, positions=120, **options):
    return audit(evaluator, docs, decode=cheats.decode, seed=seed, positions=positions, budget=NEVER, **options)


SEEDS = [0, pytest.param(1, marks=pytest.mark.full)]  # benchmarks/audit_power.py has twenty

# ---------------------------------------------------------------------- honest and not


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", sorted(cheats.HONEST))
def test_an_honest_evaluator_passes(kind, seed):
    result = judged(cheats.HONEST[kind](), cheats.text(seed=seed), seed, 60)
    assert result.passed, str(result)
    unchecked = {"bytes": "unchecked", "no training data": "unchecked"}  # these take a package
    assert states(result) == dict.fromkeys(states(result), "pass") | unchecked


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", sorted(cheats.CHEATS))
def test_every_planted_cheat_is_caught_and_named(kind, seed):
    case = cheats.CHEATS[kind]
    result = judged(case.make(), cheats.text(seed=seed), seed)
    assert case.named & set(result.breaches), str(result)
    assert not case.innocent & set(result.breaches), str(result)


def test_what_depends_on_the_clock_is_called_that():
    result = judged(cheats.Clock(), documents())
    assert states(result)["causal"] == states(result)["scored before updated"] == "unchecked"
    assert "scores change from call to call" in str(result)
    assert "chance, on the clock" in str(result)
    assert "keeps what it learned in an earlier call" in str(judged(cheats.Remembers(), documents()))


def test_a_peek_behind_the_first_40_000_tokens_is_caught():
    class Late(cheats.PeeksLate):
        behind = 41_000

    result = judged(Late(), cheats.text(50_000, 5), positions=60)
    assert result.breaches == ("causal",), str(result)


def test_lengths_are_taken_as_known_and_that_is_said():
    result = judged(cheats.Scheduled(), cheats.text(), positions=200)
    assert "the evaluator uses the lengths of documents" in str(result)
    assert result.passed


def test_two_orders_are_told_from_one():
    one = judged(cheats.LongestFirstSilently(), cheats.text())
    assert "one order explains" in str(one)
    two = judged(cheats.TwoOrders(), cheats.text())
    assert "influence each other" in str(two)


@pytest.mark.parametrize(("kind", "seed"), [("PeeksBehindRare", 102), ("PeeksAtEnds", 101)])
def test_looking_ahead_within_few_documents_is_not_excused_as_another_order(kind, seed):
    result = judged(cheats.CHEATS[kind].make(), cheats.text(seed=seed), seed, 300)
    assert "causal" in result.breaches, str(result)


def test_an_order_must_name_every_document_once():
    class Wrong(cheats.LongestFirst):
        def order(self, documents):
            return np.zeros(len(documents), dtype=int)

    with pytest.raises(ValueError, match="name each of them once"):
        audit(Wrong(), documents())


def test_an_evaluator_that_fails_on_altered_text_is_not_honest():
    class Fails(cheats.Fixed):
        def score(self, tokens):
            if len(tokens) == 660 and not np.array_equal(tokens, self.known):
                raise RuntimeError("not the text I was made for")
            return super().score(tokens)

    evaluator = Fails()
    evaluator.known = np.concatenate(documents())
    result = judged(evaluator, documents())
    assert "causal" in result.breaches
    assert "not the text I was made for" in str(result)


# ---------------------------------------------------------------------- seed and power


def test_a_verdict_can_be_repeated_by_its_seed():
    drawn = audit(cheats.TrainsEverySeventh(), documents(), positions=60, budget=NEVER)
    again = judged(cheats.TrainsEverySeventh(), documents(), drawn.seed, 60)
    assert isinstance(drawn.seed, int)
    assert [(v.condition, v.state) for v in drawn.verdicts if v.condition < 5] == [
        (v.condition, v.state) for v in again.verdicts if v.condition < 5
    ]
    assert drawn.verdicts[0].evidence == again.verdicts[0].evidence
    assert audit(cheats.Fixed(), documents(), positions=10).seed != drawn.seed
    assert f"seed {drawn.seed}" in str(drawn)


def test_every_verdict_states_its_power():
    result = judged(cheats.FixedAnnouncing(), documents())
    body = json.loads(json.dumps(result.to_json()))
    assert set(body["power"]) == set(states(result))
    assert all(v["power"] for v in body["verdicts"])
    causal = body["power"]["causal"]
    assert causal["positions"] > 80
    assert causal["seen"]["10"] == pytest.approx(1 - 0.9 ** causal["positions"])
    assert causal["whole_text"]["positions"] < causal["positions"]
    assert 0 < causal["share"] < 1


def test_power_is_that_of_a_draw():
    power = Power(100, 5_000, 20)
    assert power.seen(10) == pytest.approx(1 - 0.9**100)
    assert "0.63" in str(power)  # one in 100
    assert Power(50, 50, 50).seen(1000) == 1.0
    assert "nothing was tested" in str(Power(0, 50))


def test_made_up_text_is_drawn_with_the_probabilities_that_are_told():
    """Average 1/q over what was drawn counts the tokens that could have been: all of them but BOS."""
    docs = cheats.text(20_000, 4)
    bench = Bench(
        cheats.Fixed(), docs, Text(np.concatenate(docs), np.cumsum([0, *map(len, docs[:-1])])), 1e-4, np.random.default_rng(2)
    )
    for kept in (0.5, 0.0):
        text, q = invent(bench, bench.text, kept)
        drawn = ~np.isnan(q)
        assert drawn.sum() == len(text.tokens) - len(text.begins)
        assert 1 / q[drawn].max() >= 1
        uniform = np.mean(1 / (cheats.VOCABULARY - 1) / q[drawn])
        assert uniform == pytest.approx(1, abs=0.1)


def test_a_file_read_while_scoring_is_seen_without_a_package(tmp_path):
    np.save(tmp_path / "statistics.npy", np.zeros((cheats.VOCABULARY, cheats.VOCABULARY)))
    result = judged(cheats.Reads(str(tmp_path / "statistics.npy")), documents(), positions=20)
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
    result = judged(evaluator, documents(), positions=20, package=packed)
    assert set(states(result).values()) == {"pass"}, str(result)


@pytest.mark.parametrize(
    ("factory", "named", "evidence"),
    [
        ("hides", "no training data", "hidden.npy"),
        ("maps", "no training data", "hidden.npy"),
        ("changes", "bytes", "scores differ"),
        ("fails", "bytes", "did not travel"),
    ],
)
def test_a_package_that_is_not_what_it_seems_is_caught(tmp_path, factory, named, evidence):
    evaluator, packed = package(tmp_path, factory)
    result = judged(evaluator, documents(), positions=20, package=packed)
    assert result.breaches == (named,), str(result)
    assert evidence in str(result)


def test_too_many_bytes_and_too_much_time_are_breaches(tmp_path):
    evaluator, packed = package(tmp_path, "honest")
    size = 1000 + (tmp_path / "weights.npy").stat().st_size
    assert judged(evaluator, documents(), positions=20, package=packed, limit=size).passed
    assert judged(evaluator, documents(), positions=20, package=packed, limit=size - 1).breaches == ("bytes",)
    assert judged(evaluator, documents(), positions=20, whole=10**12).breaches == ("time",)


def test_the_verdicts_can_be_printed_and_written(tmp_path):
    result = judged(cheats.Peeks(), documents())
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
        audit(cheats.Honest(), [documents()[0][:20]])


# ---------------------------------------------------------------------- bytes


def test_bytes_are_counted_over_all_documents_however_little_is_scored():
    docs = cheats.text()
    result = judged(cheats.CountsMoreLate(), docs, tokens=500, positions=20)
    assert result.breaches == ("accounting",)
    number = int(np.searchsorted(np.cumsum([len(d) for d in docs]), 1_201, side="right"))
    assert f"document {number} was counted" in str(result)


def test_text_that_could_not_be_spelled_is_told():
    class Spells(cheats.Fixed):
        def count_bytes(self, tokens):
            return np.where(tokens[1:] == 1, 0, np.where(tokens[1:] == 7, 3, 1))

    def decode(tokens):
        return "".join("" if t == 1 else "\u2047" if t == 7 else "x" for t in tokens)

    result = audit(Spells(), documents(), decode=decode, originals=["y" * 900] * len(documents()), positions=10, budget=NEVER)
    assert states(result)["accounting"] == "pass"
    assert "the tokenizer had no piece" in str(result)
    assert "the original text has +" in str(result)


def test_byte_tables_are_read_in_every_form_and_counted_against_the_text(tmp_path):
    sizes, leads, boundary = [0, 0, 1, 2, 5], [False, False, True, False, False], [True, True, False, False, False]
    np.save(tmp_path / "a.npy", np.array(sizes))
    names = {"base_bytes_lut": sizes, "has_leading_space_lut": leads, "is_boundary_token_lut": boundary}
    np.savez(tmp_path / "b.npz", **{key: np.array(value) for key, value in names.items()})
    (tmp_path / "c.json").write_text(json.dumps(names))
    np.array(sizes, dtype="<u2").tofile(tmp_path / "d.bin")
    text = np.array([1, 2, 2, 3, 1, 4])
    for name, counted in {"a.npy": [0, 1, 1, 2, 0, 5], "b.npz": [0, 1, 2, 2, 0, 5], "c.json": [0, 1, 2, 2, 0, 5]}.items():
        assert read_tables(tmp_path / name).count(text).tolist() == counted
    assert read_tables(tmp_path / "d.bin").bytes.tolist() == sizes
    (tmp_path / "e.json").write_text('{"sizes": [1]}')
    with pytest.raises(ValueError, match="must be called bytes"):
        read_tables(tmp_path / "e.json")
    with pytest.raises(ValueError, match="none of"):
        read_tables(HERE / "cheats.py")


def test_the_first_document_that_byte_tables_count_wrong_is_named():
    none = np.zeros(5, dtype=bool)
    spelled = {1: "", 2: "a", 3: "bb", 4: "ccc"}
    docs = [np.array([1, 2, 3]), np.array([1, 4, 4]), np.array([1, 2])]
    decode = lambda tokens: "".join(spelled[int(t)] for t in tokens)
    assert judge_tables(Tables(np.array([0, 0, 1, 2, 3]), none, none), docs, decode, None)[0] == "pass"
    state, evidence = judge_tables(Tables(np.array([0, 0, 1, 2, 2]), none, none), docs, decode, None)
    assert state == "breach"
    assert evidence.startswith("document 1 was counted as 4 bytes, its text has 6; 1 of 3 documents differ")


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
    recipe = recipe_with(dataclasses.replace(made, **knobs), Recipe(shape=SHAPE))
    model = GPT(recipe)
    initialize(model, recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return Evaluator(model, tokenizer, recipe)


def texts(tokenizer):
    return [tokenizer.encode(f"the lazy dog number {i} went to the old town and the red fox {i} too " * 2) for i in range(12)]


EVALUATORS = [name for name, cls in catalogue().items() if cls.stage() == "evaluate"]
SLOW = ("sgd_ttt", "lora_ttt", "phased_sgd")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.full if n in SLOW else ()) for n in EVALUATORS])
def test_every_honest_evaluator_of_the_catalogue_passes(name, tokenizer):
    result = audit(evaluator_with(name, tokenizer), texts(tokenizer), decode=tokenizer.decode, positions=30, budget=0.7)
    assert result.passed, str(result)
    assert states(result)["accounting"] == "pass"


def test_the_published_entropy_expert_is_flagged(tokenizer):
    evaluator = evaluator_with("hedge_mixer", tokenizer, entropy_expert="as_published")
    result = audit(evaluator, texts(tokenizer), decode=tokenizer.decode, positions=30, budget=2)
    assert result.breaches == ("normalised",), str(result)
