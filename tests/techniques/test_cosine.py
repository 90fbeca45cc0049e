import pytest

from golflab.model.shape import Shape
from golflab.model.techniques.train.cosine import Cosine


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 1.0), (0.5, 1.0), (0.75, 0.5), (1.0, 0.0)])
def test_half_a_cosine_over_the_last_half(progress: float, expected: float):
    assert Cosine(fraction=0.5).build(Shape())(progress) == pytest.approx(expected, abs=1e-12)


def test_it_never_rises():
    values = [Cosine(fraction=0.7).build(Shape())(i / 100) for i in range(101)]
    assert values == sorted(values, reverse=True)


def test_it_stays_at_its_floor():
    fall, floored = Cosine().build(Shape()), Cosine(floor=0.2).build(Shape())
    assert [floored(i / 50) for i in range(51)] == [max(fall(i / 50), 0.2) for i in range(51)]
    assert floored(1.0) == 0.2
