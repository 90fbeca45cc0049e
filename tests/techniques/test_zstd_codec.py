import numpy as np

from golflab.model.technique import parse


def test_the_shorter_of_two_streams_is_kept():
    """Around three bits a weight, where level 22 misjudges its blocks."""
    dice = np.random.default_rng(0)
    rows = np.clip(np.round(dice.normal(size=(512, 512)) * 1.875), -15, 15).astype(np.int8)
    plain, both = (len(parse(f"zstd_codec:both={b}").build(None).encode([rows], [])) for b in ("false", "true"))
    assert both < 0.97 * plain
