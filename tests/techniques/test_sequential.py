import numpy as np

from golflab.model.data.shards import Stream
from golflab.model.technique import parse
from tests.scoring import SHAPE


def test_batches_follow_each_other_in_the_text():
    stream = Stream([np.arange(1000)])
    for kind in ("sequential", "sequential:start=zero"):
        batches = parse(kind).build(SHAPE)(stream, 64, 3)
        rows = np.concatenate([batches.batch(step)[0].flatten().numpy() for step in range(20)])
        assert (np.diff(rows) % 1000 == 1).all()
