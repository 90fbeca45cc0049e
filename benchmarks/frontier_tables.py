"""The tables of docs/frontier.md and docs/caseops.md, in Markdown, from the lines that `benchmarks.frontier` wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.frontier_arms import ARMS, RECORDS, Arm
from benchmarks.frontier_file import KEY, decoded
from benchmarks.frontier_recipes import baseline, rung_of
from golflab.analysis.comparison.paired import paired
from golflab.analysis.ladder.noise import SHARES, variances
from golflab.spaces.scales import parameters_of

Line = dict[str, Any]
TITLES = {
    "in-training": "In training",
    "knobs": "In training: more knobs",
    "rounding": "After training: rounding",
    "windows": "After training: windows and mixing",
    "adapters": "After training: learning while scoring",
}
TRAINED = ("in-training", "knobs")
ALIKE = 1e-7  # bits per byte: a GPU that sums in another order moves a score by less
OWN_ERRORS = ("adapters",)  # their effects differ in size by a factor of 10,000: one row says nothing about another's spread


class Runs:
    """All lines, found by what was run."""

    def __init__(self, lines: Iterable[Line]) -> None:
        each = {tuple(str(line[name]) for name in KEY): line for line in lines}  # a run that is there twice counts once
        self.lines = sorted(each.values(), key=lambda line: (line["seed"], line["machine"]))
        self.rungs = sorted({line["rung"] for line in self.lines}, key=_size)
        self.machines: dict[tuple[str, str], Counter[str]] = {}
        for line in self.lines:
            self.machines.setdefault((line["group"], line["rung"]), Counter())[_machine(line)] += 1

    def of(self, group: str, arm: str, rung: str, corpus: str = "web", machine: str = "") -> list[Line]:
        """The arm's runs, by seed, of one machine: what a technique is worth may depend on the machine's arithmetic.

        Args:
            group: of `GROUPS`.
            arm: within it.
            rung: like ``micro:5``.
            corpus: ``web`` or ``sotu``.
            machine: by default the one that ran most of the group on that rung.
        """
        counts = self.machines.get((group, rung), Counter())
        machine = machine or max(sorted(counts), key=lambda name: counts[name], default="")
        asked = (group, arm, rung, corpus, machine)
        return [ln for ln in self.lines if (ln["group"], ln["arm"], ln["rung"], ln["corpus"], _machine(ln)) == asked]

    def difference(self, new: Sequence[Line], old: Sequence[Line]) -> pd.Series | None:
        """`golflab.analysis.comparison.paired.paired`'s row; each (by seed), bytes and trainings are added.

        A pair is two runs of one seed on one machine. None where there is no pair.

        Raises:
            ValueError: the runs were scored on different text, or runs of one side are not of one recipe.
        """
        pairs = [(a, b) for a in new for b in old if (a["seed"], a["machine"]) == (b["seed"], b["machine"])]
        if not pairs:
            return None
        for side in zip(*pairs, strict=True):
            _of_one_recipe(side)
        ours, theirs = ([decoded(pair[side]) for pair in pairs] for side in (0, 1))
        sizes = ours[0][1]
        if any(len(s) != len(sizes) or (s != sizes).any() for _, s in ours + theirs):
            raise ValueError(
                f"{pairs[0][0]['group']}: {pairs[0][0]['arm']} and {pairs[0][1]['arm']} were scored on different text."
            )
        row = paired(np.array([bits for bits, _ in ours]), np.array([bits for bits, _ in theirs]), sizes).iloc[0].copy()
        row["each"] = [a["bpb"] - b["bpb"] for a, b in pairs]
        row["bytes"] = np.mean([a["bytes"] - b["bytes"] for a, b in pairs]) if "bytes" in pairs[0][0] else np.nan
        row["own_se"] = np.std(row["each"], ddof=1) / np.sqrt(len(pairs)) if len(pairs) > 1 else np.nan
        return row


def _machine(line: Line) -> str:
    return str(line["machine"]).partition(",")[0]


def _of_one_recipe(side: Iterable[Line]) -> None:
    """Refuse runs of one arm that differ in more than the seed: older lines may be left in the file.

    Raises:
        ValueError: they do.
    """
    for name in ("hidden", "vocabulary", "parameters", "tokens"):
        if len({line[name] for line in side if name in line}) > 1:
            line = next(iter(side))
            values = ", ".join(sorted({str(line.get(name)) for line in side}))
            raise ValueError(
                f"{line['group']}: runs of {line['arm']} at {line['rung']} have {name} {values}. Leave the older runs out."
            )


def tables(lines: Iterable[Line]) -> str:
    """All tables that the lines have runs for."""
    runs = Runs(lines)
    parts = [part for group, title in TITLES.items() for part in _group(runs, group, title)]
    return "\n\n".join([*parts, *_records(runs), *_caseops(runs), *_two_machines(runs)])


# ------------------------------------------------------------------------------------------------ techniques


def differences(runs: Runs, group: str) -> pd.DataFrame:
    """A row per arm and rung of a group: arm, rung, delta_bpb, se (seeds and documents in squares), bytes, replicates.

    Few seeds know their own spread badly: it is drawn towards that of the group's other rows
    (`golflab.analysis.ladder.noise.variances`), but not in `OWN_ERRORS`. The groups in `TRAINED` count as one. Where no row has
    two trainings, the error is over documents only.
    """
    together = TRAINED if group in TRAINED else (group,)
    table = pd.DataFrame([row for each in together for row in _rows(runs, each)])
    if table.empty or group not in set(table["group"]):
        return pd.DataFrame()
    moves = (table["delta_bpb"].abs() > ALIKE) | (table["se_documents"] > ALIKE)  # what is alike teaches nothing about seeds
    table["se_seeds"] = table["se"].where(moves, 0.0).fillna(0.0)
    if group not in OWN_ERRORS and table.loc[moves, "se"].notna().any():
        table.loc[moves, "se_seeds"] = np.sqrt(variances(table[moves].reset_index(drop=True)))
    table = table.assign(error=np.hypot(table["se_seeds"], table["se_documents"]))
    return table[table["group"] == group].reset_index(drop=True)


def _rows(runs: Runs, group: str) -> Iterator[dict[str, Any]]:
    """Every arm's difference on every rung, with the error over its own seeds and over documents."""
    trained = {arm.name: arm.trained for arm in ARMS[group]}
    for rung in runs.rungs:
        scale, duration = rung_of(rung)
        body = {"scale": scale, "parameters": _size(rung)[0], "tokens_per_parameter": duration, "rung": rung, "group": group}
        for arm in ARMS[group]:
            found = _against(runs, group, arm, rung)
            if found is not None:
                shared = arm.trained is not None and arm.trained == trained.get(arm.against, "baseline")
                told = {"delta_bpb": found["delta_bpb"], "se": found["own_se"], "replicates": found["seeds"]}
                told |= {"se_documents": found["se_documents"], "bytes": found["bytes"]}
                yield {"technique": arm.name, SHARES: shared} | body | told


def _against(runs: Runs, group: str, arm: Arm, rung: str) -> pd.Series | None:
    if arm.against == arm.name or not arm.words:
        return None
    inside = arm.against in {other.name for other in ARMS[group]}
    return runs.difference(runs.of(group, arm.name, rung), runs.of(group if inside else "in-training", arm.against, rung))


def _group(runs: Runs, group: str, title: str) -> list[str]:
    table = differences(runs, group)
    if table.empty:
        return []
    rungs, sized = list(dict.fromkeys(table["rung"])), group == "rounding"
    head = ["rank", "technique", *(word for rung in rungs for word in ([_named(rung), "bytes"] if sized else [_named(rung)]))]
    body = []
    for arm in (arm for arm in ARMS[group] if arm.name in set(table["technique"])):
        cells = [str(arm.rank or "–"), arm.words]
        found = [table[(table["technique"] == arm.name) & (table["rung"] == rung)] for rung in rungs]
        for mine in found:
            cells.append("–" if mine.empty else _with_error(mine["delta_bpb"].iloc[0], mine["error"].iloc[0]))
            cells += [("–" if mine.empty else _signed(mine["bytes"].iloc[0], ",.0f"))] if sized else []
        body.append([*cells, *([_agreement(found)] if len(rungs) > 1 else []), arm.published])
    seeds = ", ".join(f"{_named(rung)} {_range(table.loc[table['rung'] == rung, 'replicates'])}" for rung in rungs)
    head += [*(["signs"] if len(rungs) > 1 else []), "published"]
    return [f"**{title}**", _markdown(head, body, left=2, last=1 + (len(rungs) > 1)), f"Trainings a row: {seeds}."]


def _agreement(found: Sequence[pd.DataFrame]) -> str:
    """Whether the signs of a row agree over all rungs: ``same``, ``differ``, ``open`` (one is within two errors) or ``–``."""
    if any(mine.empty for mine in found):
        return "–"
    values, errors = (np.array([mine[name].iloc[0] for mine in found]) for name in ("delta_bpb", "error"))
    nothing = np.maximum(np.abs(values), errors) <= ALIKE
    if ((np.abs(values) <= 2 * errors) & ~nothing).any():
        return "open"
    return "same" if len(set(np.where(nothing, 0, np.sign(values)))) == 1 else "differ"


# ------------------------------------------------------------------------------------------------ records, CaseOps


PAIRS = ((0, 2), (0, 1), (1, 2))  # of `RECORDS`


def _records(runs: Runs) -> list[str]:
    presets, compared = [], []
    for rung in runs.rungs:
        found = {arm: runs.of("records", arm, rung) for name in RECORDS for arm in (name, f"{name} adapts", f"{name} still")}
        presets += [[_named(rung), f"`{name}`", *_described(found[name])] for name in RECORDS if found[name]]
        asked = [("test part", f"`{RECORDS[a]}` − `{RECORDS[b]}`", RECORDS[a], RECORDS[b]) for a, b in PAIRS]
        asked += [("40 documents", f"`{n}`, its own way − side by side", f"{n} adapts", f"{n} still") for n in RECORDS]
        for way, words in (("still", "side by side"), ("adapts", "each its own way")):
            asked += [
                ("40 documents", f"`{RECORDS[a]}` − `{RECORDS[b]}`, {words}", f"{RECORDS[a]} {way}", f"{RECORDS[b]} {way}")
                for a, b in PAIRS
            ]
        for text, words, new, old in asked:
            compared += _compared(runs, [_named(rung), text, words], found[new], found[old])
    if not presets:
        return []
    head = ["scale", "preset", "bits per byte, by seed", "bytes", "parameters", "MLP width", "token ids", "training, s"]
    return [
        "**Two records against a seed**",
        _markdown(head, presets, left=2),
        _markdown(["scale", "scored on", "difference", *_COMPARED], compared, left=3),
    ]


def _described(mine: Sequence[Line]) -> list[str]:
    """Score by seed, bytes, parameters, MLP width, token ids and seconds of a preset."""
    first, size = mine[0], f"{np.mean([line['bytes'] for line in mine]):,.0f}"
    scores = ", ".join(f"{line['bpb']:.4f}" for line in mine)
    counts = [f"{first[name]:,}" for name in ("parameters", "hidden", "vocabulary")]
    return [scores, size, *counts, f"{np.mean([line['seconds'] for line in mine]):.0f}"]


def _caseops(runs: Runs) -> list[str]:
    body = []
    for rung in runs.rungs:
        for corpus in ("web", "sotu"):
            arms = {arm.name: runs.of("caseops", arm.name, rung, corpus) for arm in ARMS["caseops"]}
            for new, old in (("caseops", "verbatim"), ("fused", "verbatim"), ("fused", "caseops")):
                body += _compared(runs, [_named(rung), f"`{corpus}`", f"{new} − {old}"], arms[new], arms[old])
    return ["**CaseOps**", _markdown(["scale", "text", "compared", *_COMPARED], body, left=3)] if body else []


def _two_machines(runs: Runs) -> list[str]:
    """Techniques in training that were run with one seed on two machines."""
    names = sorted({name for (group, _), counts in runs.machines.items() if group == "in-training" for name in counts})
    body = []
    for rung in runs.rungs:
        for arm in (arm for arm in ARMS["in-training"] if arm.words):
            found = []
            for machine in names:
                new, old = (runs.of("in-training", name, rung, machine=machine) for name in (arm.name, arm.against))
                found.append({a["seed"]: a["bpb"] - b["bpb"] for a in new for b in old if a["seed"] == b["seed"]})
            for seed in sorted(set.intersection(*map(set, found))) if len(found) > 1 else []:
                body.append([_named(rung), arm.words, str(seed), *(_signed(each[seed]) for each in found)])
    head = ["scale", "technique", "seed", *names]
    return ["**The same seeds on two machines**", _markdown(head, body, left=2)] if body else []


_COMPARED = ["by seed", "mean", "± documents", "± seeds", "95 % interval"]


def _compared(runs: Runs, head: list[str], new: Sequence[Line], old: Sequence[Line]) -> list[list[str]]:
    """A row of a difference, its errors and its interval; none where there is no pair."""
    row = runs.difference(new, old)
    if row is None:
        return []
    alone = row["seeds"] < 2
    interval = "one seed: unknown" if alone else f"{_signed(row['low'])} … {_signed(row['high'])}"
    errors = [f"{row['se_documents']:.4f}", "–" if alone else f"{row['se_seeds']:.4f}"]
    return [[*head, ", ".join(map(_signed, row["each"])), _signed(row["delta_bpb"]), *errors, interval]]


# ------------------------------------------------------------------------------------------------ words


def _size(rung: str) -> tuple[int, float]:
    return parameters_of(baseline(rung, "sotu", 0)), rung_of(rung)[1]


def _named(rung: str) -> str:
    scale, duration = rung_of(rung)
    return f"`{scale}`" if duration == 5 else f"`{scale}` × {duration:g}"


def _signed(value: float, digits: str = ".4f") -> str:
    return "–" if np.isnan(value) else f"{value:+{digits}}".replace("-", "−")


def _with_error(value: float, error: float) -> str:
    if max(abs(value), error) <= ALIKE:
        return "0 exactly" if value == 0 and error == 0 else f"0 (below {ALIKE:g})"
    digits = 4 + (error < 1e-4) + (error < 1e-5)
    return f"{_signed(value, f'.{digits}f')} ± {error:.{digits}f}"


def _range(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _markdown(head: list[str], body: list[list[str]], left: int, last: int = 0) -> str:
    """A table; its first and last columns, as many as asked for, are aligned to the left."""
    rule = ["---"] * left + ["---:"] * (len(head) - left - last) + ["---"] * last
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *body)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])
