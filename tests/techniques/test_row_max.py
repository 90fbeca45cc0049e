import torch

from golflab.model.technique import parse
from tests.matrices import LINEAR, matrix


def test_the_largest_weight_is_the_largest_level():
    w = matrix(16, 40)
    scales = parse("row_max").build(None)(w, 31, LINEAR)
    torch.testing.assert_close((w / scales[:, None]).abs().amax(1), torch.full((16,), 31.0))


def test_the_published_floor_destroys_small_weights():
    w = 0.03 * matrix(16, 40)
    free, floored = (parse(text).build(None)(w, 15, LINEAR) for text in ("row_max", "row_max:floor=true"))
    assert torch.equal(floored, torch.full((16,), 1 / 15))
    assert float((torch.round(w / floored[:, None]) == 0).float().mean()) > 0.5
    assert float((torch.round(w / free[:, None]) == 0).float().mean()) < 0.2
