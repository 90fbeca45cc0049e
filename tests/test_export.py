"""Exports: the files, and the record that describes them."""

from __future__ import annotations

import dataclasses
import json

import pytest

from golflab.model import run as story
from golflab.model.job import training as train_stage
from golflab.model.recipe import counted_code
from golflab.model.run import run
from golflab.model.submission import standalone
from golflab.model.system.machine import Conditions
from golflab.search.cli.export import bytes_in_words, export, splits_in_words
from tests.contract_helpers import BASE, BATCH, made_up_corpus


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def recipe(runs):
    return BASE.with_(corpus=str(made_up_corpus(runs)), tokens=4 * BATCH, limit=10**7, layers=1)


@pytest.fixture(scope="module")
def record(recipe, runs):
    return run(recipe, None, runs / "cache", device="cpu")


def exported(recipe, record, runs, to):
    """What was said, and the record beside the files, which must describe them."""
    said = []
    sizes = export(recipe, record, runs / "cache", to, said.append)
    assert sizes == {name: (to / name).stat().st_size for name in sizes}
    told = json.loads((to / "record.json").read_text())
    assert told["code_bytes"] == counted_code(recipe, sizes["train_gpt.py"])
    assert told["bytes"] == told["code_bytes"] + sizes["model.bin"]
    assert (to / "model.bin").read_bytes() == story.again(recipe, runs / "cache", record)[1]
    return said, told


def test_what_is_in_the_cache_is_exported_with_the_record_of_the_search(recipe, record, runs, tmp_path):
    said, told = exported(recipe, record, runs, tmp_path)
    assert said == []
    assert told == record.summary()
    assert told["bytes_with_tokenizer"] == told["bytes"] + told["tokenizer_bytes"] > told["bytes"]
    for total in ("bytes", "tokenizer_bytes", "bytes_with_tokenizer"):
        assert f"{told[total]:,}" in bytes_in_words(tmp_path)


def test_numbers_that_are_others_now_are_said_and_the_written_record_describes_the_files(recipe, record, runs, tmp_path):
    """The search ran other code: its record tells of an artifact that is not the one exported."""
    old = dataclasses.replace(record, bpb=4.5, bytes=record.bytes + 52)
    said, told = exported(recipe, old, runs, tmp_path)
    assert told == record.summary() | {"search": {"bpb": 4.5, "bytes": record.bytes + 52}}
    assert said == [
        f"bpb of the export: {record.bpb:.5f}; the search had 4.50000.",
        f"bytes of the export: {record.bytes:,}; the search had {record.bytes + 52:,}.",
    ]


def test_a_training_under_other_conditions_is_exported_from_the_cache_and_not_done_again(recipe, runs, tmp_path, monkeypatch):
    """Trained by two processes, or compiled, or elsewhere: an export takes the weights that the record is about."""
    recipe = recipe.with_(seed=1)
    record = run(recipe, None, runs / "cache", device="cpu", where={"processes": "2"})
    assert Conditions.of_record(record.machine).processes == 2
    with monkeypatch.context() as patch:
        patch.setattr(train_stage, "train", None)
        said, told = exported(recipe, record, runs, tmp_path)
    assert (said, told) == ([], record.summary())


def test_a_training_bounded_by_seconds_is_exported_as_it_was(recipe, runs, tmp_path, monkeypatch):
    recipe = recipe.with_(seed=2, tokens=None, seconds=0.2)
    record = run(recipe, None, runs / "cache", device="cpu")
    monkeypatch.setattr(train_stage, "train", None)
    said, told = exported(recipe, record, runs, tmp_path)
    assert (said, told) == ([], record.summary())


def test_a_trial_that_cannot_be_made_again_is_not_exported(recipe, record, runs, tmp_path):
    with pytest.raises(ValueError, match="only a complete one"):
        export(recipe, dataclasses.replace(record, state="pruned"), runs / "cache", tmp_path / "a")
    assert not (tmp_path / "a" / "record.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "bpb is of the test part; record.json has the score of the dev part: --split dev repeats that."),
        (["--split", "dev"], "bpb is of the dev part, as in record.json."),
        (["--text", "mine.txt"], "bpb is of mine.txt; record.json has the score of the dev part."),
    ],
)
def test_the_script_says_which_text_its_score_is_of(recipe, monkeypatch, words, said, capsys):
    monkeypatch.setattr("sys.argv", ["train_gpt.py", *words])
    monkeypatch.setattr(standalone, "_score", lambda recipe, options, code_bytes: {"bpb": 2.0, "scored": options.split})
    standalone.main(recipe.to_json(), 9)
    out, err = capsys.readouterr()
    assert json.loads(out)["bpb"] == 2.0
    assert err == f"{said}\n"


def test_an_export_says_which_part_its_record_and_its_script_score(recipe):
    said = "record.json has the score of the dev part of the corpus; train_gpt.py scores the test part"
    assert splits_in_words(recipe) == f"{said}, unless --split dev is given."
    assert "unless" not in splits_in_words(recipe.with_(split="test"))
