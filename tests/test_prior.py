"""A search that starts from expected effects: they reach the model, trials overrule them, and a resume has the same ones."""

import json

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution
from typer.testing import CliRunner

import golflab
from golflab.analysis.evidence import prior as evidence
from golflab.analysis.evidence.published import load
from golflab.analysis.report.report import report
from golflab.search.cli.main import app
from golflab.search.design.prospects import expectations
from golflab.search.experiment.drive import open_ledger
from golflab.search.experiment.experiment_file import read_experiment, write_experiment
from golflab.search.experiment.folder import reopen
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import asked, options_of
from golflab.search.ledger.problem import expected, within
from golflab.search.sampler.encoding import Encoding
from golflab.search.sampler.fitting import FittingSampler
from golflab.search.sampler.prior import FACTOR, Expected, Prior, rows_of
from golflab.search.sampler.problem import Problem
from golflab.search.sampler.surrogate import Surrogate
from golflab.spaces.catalogue import space
from golflab.spaces.presets import preset
from tests.made import drive, made
from tests.planted import Planted
from tests.planted import write_experiment as planted_experiment
from tests.samplers import trial_of

SPACE = {f"s{i}": CategoricalDistribution((False, True)) for i in range(20)}
SPACE |= {"bits": CategoricalDistribution(("int5", "int6", "int8"))}
TRUE = np.random.default_rng(0).normal(0, 0.004, 20)
FAKE = {"forecaster": "fake_runs:Forecaster", "runner": "fake_runs:run", "limit": 640_000, "cpus": 2}
NUMBERS = {"xsa": (-0.004, 0.002), "ema": (0.001, 0.001), "muon": (-0.1, 0.1)}  # no search of the starter space varies muon


def value(params):
    return 1.1 + sum(effect for i, effect in enumerate(TRUE) if params[f"s{i}"]) + 0.002 * (params["bits"] == "int5")


def told(factor):
    return [Expected(f"s{i}", True, factor * effect, 0.001) for i, effect in enumerate(TRUE)]


def trials(count, sampler=None, seed=1):
    rng, encoding, found = np.random.default_rng(seed), Encoding(SPACE), []
    for i in range(count):
        drawn = encoding.params(encoding.draw(1, rng)[0])
        params = sampler.propose(found, i).params if sampler else drawn
        found.append(trial_of(i, params, value(params), space=SPACE))
    return found


def fitted(factor, count):
    encoding, done = Encoding(SPACE), trials(count)
    x, y = encoding.features(encoding.rows([t.params for t in done])), np.array([t.value for t in done])
    return Prior(encoding, told(factor)).fit(x, y, lambda values: Surrogate.fit(x, values))


def test_an_effect_is_a_difference_of_features_whatever_the_kind_of_choice():
    encoding = Encoding(SPACE | {"order": CategoricalDistribution(("a", "b"))})
    base = dict.fromkeys(SPACE, False) | {"bits": "int5", "order": "b"}
    encoded = lambda params: encoding.features(encoding.rows([params]))[0]
    words = Encoding({"average": CategoricalDistribution(("off", "ema", "swa")), "order": CategoricalDistribution(("a", "b"))})
    of = lambda **params: words.features(words.rows([params]))[0]
    slope = words.indicator("average", "ema")
    assert (of(average="ema", order="a") - of(average="off", order="b")) @ slope == 1
    assert (of(average="swa", order="a") - of(average="off", order="b")) @ slope == 0
    assert (of(average="off", order="a") - of(average="off", order="b")) @ words.indicator("order", "a") == 1
    assert (encoded(base | {"s3": True}) - encoded(base)) @ encoding.indicator("s3", True) == 1
    for name, level in (("average", "emma"), ("averages", "ema")):
        with pytest.raises(ValueError, match="no value of a choice"):
            words.indicator(name, level)


def test_the_mean_of_the_model_is_the_prior_where_no_trial_says_otherwise():
    model = fitted(1.0, 6)
    function = model.draw(np.random.default_rng(0), 0.0)
    encoding = Encoding(SPACE)
    rows = encoding.draw(300, np.random.default_rng(5))
    true = np.array([value(encoding.params(row)) for row in rows])
    x = encoding.features(rows)
    assert np.corrcoef(function(x), true)[0, 1] > 0.9
    done = trials(6)
    plain = Surrogate.fit(encoding.features(encoding.rows([t.params for t in done])), np.array([t.value for t in done]))
    assert np.corrcoef(plain.means(x), true)[0, 1] < 0.75
    waiting = model.believing(x[:3])
    assert waiting.draw(np.random.default_rng(0), 0.0)(x[:3]) == pytest.approx(function(x[:3]), abs=1e-3)


def test_trials_decide_about_the_factor_and_overrule_a_wrong_prior():
    right, wrong = [fitted(1.0, n).factor for n in (6, 40)], [fitted(-1.0, n).factor for n in (6, 40)]
    assert right[1] > FACTOR > wrong[0] > wrong[1]
    assert wrong[1] < 0.35
    model, encoding = fitted(-1.0, 80), Encoding(SPACE)
    rows = encoding.draw(300, np.random.default_rng(5))
    true = np.array([value(encoding.params(row)) for row in rows])
    found = model.draw(np.random.default_rng(0), 0.0)(encoding.features(rows))
    assert np.corrcoef(found, true)[0, 1] > 0.95
    assert model.skill() > 0.9


def test_first_proposals_switch_published_gains_on_and_differ():
    some = [Expected("s0", True, -0.01, 0.001), Expected("s1", True, 0.01, 0.001), Expected("bits", "int6", -0.01, 0.001)]
    start = dict.fromkeys(SPACE, False) | {"s1": True, "bits": "int5"}
    for starts in ([], [start]):
        sampler = FittingSampler(Problem(SPACE, starts=starts), prior=some, seed=4)
        first = [t.params for t in trials(4, sampler)][len(starts) :]
        assert all(p["s0"] and not p["s1"] and p["bits"] == "int6" for p in first)
        assert len({tuple(p.values()) for p in first}) == 4 - len(starts)
    heavy = Problem(SPACE, overrun=lambda p: 2.0 if p["s0"] else 0.5)
    assert not any(t.params["s0"] for t in trials(4, FittingSampler(heavy, prior=some, seed=4)))
    screen = trials(4, FittingSampler(Problem(SPACE), prior=some, design=4, seed=4))
    assert [t.params for t in screen] == [t.params for t in trials(4, FittingSampler(Problem(SPACE), seed=4))]


def test_a_search_with_a_right_prior_is_better_and_one_with_a_wrong_prior_recovers():
    best = {
        factor: np.mean(
            [
                min(
                    t.value for t in trials(12, FittingSampler(Problem(SPACE), prior=told(factor) if factor else (), seed=seed))
                )
                for seed in range(2)
            ]
        )
        for factor in (1.0, 0.0)
    }
    assert best[1.0] < best[0.0]
    late = trials(32, FittingSampler(Problem(SPACE), prior=told(-1.0), seed=0))
    assert min(t.value for t in late[16:]) < 1.1 + 0.7 * TRUE[TRUE < 0].sum()


def test_a_resume_makes_the_same_proposals():
    make = lambda: FittingSampler(Problem(SPACE), prior=told(0.5), seed=7)
    whole = trials(12, make())
    again = make().propose(whole[:9], 9).params
    assert again == whole[9].params
    assert FittingSampler(Problem(SPACE), seed=7).propose(whole[:9], 9).params != again


def test_published_effects_are_shrunk_by_what_settings_differ():
    found = evidence.shrunk(np.array([-0.01, 0.01, -0.01, 0.01, 0.008]), np.array([1e-6, 1e-6, 1e-6, 1e-6, 4e-4]))
    assert found[0][0] == pytest.approx(-0.0099, abs=2e-4)
    assert found[0][1] < 0.0011
    assert abs(found[4][0]) < 0.003
    assert found[4][1] > 0.005
    table = evidence.expected()
    assert all(0 < sd < 0.01 and abs(mean) < 0.02 for mean, sd in table.values())
    assert table["leaky_relu_squared"][0] < -0.001
    assert table["selective_prune"][0] > 0
    assert evidence.expected(load().iloc[:1]) == {}


def test_options_keep_numbers_and_bad_ones_are_refused_before_any_work(tmp_path):
    common = {"name": "x", "runs": str(tmp_path)} | FAKE
    found = asked(common | {"prior": NUMBERS})
    assert {name: pair for name, *pair in found.prior} == {"xsa": [-0.004, 0.002], "ema": [0.001, 0.001]}
    bad = [("published", "mean, standard deviation"), ({"xsa": 0.1}, "mean, standard"), ({"xsa": (0.1, 0.0)}, "standard dev")]
    bad += [({"xsaa": (0.1, 0.1)}, "xsa"), ({"muon": (0.1, 0.1)}, "varies"), ([("xsa", 0.1, 0.1)] * 2, "twice")]
    for given, said in bad:
        with pytest.raises(ValueError, match=said):
            asked(common | {"prior": given})
    with pytest.raises(ValueError, match="none, published"):
        golflab.search(prior="publishd", **common)
    assert not (tmp_path / "x").exists()
    plan = [preset("baseline").with_(limit=640_000)]
    assert asked(common | {"prior": NUMBERS, "design": "plan"}, plan).prior == ()


def test_the_record_holds_the_prior_and_a_resume_takes_it_from_there(tmp_path, monkeypatch):
    whole = made(tmp_path / "1", "x", trials=8, prior=NUMBERS)
    folder = made(tmp_path / "2", "x", trials=8, left=3, prior=NUMBERS)
    saved = read_experiment(folder)
    assert sorted(saved["options"]["prior"]) == [["ema", 0.001, 0.001], ["xsa", -0.004, 0.002]]
    monkeypatch.setattr(evidence, "expected", lambda: pytest.fail("a resume asked for published effects"))
    again = options_of("x", folder.parent, trust=True)
    drive(again, reopen(again)[0], 8)
    assert recipes(folder) == recipes(whole)
    assert recipes(made(tmp_path / "3", "x", trials=8)) != recipes(whole)
    with pytest.raises(ValueError, match="'prior' cannot be changed"):
        options_of("x", folder.parent, trust=True, prior=[["xsa", -0.5, 0.002]])
    write_experiment(folder, saved | {"options": saved["options"] | {"prior": [["xsa", "far", 1]]}})
    with pytest.raises(ValueError, match="mean, standard deviation"):
        options_of("x", folder.parent, trust=True)


def recipes(folder):
    """What an experiment proposed, in order."""
    ledger = open_ledger(options_of(folder.name, folder.parent, trust=True))
    return [trial.user_attrs["recipe"] for trial in ledger.trials()]


def test_the_command_says_what_it_expects_and_the_report_shows_it(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr("golflab.search.cli.searches.watched", lambda options, work: begun.append(options))
    monkeypatch.setattr("golflab.search.cli.searches.conclude", lambda *_: None)
    invoke = lambda prior: CliRunner().invoke(app, ["search", "--runs", str(tmp_path), "--name", "x", "--prior", prior])
    done = invoke("published")
    assert done.exit_code == 0, done.exception
    assert "expects effects of" in done.stderr.replace("\n", " ")
    assert "xsa" in {name for name, _, _ in begun[0].prior}
    assert begun[0].prior == within(rows_of(evidence.expected()), begun[0].load_space())
    assert invoke("none").exit_code == 0
    assert begun[1].prior == ()
    assert "none, published" in str(invoke("publishd").exception)
    world = Planted.draw(1, 4)
    records = world.records(np.array([[(k >> j) & 1 for j in range(4)] for k in range(16)]))
    name = world.names[0]
    folder = planted_experiment(tmp_path / "demo", records, options={"prior": [[name, -0.004, 0.002]]})
    body = report(folder)
    row = json.loads(json.dumps(body.json(), allow_nan=False))["expected"][0]
    assert (row["technique"], row["expected"], row["expected_sd"]) == (name, -0.004, 0.002)
    assert row["delta_bpb"] is not None
    assert "What the search expected" in body.html(tmp_path / "page.html").read_text()


def test_rows_become_parameters_of_the_space():
    varied = space("starter", preset("baseline"))
    found = {(e.parameter, e.value) for e in expected(rows_of(NUMBERS), varied)}
    assert found == {("xsa", True), ("average", "ema")}
    assert "ema +0.0010 ± 0.0010" in expectations(Options(prior=NUMBERS), varied)[0]
    assert expectations(Options(), varied) == []
