"""A recipe of ours, trained for a moment, passes its audit; a tampered artifact does not load."""

import json

import pytest

from model.artifact import unpack
from model.audit_recipe import audit_artifact, audit_recipe
from model.prepare import prepare
from model.recipe import Recipe
from model.run import packed
from model.shape import Data, Schedule, Shape
from model.technique import parse

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
    return recipe, folder / "cache", audit_recipe(recipe, folder / "cache", device="cpu")


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
    assert audit_artifact(tight, tmp_path / "model.bin", data, code_bytes=1000).breaches == ("bytes",)
    (tmp_path / "model.bin").write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    with pytest.raises(ValueError, match="artifact"):
        audit_artifact(recipe, tmp_path / "model.bin", data, code_bytes=1000)


def test_what_never_ran_has_no_artifact(trained):
    recipe, cache, _ = trained
    with pytest.raises(ValueError, match="run it first"):
        packed(recipe.with_(seed=99), cache, "cpu")
