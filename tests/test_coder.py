import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from golflab.model.compression.artifact import Plane
from golflab.model.compression.rans import (
    BITS,
    COLUMNS,
    ROWS,
    Decoder,
    Encoder,
    Histograms,
    lanes_for,
    magnitude_start,
    traits_of,
)
from golflab.model.techniques.pack.rans_codec import Rans


def integers(rows, columns, largest, seed=0, spread=0.0):
    dice = np.random.default_rng(seed)
    sizes = np.exp(spread * dice.standard_normal((rows, 1))) * np.exp(spread * dice.standard_normal((1, columns)))
    return np.clip(np.round(dice.standard_normal((rows, columns)) * sizes * largest / 6), -largest, largest).astype(np.int8)


def entropy_bytes(plane):
    return plane.size * entropy(np.bincount(plane.ravel().astype(int) + 128), base=2) / 8


def test_frequencies_always_add_up_and_none_is_zero():
    model = Histograms(magnitude_start(31))
    model.learn(np.full(5000, 7 * 63 + 3))
    table = model.frequencies.reshape(-1, 63)
    assert (table.sum(axis=1) == 1 << BITS).all()
    assert table.min() >= 1


def test_streams_end_where_they_began():
    dice, encoder = np.random.default_rng(0), Encoder(16)
    model = Histograms(np.ones((1, 5), dtype=np.int64))
    symbols = dice.integers(0, 5, 1000)
    for start in range(0, 1000, 16):
        part = symbols[start : start + 16]
        encoder.put(model.starts[part], model.frequencies[part])
    data = encoder.finish()
    decoder = Decoder(data, 16)
    for start in range(0, 1000, 16):
        part = symbols[start : start + 16]
        found = model.find(np.zeros(len(part), dtype=np.int64), decoder.slots(len(part)))
        assert (found == part).all()
        decoder.take(model.starts[found], model.frequencies[found])
    decoder.finish()
    with pytest.raises(ValueError, match="ends early"):
        Decoder(data[:-200], 16).take(np.zeros(16, dtype=np.uint64), np.ones(16, dtype=np.uint64)) or [
            Decoder(data[:80], 16).take(np.zeros(16, dtype=np.uint64), np.ones(16, dtype=np.uint64))
        ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 70), st.sampled_from([0, 1, 7, 31, 127])), min_size=1, max_size=5),
    st.integers(0, 1000),
)
def test_any_planes_come_back(sizes, seed):
    dice = np.random.default_rng(seed)
    forms = [Plane(*size) for size in sizes]
    planes = [
        integers(f.rows, f.columns, f.largest, seed)
        if f.largest
        else dice.integers(0, 256, (f.rows, f.columns)).astype(np.uint8)
        for f in forms
    ]
    back = Rans().decode(Rans().encode(planes, forms), forms)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(planes, back, strict=True))


@pytest.mark.parametrize("largest", [1, 15, 31, 127])
def test_close_to_the_entropy_of_equal_lines(largest):
    plane = (
        integers(1024, 512, largest) if largest > 1 else np.random.default_rng(0).integers(-1, 2, (1024, 512)).astype(np.int8)
    )
    size = len(Rans().encode([plane], [Plane(1024, 512, largest)]))
    assert size <= 1.003 * entropy_bytes(plane)


@pytest.mark.parametrize("transposed", [False, True])
def test_below_the_entropy_where_lines_differ(transposed):
    plane = integers(512, 512, 31, spread=0.25)
    plane = np.ascontiguousarray(plane.T) if transposed else plane
    assert len(Rans().encode([plane], [Plane(512, 512, 31)])) <= 0.985 * entropy_bytes(plane)


def test_noise_costs_no_more_than_itself():
    plane = np.random.default_rng(0).integers(0, 256, (3000, 1)).astype(np.uint8)
    assert len(Rans().encode([plane], [Plane(3000, 1, 0)])) <= 3000 + 100


def test_constants_cost_nothing():
    forms = [Plane(500, 500, 31), Plane(500, 2, 0)]
    planes = [np.zeros((500, 500), np.int8), np.full((500, 2), 9, np.uint8)]
    assert len(Rans().encode(planes, forms)) < 400


def test_lanes_grow_with_the_model():
    assert [lanes_for(n) for n in (0, 700_000, 27_000_000)] == [16, 128, 1024]


def test_traits_name_the_lines_that_differ_and_how_much():
    level = np.abs(integers(200, 300, 31).astype(int))
    rows = level * np.repeat([1, 3], 100)[:, None]
    by_rows, by_columns = traits_of(rows), traits_of(rows.T)
    assert (by_rows.mode, by_columns.mode) == (ROWS, COLUMNS)
    assert by_rows.weights[0] < 8 < 100 < traits_of(level).weights[0]
    assert 0.8 < by_rows.mean / rows.mean() < 1.25
