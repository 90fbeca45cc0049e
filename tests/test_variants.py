import pytest

from model.recipe import Recipe
from model.variants import CHOICES, combinations, variants
from tests.matrices import infos, weights


def test_more_than_a_hundred_artifacts_of_one_training():
    assert len({r.hash for r in combinations(Recipe())}) == 160
    assert all(r.shape == Recipe().shape for r in combinations(Recipe()))


def test_each_row_says_what_it_is_and_what_it_costs():
    few = {"bits": ("int8_rows", "int4_rows"), "prune": ("", "magnitude:fraction=0.5"), "codec": ("zlib_codec", "rans_codec")}
    rows = list(variants(weights(infos()), infos(), combinations(Recipe(), few), score=lambda w, r: float(len(w))))
    assert len(rows) == 8
    assert all(row.fits and row.bpb == len(infos()) and 0 < row.loss < 1 for row in rows)
    by_name = {row.techniques: row for row in rows}
    assert min(rows, key=lambda row: row.loss).techniques.startswith("int8_rows")
    assert min(by_name.values(), key=lambda row: row.bytes).techniques.startswith("magnitude:fraction=0.5 int4_rows")
    assert set(rows[0].to_json()) == {"techniques", "recipe", "bytes", "bpb", "loss", "seconds", "fits"}


def test_a_technique_under_the_wrong_slot_is_refused():
    with pytest.raises(ValueError, match="fills the slot 'clip', not 'bits'"):
        list(combinations(Recipe(), CHOICES | {"bits": ("sd_clip",)}))
