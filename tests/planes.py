"""Planes of every kind, and ways to spoil a payload, for the tests of the codecs."""

import numpy as np

from golflab.model.compression.artifact import Plane

FORMS = [Plane(60, 41, 31), Plane(17, 1, 0), Plane(0, 3, 0), Plane(9, 64, 1)]
SPOIL = [lambda d: d[:-3], lambda d: d + b"zz", lambda d: b"", lambda d: d[:9] + b"\xff\xfe\xfd" + d[12:]]


def planes():
    dice = np.random.default_rng(0)
    out = []
    for form in FORMS:
        integers = dice.normal(0, 4, (form.rows, form.columns)).clip(-form.largest, form.largest)
        noise = dice.integers(0, 256, (form.rows, form.columns))
        out.append((integers if form.largest else noise).astype(form.dtype))
    return out


def error_or_right_shapes(codec, payload):
    """Whether a spoilt payload is refused in words or decodes to planes of the right shapes."""
    try:
        back = codec.decode(payload, FORMS)
    except ValueError as error:
        return "artifact" in str(error)
    return [p.shape for p in back] == [(f.rows, f.columns) for f in FORMS]
