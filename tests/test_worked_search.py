"""The worked search of docs/seeds.md: trainings are counted and resumed, and the page has the tables of its records."""

import json
import time
from pathlib import Path

import pytest

from benchmarks import worked_contenders, worked_finish, worked_search
from benchmarks.worked_contenders import LIMIT
from benchmarks.worked_search import Setting, Stream, best
from benchmarks.worked_tables import distinct, kept, tables

PAGE = Path(__file__).parents[1] / "docs" / "seeds.md"
RECORDS = PAGE.parent / "seeds" / "worked.jsonl.xz"


class Everything:
    """A forecast by which everything fits."""

    def __call__(self, recipe):
        return dict.fromkeys(("low", "mid", "high"), LIMIT / 2)


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """Trainings that cost nothing: the narrower the MLP, the better; every third combination cannot be run."""

    def trained(recipe, setting, documents=False):
        trained.count += 1
        line = {"spec": recipe.to_json(), "bpb": None, "fits": False, "observed": None, "bytes": LIMIT // 2}
        if trained.count % 3 == 0:
            return line | {"state": "refused"}
        return line | {"state": "complete", "bpb": recipe.shape.hidden / 100, "fits": True}

    trained.count = 0
    monkeypatch.setattr(worked_search, "trained", trained)
    monkeypatch.setattr(worked_search, "Forecaster", Everything)
    for module in (worked_contenders, worked_search):
        monkeypatch.setattr(module, "sized", lambda recipe, forecaster=None: recipe.with_(limit=LIMIT))
    monkeypatch.setattr(worked_search, "seed_preset", worked_search.seed_preset.__wrapped__)  # nothing is remembered
    return Setting("sotu", tmp_path, "cpu", time.time() + 1e6)


def test_a_contender_gets_its_trainings_and_goes_on_where_it_was(setting):
    stream = Stream("seed_211", 0, setting)
    stream.go_on(4)
    assert [line["state"] for line in stream.lines] == ["complete", "complete", "refused", "complete", "complete"]
    assert stream.lines[-1]["params"] == best(stream.lines[:-1])["params"]  # the last one is the best, brought to the limit
    with stream.file.open("a") as file:
        file.write('{"torn')
    again = Stream("seed_211", 0, setting)
    assert again.lines == stream.lines
    assert again.propose() == stream.propose()


def test_a_recipe_that_two_searches_found_is_confirmed_and_told_once():
    line = {"contender": "seed_211", "search": 0, "state": "complete", "bpb": 1.0, "fits": True}
    spec = worked_contenders.preset("baseline", "nano").to_json()
    twice = [line | {"spec": spec}, line | {"contender": "seed_680", "spec": spec}]
    assert list(worked_finish.contenders({"search": twice, "prune": []})) == ["seed_211"]
    told = [{"what": "a", "spec": spec}, {"what": "b", "spec": spec}]
    assert distinct(told) == told[:1]


def test_the_page_has_the_tables_of_its_records():
    page, lines = PAGE.read_text(encoding="utf-8"), kept(RECORDS)
    assert [table for table in tables(lines).split("\n\n") if table not in page] == []
    assert len(json.dumps(lines)) > 10_000
