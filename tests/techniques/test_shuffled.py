import numpy as np
import pytest

from golflab.model.data.shards import Stream
from golflab.model.technique import parse
from tests.scoring import SHAPE


@pytest.mark.parametrize("order", ["permuted", "coprime"])
def test_every_epoch_has_its_own_order(order):
    batches = parse(f"shuffled:order={order}").build(SHAPE)(Stream([np.arange(2000)]), 32, 3)
    count = len({int(batches.starts(step)[0]) for step in range(61 * 2)})
    epochs = [[int(batches.starts(e * count + k)[0]) for k in range(count)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]
    assert np.diff(epochs[0]).min() < 0  # not the order of the text
