"""Trainings are what costs: variants of one that is finished are free, and a budget does not count them."""

from fake_runs import sharing

from golflab.model.record import records_in
from golflab.search.experiment.start import search
from golflab.search.ledger.problem import after_training, training_key
from golflab.spaces.presets import preset
from golflab.spaces.space import Space
from tests.ledgers import ledger

SPACE = Space(
    "shared",
    preset("baseline").with_(limit=640_000),
    techniques=("xsa", "smear_gate", "ln_scale", "ema", "swa", "int8_rows", "int6_rows", "ste_qat", "sgd_ttt"),
    knobs=("ema.*", "xsa.last", "int8_rows.table"),
)


def test_what_acts_after_training_is_told_apart_from_what_trains():
    assert set(after_training(SPACE)) == {"average", "bits", "int8_rows.table"}
    base = SPACE.params(SPACE.preset)
    key = training_key(SPACE.recipe(base))
    assert training_key(SPACE.recipe(base | {"average": "swa", "bits": "int6_rows"})) == key
    assert training_key(SPACE.recipe(base | {"xsa": not base["xsa"]})) != key
    aware = base | {"ste_qat": True}  # quantisation-aware training reads the bits
    keys = {training_key(SPACE.recipe(aware | {"bits": bits})) for bits in ("int6_rows", "int8_rows")}
    assert len(keys) == 2


def test_the_ledger_proposes_variants_of_finished_trainings_and_counts_trainings(tmp_path):
    book = ledger(tmp_path, 12, space=SPACE, sampling={"variants": 2})
    keys, sources = [], []
    for _ in range(12):
        proposal = book.propose()
        source = book.study.trials[proposal.number].user_attrs["source"]
        assert (source == "variant") <= (training_key(proposal.recipe) in keys)
        keys.append(training_key(proposal.recipe))
        sources.append(source)
        book.finish(proposal.number, sharing(proposal.recipe, book.trial_folder(proposal.recipe.hash), tmp_path / "cache"))
    assert "variant" in sources
    assert book.spent()["trainings"] == len(set(keys)) < 12


def test_a_budget_of_trainings_buys_variants_besides(ray_cluster, tmp_path):
    options = {"variants": 2, "forecaster": "fake_runs:Forecaster", "limit": 640_000, "cpus": 1, "runner": "fake_runs:sharing"}
    result = search(name="v", runs=str(tmp_path), trials=40, budget="4trainings", space="test_trainings:SPACE", **options)
    records = [record for _, record in records_in(tmp_path / "v" / "trials")]
    assert sum(record.trained for record in records) == result.counts["trained"] == 4
    assert len(records) > 4
    assert len({record.training for record in records}) == 4
