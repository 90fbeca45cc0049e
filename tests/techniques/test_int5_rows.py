from golflab.spaces.presets import preset


def test_the_size_that_stays_fp16_goes_with_the_body():
    full, small = preset("seed_849_as_published", "full"), preset("seed_849_as_published", "proxy")
    assert (full.technique_in("bits").small, small.technique_in("bits").small) == (65_536, 4_096)
