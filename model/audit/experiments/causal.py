"""Conditions 1 and 3: do later tokens influence earlier scores? Positions are tested one by one; `Bench.cuts` draws them.

Three tests take turns, where they are possible. All tokens after the position are altered: no earlier score may change. The
text is cut off after the target: its score must stay the same. The announced probabilities after the prefix are compared with
the score of the text's own token.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from golflab.model.audit.experiments.bench import Bench
from golflab.model.audit.experiments.order import explained
from golflab.model.audit.experiments.texts import Text
from golflab.model.audit.verdict import Verdicts
from golflab.model.system.wording import number_of

LOOKAHEAD = 32  # tokens; influence from further ahead means that the model learned from the text before it scored
MASS_ERROR = 1e-3  # largest difference of the sum of all probabilities from 1
ENOUGH_GAPS = 12  # after which no more are looked for
MORE_CUTS = 10  # where a breach was found, to measure how far ahead it looks
SHAPES = 10.0  # times the tolerance, between calls with texts of different lengths: their float32 sums run in another order


@dataclass(frozen=True, eq=False)
class Moved:
    """Earlier scores that changed with later text: how many, by how much, how many tokens back, in which documents."""

    text: Text
    cut: int
    count: int
    largest: float
    reach: int
    documents: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Gap:
    """A target whose score in its text differs from that after the bare prefix: by ``nats`` (negative: better in the text).

    ``prefix`` is the text that was cut off, or None where the score was compared with an announced probability.
    """

    text: Text
    input: int
    nats: float
    prefix: Text | None


@dataclass
class Probes:
    """Findings at the tested positions.

    Attributes:
        altered: positions where later text was altered.
        compared: positions where a score was compared with that after the bare prefix.
        moved: breaches found by altering.
        gaps: differences found by comparing.
        masses: sums of announced probabilities.
        wrong: why announced numbers are no distribution; empty if they are one.
    """

    altered: int = 0
    compared: int = 0
    moved: list[Moved] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    masses: list[float] = field(default_factory=list)
    wrong: str = ""


def probe(bench: Bench, positions: int, seconds: float) -> Probes:
    """Test positions until a breach is found, or enough positions are tested."""
    found = Probes()
    # Cutting a text off changes the lengths of documents, and with them the order of scoring where it depends on lengths.
    kinds = ["altered", *(["prefix"] if not bench.announced else [])]
    kinds += ["announced"] if bench.announces and not bench.announced else []
    for turn, (text, cut, whole) in enumerate(bench.rounds(positions, seconds)):
        kind = kinds[turn % len(kinds)] if len(found.gaps) < ENOUGH_GAPS else "altered"
        if not {"altered": _alter, "prefix": _cut_off, "announced": _compare}[kind](bench, text, cut, found):
            continue
        bench.tested += 1
        bench.whole_tested |= {cut} if whole else set()
        bench.whole_compared |= {cut} if whole and kind == "announced" else set()
        if found.moved:
            _look_further(bench, text, found)
        if found.moved or found.wrong:
            break
    return found


def _alter(bench: Bench, text: Text, cut: int, found: Probes, how: str = "") -> bool:
    """Alter everything from ``cut`` on; return whether that tested the score before it."""
    base, inputs = bench.base(text), bench.earlier(text, cut)
    if base is None or not len(inputs) or np.isnan(base[inputs[-1]]):
        return False
    new = bench.tried(bench.altered(text, cut, how))
    if new is None:
        found.moved.append(Moved(text, cut, len(inputs), float("inf"), cut - 1))
        return True
    found.altered += 1
    which, largest = bench.moved(new[inputs], base[inputs])
    if len(which):
        where = (*np.unique(text.document_of[inputs[which]])[-4:], text.document_of[bench.places(text)[cut]])
        found.moved.append(Moved(text, cut, len(which), largest, cut - 1 - int(which[0]), tuple(map(int, where))))
    return True


def _cut_off(bench: Bench, text: Text, cut: int, found: Probes) -> bool:
    """Score the text up to the target only; return whether the target was scored."""
    base, new = bench.base(text), bench.tried(text.tokens[:cut])
    if base is None or new is None:
        return False
    both = np.flatnonzero(~np.isnan(new) & ~np.isnan(base[: cut - 1]))
    if not len(both):
        return False
    found.compared += int(both[-1] == cut - 2)
    which, _ = bench.moved(new[both], base[both], SHAPES)
    if len(which):
        gaps = base[both[which]] - new[both[which]]
        at = int(np.argmax(np.abs(gaps)))
        found.gaps.append(Gap(text, int(both[which[at]]), float(gaps[at]), _first(text, cut)))
    return bool(both[-1] == cut - 2)


def _first(text: Text, length: int) -> Text:
    """The first tokens of a text."""
    return Text(text.tokens[:length], text.begins[text.begins < length])


def _compare(bench: Bench, text: Text, cut: int, found: Probes) -> bool:
    """Compare the score in the text with the announced probability after the prefix."""
    base = bench.base(text)
    if base is None or np.isnan(base[cut - 2]):
        return False
    announced = bench.distribution(text.tokens[: cut - 1])
    if announced is None:
        return False
    if wrong := no_distribution(bench, announced, cut - 1):
        found.wrong = wrong
        return True
    found.compared += 1
    found.masses.append(float(announced.sum()))
    gap = charge_gap(base[cut - 2], announced[text.tokens[cut - 1]])
    if abs(gap) > SHAPES * bench.tolerance:
        found.gaps.append(Gap(text, cut - 2, gap, None))
    return True


def charge_gap(nats: float, probability: float) -> float:
    """A score less -log of a probability, in nats."""
    return float(nats + np.log(max(probability, 1e-300)))


def no_distribution(bench: Bench, announced: np.ndarray, length: int) -> str:
    """Why the announced numbers are no distribution; empty if they are one."""
    if announced.shape != (bench.size,) or not np.isfinite(announced).all() or announced.min() < 0:
        return f"distribution() after {length:,} tokens does not return {bench.size} numbers of at least 0"
    if abs(announced.sum() - 1) > MASS_ERROR:
        return f"the probabilities of all {bench.size} tokens after {length:,} tokens sum to {announced.sum():.4g}, not to 1"
    return ""


def _look_further(bench: Bench, text: Text, found: Probes) -> None:
    """Measure how far ahead the evaluator looks: in this text, and in a longer one."""
    longer = text if len(text.tokens) >= 1024 else bench.text
    for other in dict.fromkeys((text, longer)):
        for number, cut in enumerate(bench.cuts(other, MORE_CUTS)):
            _alter(bench, other, cut, found, ("real", "noise")[number % 2])


def looks_ahead(bench: Bench, text: Text, at: int, tries: int = 4) -> Moved | None:
    """Whether the score of input ``at`` changes when the tokens after its target are altered."""
    rank = int(np.flatnonzero(bench.places(text) == at)[0])
    places = bench.places(text)[rank + 2 :]
    places, base = places[~text.fixed[places]], bench.base(text)
    if not len(places) or base is None:
        return None
    for number in range(tries):
        new = bench.tried(bench.replaced(text, places, ("real", "one", "noise", "shuffled")[number % 4]))
        if new is not None:
            which, largest = bench.moved(new[[at]], base[[at]])
            if len(which):
                return Moved(text, rank + 2, 1, largest, 1)
    return None


def causal(bench: Bench, probes: Probes) -> Verdicts:
    """Verdicts on conditions 1 and 3, from the findings."""
    if not bench.steady:
        finding = "scores change from call to call, so influence cannot be separated from chance"
        return {1: ("unchecked", finding), 3: ("unchecked", finding)}
    order = " in the announced order" if bench.announced else ""
    if not probes.moved:
        finding = f"altering what follows changed no earlier score{order} by more than {bench.tolerance:g} nats"
        if probes.compared:
            finding += ", and texts that are cut off there get the same scores" if not bench.announced else ""
        return {1: ("pass", finding), 3: ("pass", finding)}
    one_order, finding = _one_order(bench, probes)
    if finding:
        bench.sequential = False
    if one_order:
        return {1: ("pass", finding), 3: ("pass", finding)}
    reach, largest = max(m.reach for m in probes.moved), max(m.largest for m in probes.moved)
    count = sum(m.count for m in probes.moved)
    if not np.isfinite(largest) and bench.failed:
        evidence = f"a text with other tokens after a position could not be scored: {bench.failed}"
    else:
        evidence = (
            f"altering later text changed {number_of(count, 'earlier score')}{order}, by up to {largest:.3g} nats and "
            f"{number_of(reach, 'token')} back"
        )
    evidence += f"; {finding}" if finding else ""
    learned = ("pass", f"no influence from more than {LOOKAHEAD} tokens ahead")
    if reach > LOOKAHEAD:
        learned = ("breach", f"tokens were scored after the model had learned from text up to {reach} tokens ahead")
    return {1: ("breach", evidence), 3: learned}


def _one_order(bench: Bench, probes: Probes) -> tuple[bool, str]:
    """Whether the documents are scored in another order than the text's, in which no breach remains; and a sentence on it."""
    across = [m for m in probes.moved if len(m.text.begins) > 1 and m.documents]
    if bench.announced or not across or any(len(m.text.begins) == 1 for m in probes.moved):
        return False, ""
    text = max((m.text for m in across), key=lambda t: len(t.begins))
    there = [m for m in across if m.text is text]
    return explained(bench, text, [d for m in there for d in m.documents], [m.cut for m in there])
