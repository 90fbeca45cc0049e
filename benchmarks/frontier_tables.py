"""The tables of docs/frontier.md and docs/caseops.md, in Markdown, from the lines that `benchmarks.frontier` wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.frontier_arms import ARMS, RECORDS, Arm
from benchmarks.frontier_file import decoded
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
ALIKE = 1e-7  # bits per byte: a GPU that sums in another order moves a score by less
OWN_ERRORS = ("adapters",)  # their effects differ in size by a factor of 10,000: one row says nothing about another's spread


class Runs:
    """All lines, found by what was run."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = sorted(lines, key=lambda line: (line["seed"], line["machine"]))
        self.rungs = sorted({line["rung"] for line in self.lines}, key=_size)

    def of(self, group: str, arm: str, rung: str, corpus: str = "web") -> list[Line]:
        """The arm's runs, by seed."""
        asked = (group, arm, rung, corpus)
        return [line for line in self.lines if (line["group"], line["arm"], line["rung"], line["corpus"]) == asked]

    def difference(self, new: Sequence[Line], old: Sequence[Line]) -> pd.Series | None:
        """`golflab.analysis.comparison.paired.paired`'s row; each (by seed), bytes and trainings are added.

        A pair is two runs of one seed on one machine. All pairs are of the machine that has most of them: what a technique is
        worth may depend on the machine's arithmetic. None where there is no pair.

        Raises:
            ValueError: the runs were scored on different text, or runs of one side are not of one recipe.
        """
        both = [(a, b) for a in new for b in old if (a["seed"], a["machine"]) == (b["seed"], b["machine"])]
        if not both:
            return None
        counts = Counter(a["machine"] for a, _ in both)
        pairs = [(a, b) for a, b in both if a["machine"] == max(sorted(counts), key=lambda name: counts[name])]
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
    return "\n\n".join([*parts, *_records(runs), *_caseops(runs)])


# ------------------------------------------------------------------------------------------------ techniques


def differences(runs: Runs, group: str) -> pd.DataFrame:
    """A row per arm and rung of a group: arm, rung, delta_bpb, se (seeds and documents in squares), bytes, replicates.

    Few seeds know their own spread badly: it is drawn towards that of the group's other rows
    (`golflab.analysis.ladder.noise.variances`), but not in `OWN_ERRORS`. Where no row of the group has two trainings, the error
    is over documents only.
    """
    rows, trained = [], {arm.name: arm.trained for arm in ARMS[group]}
    for rung in runs.rungs:
        scale, duration = rung_of(rung)
        body = {"scale": scale, "parameters": _size(rung)[0], "tokens_per_parameter": duration, "rung": rung}
        for arm in ARMS[group]:
            found = _against(runs, group, arm, rung)
            if found is not None:
                shared = arm.trained is not None and arm.trained == trained.get(arm.against, "baseline")
                told = {"delta_bpb": found["delta_bpb"], "se": found["own_se"], "replicates": found["seeds"]}
                told |= {"se_documents": found["se_documents"], "bytes": found["bytes"]}
                rows.append({"technique": arm.name, SHARES: shared} | body | told)
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    moves = (table["delta_bpb"].abs() > ALIKE) | (table["se_documents"] > ALIKE)  # what is alike teaches nothing about seeds
    table["se_seeds"] = table["se"].where(moves, 0.0).fillna(0.0)
    if group not in OWN_ERRORS and table.loc[moves, "se"].notna().any():
        table.loc[moves, "se_seeds"] = np.sqrt(variances(table[moves].reset_index(drop=True)))
    return table.assign(error=np.hypot(table["se_seeds"], table["se_documents"]))


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
        for rung in rungs:
            mine = table[(table["technique"] == arm.name) & (table["rung"] == rung)]
            cells.append("–" if mine.empty else _with_error(mine["delta_bpb"].iloc[0], mine["error"].iloc[0]))
            cells += [("–" if mine.empty else _signed(mine["bytes"].iloc[0], ",.0f"))] if sized else []
        body.append([*cells, arm.published])
    seeds = ", ".join(f"{_named(rung)} {_range(table.loc[table['rung'] == rung, 'replicates'])}" for rung in rungs)
    return [f"**{title}**", _markdown([*head, "published"], body, left=2, last=True), f"Trainings a row: {seeds}."]


# ------------------------------------------------------------------------------------------------ records, CaseOps


def _records(runs: Runs) -> list[str]:
    presets, compared = [], []
    for rung in runs.rungs:
        for name in RECORDS:
            if mine := runs.of("records", name, rung):
                presets.append([_named(rung), f"`{name}`", *_described(mine)])
        for a, b in ((0, 2), (0, 1), (1, 2)):
            pair = [runs.of("records", RECORDS[i], rung) for i in (a, b)]
            compared += _compared(runs, [_named(rung), "whole test part", f"`{RECORDS[a]}` − `{RECORDS[b]}`"], *pair)
        few = [(f"{n} adapts", f"{n} still", f"`{n}`, with what adapts − without") for n in RECORDS]
        few += [
            (f"{RECORDS[a]} adapts", f"{RECORDS[b]} adapts", f"`{RECORDS[a]}` − `{RECORDS[b]}`, both with what adapts")
            for a, b in ((0, 2), (0, 1), (1, 2))
        ]
        for new, old, words in few:
            compared += _compared(
                runs, [_named(rung), "40 documents", words], runs.of("records", new, rung), runs.of("records", old, rung)
            )
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


def _markdown(head: list[str], body: list[list[str]], left: int, last: bool = False) -> str:
    """A table; its first columns, and the last if asked for, are aligned to the left."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    if last:
        rule[-1] = "---"
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *body)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])
