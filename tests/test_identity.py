"""What an experiment is must not change: its text, its space, its plan; and what was asked for is what runs."""

import json
import sys
from pathlib import Path

import fake_runs
import pytest
from made import FAKE, made, text
from test_cli import golflab

from golflab.model.record import records_in
from golflab.search.engine.session import on_the_same_text
from golflab.search.experiment.clock import Clock
from golflab.search.experiment.drive import open_ledger
from golflab.search.experiment.experiment_file import read_experiment
from golflab.search.experiment.folder import reopen
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import asked, options_of, resume, run_plan, search
from golflab.search.upkeep.status import status_of
from golflab.spaces.presets import preset

ROOT = Path(__file__).parent.parent


# ---------------------------------------------------------------------- what must not change


def test_a_text_that_was_replaced_is_refused_with_both_fingerprints(monkeypatch, capsys, tmp_path):
    corpus = text(tmp_path / "text.jsonl")
    monkeypatch.chdir(tmp_path)
    folder = made(tmp_path / "runs", "t", corpus="text.jsonl", trials=2)
    told = read_experiment(folder)
    assert told["options"]["corpus"] == str(corpus)
    assert {r.spec["data"]["corpus"] for _, r in records_in(folder)} == {str(corpus)}
    then = told["identity"]["data"][str(corpus)]["fingerprint"]
    whole = corpus.read_bytes()
    text(corpus, "queen")
    monkeypatch.chdir(ROOT)
    assert golflab(monkeypatch, "resume", "t", "--runs", tmp_path / "runs") == 2
    said = capsys.readouterr().err
    assert f"the fingerprint of corpus '{corpus}': {then} then," in said
    assert "now" in said
    corpus.unlink()
    with pytest.raises(ValueError, match="neither 'sotu' nor an existing file"):
        resume(folder)
    corpus.write_bytes(whole)
    assert resume(folder).counts["complete"] == 2


def test_a_text_that_is_replaced_while_a_search_runs_fails_the_trial(tmp_path):
    corpus = text(tmp_path / "text.jsonl")
    recipe = preset("baseline").with_(corpus=str(corpus))
    told = asked(FAKE | {"name": "x", "runs": str(tmp_path), "corpus": str(corpus)})
    assert told.corpus == str(corpus)
    run = on_the_same_text(lambda recipe, folder, cache: "ran", {str(corpus): "0" * 16})
    with pytest.raises(ValueError, match=f"its fingerprint was {'0' * 16} and is"):
        run(recipe, tmp_path, tmp_path)
    assert on_the_same_text(run, {"sotu": "any"}) is run


def test_a_text_that_cannot_be_used_is_said_before_anything_is_created(tmp_path):
    told = FAKE | {"name": "x", "runs": str(tmp_path)}
    with pytest.raises(ValueError, match="neither 'sotu' nor an existing file"):
        search(**told | {"corpus": "/no/such/text"})
    with pytest.raises(ValueError, match="neither 'sotu' nor an existing file"):
        run_plan([preset("baseline").with_(corpus="/no/such/text")], **told)
    few = text(tmp_path / "few.jsonl", documents=2)
    with pytest.raises(ValueError, match="takes at least three"):
        search(**told | {"corpus": str(few)})
    assert not (tmp_path / "x").exists()


SPACE = """
from golflab.spaces.presets import preset
from golflab.spaces.space import Space
START = preset("baseline", "nano").with_(layers={layers}, tokens={tokens}, limit=650_000)
SPACE = Space("mine", START, techniques={techniques})
"""


def own_space(tmp_path, monkeypatch, layers=3, tokens=40_960, techniques=("xsa", "ema", "smear_gate")):
    """A module with a space of one's own, imported anew."""
    (tmp_path / "mine_space.py").write_text(SPACE.format(layers=layers, tokens=tokens, techniques=techniques))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine_space", None)
    from golflab.search.experiment.options import _own_space

    _own_space.cache_clear()
    return "mine_space:SPACE"


def test_what_is_given_applies_to_a_space_of_ones_own_and_what_is_kept_is_what_ran(tmp_path, monkeypatch):
    space = own_space(tmp_path, monkeypatch)
    corpus = text(tmp_path / "text.jsonl")
    given = {"tokens": 8192, "limit": 640_000, "corpus": str(corpus), "seed": 5, "preset": "baseline"}
    folder = made(tmp_path, "given", space=space, **given)
    told, specs = read_experiment(folder)["options"], [r.spec for _, r in records_in(folder)]
    for spec in specs:
        assert (spec["schedule"]["tokens"], spec["limit"], spec["seed"]) == (8192, 640_000, 5)
        assert spec["data"]["corpus"] == str(corpus)
        assert spec["shape"]["layers"] == 3
    assert {key: told[key] for key in given} == given
    folder = made(tmp_path, "left", space=space, limit=None)
    told = read_experiment(folder)["options"]
    assert (told["tokens"], told["limit"], told["seed"], told["corpus"]) == (40_960, 650_000, 0, "sotu")
    assert (told["preset"], told["scale"]) == ("baseline", None)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"preset": "seed_849"}, "varies 'baseline'"), ({"preset": "basline"}, "varies 'baseline'")]
    + [({"scale": s}, "its own shape and schedule") for s in ("proxy", "full")],
)
def test_what_contradicts_a_space_of_ones_own_is_refused(tmp_path, monkeypatch, given, said):
    with pytest.raises(ValueError, match=said):
        search(**FAKE | {"name": "x", "runs": str(tmp_path), "space": own_space(tmp_path, monkeypatch)} | given)
    assert not (tmp_path / "x").exists()


def test_examples_train_what_they_say():
    told = Options(space="examples.my_space:SPACE", tokens=81_920, trials=6)
    assert told.recipe().schedule.tokens == told.load_space().recipe({}).schedule.tokens == 81_920
    assert Options(space="examples.my_space:SPACE", scale="proxy", preset="baseline").recipe().name == "baseline"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 4}, "shape.layers: 3 then, 4 now"),
        ({"tokens": 81_920}, "schedule.tokens: 40960 then, 81920 now"),
        ({"techniques": ("xsa", "ema")}, "the space's smear_gate: False, True then, absent now"),
        ({"techniques": ("xsa", "ema", "smear_gate", "ln_scale")}, "the space's ln_scale: absent then, False, True now"),
    ],
)
def test_a_space_that_changed_is_refused_with_what_differs(tmp_path, monkeypatch, capsys, change, said):
    folder = made(tmp_path, "s", trials=2, space=own_space(tmp_path, monkeypatch))
    own_space(tmp_path, monkeypatch, **change)
    assert golflab(monkeypatch, "resume", "s", "--runs", tmp_path) == 2
    assert said in capsys.readouterr().err
    own_space(tmp_path, monkeypatch)
    assert resume(folder).finished


def test_a_plan_that_was_edited_is_refused(tmp_path):
    plan = [preset("baseline").with_(seed=s) for s in (1, 2)]
    folder = made(tmp_path, "p", design="plan", plan=plan, trials=2)
    bodies = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps([bodies[0] | {"seed": 9}, bodies[1]]))
    with pytest.raises(ValueError, match="seed: 1 then, 9 now"):
        resume(folder)
    (folder / "plan.json").write_text(json.dumps(bodies[:1]))
    with pytest.raises(ValueError, match="the plan's recipes"):
        resume(folder)
    (folder / "plan.json").write_text("[")
    with pytest.raises(ValueError, match=r"plan\.json is damaged"):
        resume(folder)


def test_options_that_are_part_of_an_experiment_stay(tmp_path):
    folder = made(tmp_path, "o", trials=2)
    with pytest.raises(ValueError, match="'preset' cannot be changed: the experiment has 'baseline', and 'seed_849'"):
        options_of(folder, preset="seed_849")
    assert options_of(folder, preset="baseline", trials=9).trials == 9


# ---------------------------------------------------------------------- an ablation and the byte limit


def test_the_byte_limit_binds_an_ablation_only_where_it_was_asked_for(tmp_path):
    base = preset("baseline").with_(limit=400_000)  # the runs need half a million
    plan = [base, base.without("softcap")]
    free = made(tmp_path, "free", trials=2, design="leave-one-out", plan=plan, limit=None, binding=False)
    told = status_of(free)
    none = dict.fromkeys(("not_fitting", "over_limit", "pruned", "failed"), 0)
    assert told["counts"] == none | {"asked": 2, "trained": 2, "complete": 2}
    assert told["best"] is None
    assert resume(free).best is None
    with pytest.raises(ValueError, match="none of the 2 recipes can fit"):
        run_plan(plan, **FAKE | {"name": "bound", "runs": str(tmp_path), "design": "leave-one-out", "limit": 400_000})
    assert not (tmp_path / "bound").exists()


def test_an_ablation_whose_reference_turns_out_too_large_ends_with_that_reason(tmp_path):
    base = preset("baseline").with_(limit=640_000)
    plan = [base, base.without("softcap"), base.without("q_gain")]
    folder = made(tmp_path, "a", trials=3, left=3, design="leave-one-out", plan=plan)
    options = options_of(folder)
    ledger = open_ledger(options)
    clock = Clock(options, ledger, None, reopen(options)[0], base.hash)
    assert clock.may_start() is None
    proposal = ledger.propose()
    record = fake_runs.run(proposal.recipe, ledger.trial_folder(proposal.recipe.hash), options.cache_folder)
    record.bytes = 650_000
    ledger.finish(proposal.number, record)
    assert clock.may_start().startswith("the reference is 10,000 bytes over the limit")
    ledger.presence.leave()
