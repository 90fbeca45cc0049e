import dataclasses

import pytest

from golflab.model.compression.grid import Grid, grid_of
from golflab.model.network.gpt import GPT
from golflab.model.network.layers import parameters_of
from golflab.model.technique import parse
from golflab.spaces.presets import preset
from tests.matrices import GAIN, LINEAR


@pytest.mark.parametrize("role", ["mlp", "attention", "table", "bigram", "value", "head"])
@pytest.mark.parametrize("bits", [16, 8, 5, 2])
def test_every_role_has_its_knob(role, bits):
    technique = parse(f"mixed_rows:{role}={bits}")
    assert technique.build(None)(dataclasses.replace(LINEAR, role=role)) == grid_of(bits)


def test_defaults_are_those_of_295():
    build = parse("mixed_rows:extended=true").build(None)
    roles = {role: build(dataclasses.replace(LINEAR, role=role)) for role in ("mlp", "attention", "bigram", "table")}
    assert roles == {"mlp": Grid(15, -16), "attention": Grid(31, -32), "bigram": Grid(31, -32), "table": None}
    assert build(GAIN) is None


def test_a_width_between_is_refused():
    with pytest.raises(ValueError, match="mlp=9 is out of range"):
        parse("mixed_rows:mlp=9")


def test_late_keys_stay_fp16():
    recipe = preset("seed_295", "full")
    grid = recipe.build("bits")
    infos = [i for i in parameters_of(GPT(recipe)) if i.role == "attention" and i.kind == "linear"]
    plain = {i.name for i in infos if grid(i) is None}
    assert plain == {"blocks.8.attention.key.weight", "blocks.9.attention.key.weight"}
