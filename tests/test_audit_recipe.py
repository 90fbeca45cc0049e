"""A recipe of ours, trained for a moment, passes its audit; a tampered artifact does not load. So do strangers' entries."""

import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from golflab.model.audit.entry import Entry, is_entry
from golflab.model.audit.loading import load
from golflab.model.audit.recipe import audit_artifact, audit_recipe, with_data
from golflab.model.audit.verdict import Audit, Verdict
from golflab.model.compression.artifact import unpack
from golflab.model.data.prepare import prepare
from golflab.model.recipe import Recipe
from golflab.model.run import packed
from golflab.model.shape import Data, Schedule, Shape
from golflab.model.technique import parse
from golflab.search.cli.main import app

SHAPE = Shape(layers=2, width=16, heads=2, kv_heads=1, hidden=32, vocabulary=300, context=32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    lines = [json.dumps({"text": f"On day {i} the old king of {'north' if i % 3 else 'south'} rode out."}) for i in range(400)]
    (folder / "text.jsonl").write_text("\n".join(lines))
    recipe = Recipe(
        SHAPE, Schedule(tokens=1024, batch_tokens=256, micro_tokens=256), Data(str(folder / "text.jsonl")), limit=200_000
    )
    recipe = recipe.with_(parse("sliding_window:stride=16"))
    return recipe, folder / "cache", audit_recipe(recipe, folder / "cache", device="cpu", budget=1)


def test_every_condition_is_checked_and_met(trained):
    result = trained[2]
    assert result.passed, str(result)
    assert {v.state for v in result.verdicts} == {"pass"}, str(result)


def test_an_artifact_can_be_audited_from_its_file(trained, tmp_path):
    recipe, cache, _ = trained
    data = prepare(recipe.data, 300, cache / "data")
    blob = packed(recipe, cache, "cpu")
    assert unpack(blob)
    (tmp_path / "model.bin").write_bytes(blob)
    tight = recipe.with_(limit=len(blob) + 999)
    assert audit_artifact(tight, tmp_path / "model.bin", data, code_bytes=1000, budget=1).breaches == ("bytes",)
    (tmp_path / "model.bin").write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    with pytest.raises(ValueError, match="artifact"):
        audit_artifact(recipe, tmp_path / "model.bin", data, code_bytes=1000)


def test_what_never_ran_has_no_artifact(trained):
    recipe, cache, _ = trained
    with pytest.raises(ValueError, match="run it first"):
        packed(recipe.with_(seed=99), cache, "cpu")


# ---------------------------------------------------------------------- data


def test_what_was_found_in_the_corpus_is_part_of_the_verdict():
    told = Audit((Verdict(6, "accounting", "pass", "all bytes"), Verdict(7, "no training data", "pass", "nothing read")))
    split = {"documents": 100, "documents_in_train": 3, "windows": 1000, "windows_in_train": 0, "first": 4}
    facts = {"overlap": {"splits": {"dev": split}}, "bytes": {"dev": {"changed": 7, "original": 9000}}, "notes": []}
    found = with_data(told, facts, "dev")
    assert found.breaches == ("no training data",)
    assert "3 of 100 documents" in str(found)
    assert "lost or added 7 of 9,000 bytes" in str(found)
    short = "The held-out part is incomplete: 5 documents and 6 tokens, where the manifest says 50 and 60."
    clean = {"overlap": {"splits": {"dev": split | {"documents_in_train": 0}}}, "notes": [short]}
    found = with_data(told, clean, "dev")
    assert [v.state for v in found.verdicts] == ["unchecked", "pass"]
    assert "incomplete" in found.verdicts[0].evidence
    assert with_data(told, {}, "dev") == told


# ---------------------------------------------------------------------- strangers

ENTRY = """
import numpy as np
import helper

class Mine:
    vocabulary = 257

    def __init__(self, weights):
        self.weights = np.load(weights)

    def encode(self, text):
        return np.array([256, *text.encode()])

    def score(self, tokens):
        return -np.log(self.weights[tokens[:-1], tokens[1:]]) * helper.FACTOR

    def count_bytes(self, tokens):
        return (tokens[1:] != 256).astype(int)

def make(weights):
    return Mine(weights)

def nothing():
    return 3
"""


@pytest.fixture
def entry(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])  # a command of its own is a process of its own
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    (tmp_path / "mine.py").write_text(ENTRY)
    (tmp_path / "helper.py").write_text("FACTOR = 1.0\n")
    (tmp_path / "text.txt").write_text("\n\n".join(f"Letter {i}. " + "All is well here. " * 5 for i in range(400)))
    np.save(tmp_path / "weights.npy", np.full((257, 257), 1 / 257))
    return tmp_path


def audited(entry, *more):
    files = ["--files", str(entry / "weights.npy"), "--files", str(entry / "helper.py")]
    command = ["audit", f"{entry / 'mine.py'}:make", *files, "--text", str(entry / "text.txt"), "--runs", str(entry / "runs")]
    result = CliRunner().invoke(app, [*command, "--budget", "1", "--seed", "5", "--json", *more])
    return result, json.loads(result.stdout)


def test_a_strangers_entry_is_audited(entry):
    result, told = audited(entry)
    assert result.exit_code == 0, result.output
    assert told["passed"]
    assert told["seed"] == 5
    states = {v["name"]: (v["state"], v["evidence"]) for v in told["verdicts"]}
    assert states["accounting"][0] == states["normalised"][0] == states["bytes"][0] == "pass"
    counted = sum((entry / name).stat().st_size for name in ("mine.py", "helper.py", "weights.npy"))
    counted += len("make")  # an argument that is no declared file: text counts, too
    assert f"{counted:,} bytes" in states["bytes"][1]


def test_a_strangers_cheat_ends_with_1(entry):
    (entry / "helper.py").write_text("FACTOR = 0.9\n")
    result, told = audited(entry)
    assert result.exit_code == 1
    assert "normalised" in [v["name"] for v in told["verdicts"] if v["state"] == "breach"]


def test_what_is_no_entry_is_refused(entry):
    assert is_entry("a/b.py:make")
    assert not is_entry("baseline")
    assert not is_entry("first/3")
    with pytest.raises(ValueError, match="has no function 'other'"):
        load(str(entry / "mine.py"), "other")
    with pytest.raises(ValueError, match="is no file"):
        load(str(entry / "gone.py"), "make")
    with pytest.raises(ValueError, match="an evaluator has score"):
        load(str(entry / "mine.py"), "nothing")
    assert Entry("a.py:b").corpus == "sotu"


def test_scores_by_a_sidecar_are_said_under_accounting():
    result = Audit((Verdict(6, "accounting", "pass", "all bytes are those of the decoded text"),))
    note = "The score is by the 9 bytes of the original text that the sidecars count; its tokens decode to 8."
    assert note in with_data(result, {"notes": [note]}, "dev").verdicts[0].evidence


# ---------------------------------------------------------------------- byte tables


def test_byte_tables_are_counted_over_the_held_out_text(trained, tmp_path):
    recipe, cache, _ = trained
    tokenizer = prepare(recipe.data, 300, cache / "data").tokenizer
    (tmp_path / "t.model").write_bytes(tokenizer.proto)
    tables = {"base_bytes": tokenizer.bytes, "has_leading_space": tokenizer.leads, "is_boundary_token": tokenizer.boundary}
    np.savez(tmp_path / "right.npz", **tables)
    np.savez(tmp_path / "wrong.npz", **tables | {"base_bytes": tokenizer.bytes + (np.arange(300) == 290)})
    command = ["audit", "--bytes", str(tmp_path / "t.model")]
    right = CliRunner().invoke(app, [*command, str(tmp_path / "right.npz"), "--corpus", recipe.data.corpus, "--json"])
    assert right.exit_code == 0, right.output
    assert json.loads(right.stdout)["passed"]
    wrong = CliRunner().invoke(app, [*command, str(tmp_path / "wrong.npz"), "--corpus", recipe.data.corpus])
    assert wrong.exit_code == 1
    assert "was counted as" in wrong.stdout
