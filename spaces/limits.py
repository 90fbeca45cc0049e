"""Byte limits of the small scales, by preset. Made by ``python -m benchmarks.limits``, which says by what rule."""

LIMITS: dict[str, dict[str, int]] = {
    "baseline": {"nano": 47_000, "micro": 147_000, "proxy": 684_000, "small": 3_310_000},
    "seed_211": {"nano": 59_600, "micro": 168_000, "proxy": 818_000, "small": 3_350_000},
    "seed_211_as_published": {"nano": 88_900, "micro": 201_000, "proxy": 880_000, "small": 3_430_000},
    "seed_849": {"nano": 52_600, "micro": 164_000, "proxy": 718_000, "small": 3_550_000},
    "seed_849_as_published": {"nano": 115_000, "micro": 299_000, "proxy": 1_090_000, "small": 4_240_000},
    "seed_680": {"nano": 51_300, "micro": 158_000, "proxy": 699_000, "small": 3_510_000},
    "seed_680_as_published": {"nano": 114_000, "micro": 301_000, "proxy": 1_130_000, "small": 4_520_000},
    "seed_1499": {"nano": 62_600, "micro": 163_000, "proxy": 770_000, "small": 2_900_000},
    "seed_1499_as_published": {"nano": 112_000, "micro": 261_000, "proxy": 1_080_000, "small": 2_950_000},
    "seed_295": {"nano": 61_400, "micro": 177_000, "proxy": 868_000, "small": 3_620_000},
    "seed_295_as_published": {"nano": 61_400, "micro": 177_000, "proxy": 868_000, "small": 3_620_000},
    "record_1394": {"nano": 48_100, "micro": 142_000, "proxy": 630_000, "small": 3_100_000},
    "record_1493": {"nano": 48_100, "micro": 142_000, "proxy": 630_000, "small": 3_100_000},
    "record_1855": {"nano": 47_900, "micro": 142_000, "proxy": 626_000, "small": 3_120_000},
    "record_2014": {"nano": 50_800, "micro": 144_000, "proxy": 631_000, "small": 3_120_000},
}
