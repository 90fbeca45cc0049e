"""Condition 4: the text is passed once, and nothing is kept from call to call."""

from __future__ import annotations

import numpy as np

from golflab.model.audit.experiments.bench import Bench
from golflab.model.system.wording import number_of, was

CALLS = 2  # more scorings of the same text


def settled(bench: Bench) -> str:
    """Which targets were scored twice or never; empty if none. Only the end of the text may be left unscored."""
    if twice := int((bench.settled > 1).sum()):
        return f"{number_of(twice, 'token')} {was(twice)} scored more than once"
    unscored = np.isnan(bench.nats) | (bench.settled == 0)
    scored = np.flatnonzero(~unscored)
    end = int(scored[-1]) + 1 if len(scored) else 0
    if missing := int(unscored[:end].sum()) if end else len(unscored):
        return (
            f"{number_of(missing, 'token')} {was(missing)} never scored, though later ones were"
            if end
            else "no token was scored"
        )
    if end < len(unscored):
        bench.notes.append(f"the last {len(unscored) - end:,} of {len(unscored):,} tokens are left unscored")
    return ""


def steadiness(bench: Bench) -> str:
    """How scores differ when the same text is scored again; empty if they do not.

    If only what is kept between calls makes them differ, all later experiments use a fresh copy of the evaluator.
    """
    for _ in range(CALLS):
        which, largest = bench.moved(bench.score(bench.text.tokens), bench.nats)
        if len(which):
            break
    else:
        return ""
    evidence = (
        f"scores change from call to call: the same text, scored again, gave {len(which):,} other scores, by up to "
        f"{largest:.3g} nats"
    )
    if bench.pristine is None:
        bench.steady = False
        return f"{evidence} (because of chance, the clock, or data kept from an earlier call)"
    bench.isolated = True
    which, _ = bench.moved(bench.score(bench.text.tokens), bench.nats)
    if len(which):
        bench.steady = False
        return f"{evidence}; so did a fresh copy, so scores depend on chance, on the clock, or on data kept elsewhere"
    return f"{evidence}; a fresh copy gave the first scores again, so the evaluator keeps what it learned in an earlier call"


def second_pass(bench: Bench) -> str:
    """Whether the end of the text changes scores of its beginning."""
    count = len(bench.text.tokens)
    places = bench.places(bench.text)
    end, start = count - max(1, count // 20), count // 10
    if end < 2 or bench.text.fixed[places[end:]].all():
        return ""
    new = bench.tried(bench.altered(bench.text, end, "noise"))
    inputs = bench.earlier(bench.text, start)
    if new is None or not len(inputs):
        return ""
    which, _ = bench.moved(new[inputs], bench.nats[inputs])
    return (
        f"the last {count - end} tokens changed scores of the first {start}: the text was passed over twice"
        if len(which)
        else ""
    )


def single_pass(bench: Bench, unsteady: str) -> tuple[str, str]:
    """Verdict on condition 4.

    Args:
        bench: with the evaluator.
        unsteady: return value of `steadiness`.
    """
    fault = settled(bench)
    in_order = bench.sequential and not bench.announced  # in another order the end of the text may be scored first
    if not fault and not unsteady and in_order:
        fault = second_pass(bench)
    if fault or unsteady:
        return "breach", "; ".join(filter(None, (fault, unsteady)))
    beginning = ", and the end of the text did not change the scores of its beginning" if in_order else ""
    return "pass", f"every token was scored once, the same in {CALLS} more runs{beginning}"
