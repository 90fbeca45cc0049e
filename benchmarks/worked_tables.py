"""The lines of the worked search: by phase, in a file, and as tables. See `benchmarks.worked_finish`."""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.worked_contenders import SEEDS
from benchmarks.worked_search import METHODS, best, read
from golflab.analysis.comparison.paired import paired
from golflab.analysis.inference.significance import holm, record_rules

FRESH = (100, 101, 102)  # seeds that no search had
BYTES_PER_TOKEN = 2.44  # of the challenge's text and 1,024 ids: its rules are in nats per token
ORDER = [*((name, 0) for name in SEEDS), *((method, number) for method in METHODS for number in range(3))]

Lines = dict[str, list[dict[str, Any]]]  # by phase


def phases(folder: Path) -> Lines:
    """All lines of a folder, by phase."""
    found = {"search": [line for file in sorted((folder / "search").glob("*.jsonl")) for line in read(file)]}
    return found | {name: read(folder / f"{name}.jsonl") for name in ("prune", "confirm", "adapt", "audit", "longer")}


def stream(lines: Lines, contender: str, number: int) -> list[dict[str, Any]]:
    """The trainings of one contender's search."""
    return [line for line in lines["search"] if (line["contender"], line["search"]) == (contender, number)]


def label(contender: str, number: int) -> str:
    return contender if contender in SEEDS else f"{contender} {number + 1}"


# ------------------------------------------------------------------------------------------------ the file


def write(lines: Lines, file: Path) -> None:
    """Keep all lines in one compressed file, the same bytes for the same lines; texts' places are left out."""
    body = []
    for phase, own in lines.items():
        for line in own:
            kept = {key: value for key, value in line.items() if key not in ("params", "observed")}
            if "spec" in line:
                kept["spec"] = {**line["spec"], "data": {"split": line["spec"]["data"]["split"]}}
            body.append(json.dumps({"phase": phase, **kept}, sort_keys=True))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(lzma.compress("\n".join(body).encode(), preset=9))


def kept(file: Path) -> Lines:
    """Read what `write` wrote."""
    found: Lines = {name: [] for name in ("search", "prune", "confirm", "adapt", "audit", "longer")}
    for text in lzma.decompress(file.read_bytes()).decode().splitlines():
        line = json.loads(text)
        found[line.pop("phase")].append(line)
    return found


# ------------------------------------------------------------------------------------------------ tables


def tables(lines: Lines) -> str:
    """All tables as Markdown."""
    parts = [_searched(lines)]
    if lines["confirm"]:
        parts += [_confirmed(distinct(lines["confirm"]), leader(lines)), _rules(lines["confirm"], leader(lines))]
    if lines["adapt"]:
        parts.append(_adapted(lines))
    if lines["audit"]:
        parts.append(_audited(lines["audit"]))
    if lines["longer"]:
        parts.append(_longer(lines["longer"], leader(lines)))
    if lines["prune"]:
        parts.append(_pruned(lines["prune"]))
    return "\n\n".join(parts)


def _markdown(rows: list[dict[str, Any]]) -> str:
    heads = list(rows[0])
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *([str(row[h]) for h in heads] for row in rows)]
    return re.sub(r"(?<=[ (])-(?=\d)", "−", "\n".join("| " + " | ".join(line) + " |" for line in lines))


def _searched(lines: Lines) -> str:
    rows = []
    for name, number in ORDER:
        own = stream(lines, name, number)
        found = best(own)
        if found is None:
            continue
        first = next((line for line in own if line["bpb"] is not None), found)
        fitted = f"{first['bpb']:.4f}" + ("" if first["fits"] else " (too large)")
        row = {"contender": label(name, number), "trainings": sum(line["state"] != "refused" for line in own)}
        rows.append(row | {"first": fitted, "best": f"{found['bpb']:.4f}", "bytes": f"{found['bytes']:,}"})
    return _markdown(rows)


def _gap(lines: list[dict[str, Any]], new: str, old: str) -> Any:
    """`paired` of two contenders, over the seeds that both have."""
    sides = [{line["spec"]["seed"]: line["documents"] for line in lines if line["what"] == what} for what in (new, old)]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    a, b = (np.array([side[seed]["bits"] for seed in seeds], float) for side in sides)
    return paired(a, b, np.array(sides[0][seeds[0]]["bytes"], float)).iloc[0]


def distinct(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without runs of a recipe and seed that an earlier line has under another label."""
    found = {json.dumps(line["spec"], sort_keys=True): line for line in reversed(lines)}
    return [line for line in lines if found[json.dumps(line["spec"], sort_keys=True)] is line]


def leader(lines: Lines) -> str:
    """The label of our search that is best on the development part. It had as many trainings as every other contender."""
    scores = {label("ours", n): line["bpb"] for n in range(3) if (line := best(stream(lines, "ours", n))) is not None}
    return min(scores, key=scores.__getitem__)


def _confirmed(lines: list[dict[str, Any]], leader: str) -> str:
    means = pd.DataFrame(lines).groupby("what")["bpb"].mean()
    others = [name for name in means.sort_values().index if name != leader]
    gaps = {name: _gap(lines, leader, name) for name in others}
    adjusted = dict(zip(others, holm(np.array([gaps[name]["p"] for name in others])), strict=True))
    rows = []
    for name in (leader, *others):
        own = [line for line in lines if line["what"] == name]
        scores = ", ".join(f"{line['bpb']:.4f}" for line in sorted(own, key=lambda line: line["spec"]["seed"]))
        row = {"contender": name, "bits per byte, test": scores, "bytes": f"{max(line['bytes'] for line in own):,}"}
        row["fits"] = "yes" if all(line["fits"] for line in own) else "no"
        gap = gaps.get(name)
        row[f"{leader} − it ± se"] = "–" if gap is None else f"{gap['delta_bpb']:+.4f} ± {gap['se']:.4f}"
        rows.append(row | {"p (Holm)": "–" if gap is None else f"{adjusted[name]:.2g}"})
    return _markdown(rows)


def _rules(lines: list[dict[str, Any]], leader: str) -> str:
    """The challenge's rules, of the winner against every tuned seed."""
    scores = pd.DataFrame(lines).sort_values("what").groupby("what")["bpb"].apply(np.array)
    if len(scores[leader]) < 2:
        return ""
    rows = []
    for name in SEEDS:
        if name in scores and len(scores[name]) > 1:
            told = record_rules(scores[leader], scores[name], BYTES_PER_TOKEN)
            rows += [
                {"against": name, "rule": r.rule, "statistic": f"{r.statistic:.3g}", "limit": f"{r.limit:.3g}"}
                | {"passes": "yes" if r.passes else "no"}
                for r in told.itertuples()
            ]
    return _markdown(rows)


def _adapted(lines: Lines) -> str:
    still = {line["what"]: line for line in lines["confirm"] if line["spec"]["seed"] == FRESH[0]}
    rows = []
    for line in lines["adapt"]:
        before = still.get(line["what"])
        if before is None:
            continue
        row = {"contender": line["what"], "without": f"{before['bpb']:.4f}", "with": f"{line['bpb']:.4f}"}
        row["seconds without"] = f"{before['stages'].get('evaluate', 0):.0f}"
        rows.append(row | {"seconds with": f"{line['stages'].get('evaluate', 0):.0f}"})
    return _markdown(sorted(rows, key=lambda row: row["with"]))


def _audited(lines: list[dict[str, Any]]) -> str:
    rows = [{"condition": title} | {line["what"]: line["states"][title] for line in lines} for title in lines[0]["states"]]
    return _markdown(rows)


def _longer(lines: list[dict[str, Any]], leader: str) -> str:
    base = next((line for line in lines if line["what"] == leader), lines[0])
    rows = []
    for line in sorted(lines, key=lambda line: line["bpb"]):
        gap = _gap(lines, base["what"], line["what"])
        row = {"contender": line["what"], "bits per byte, test": f"{line['bpb']:.4f}", "bytes": f"{line['bytes']:,}"}
        row["fits"] = "yes" if line["fits"] else "no"
        rows.append(row | {f"{base['what']} − it": "–" if line is base else f"{gap['delta_bpb']:+.4f}"})
    return _markdown(rows)


def _pruned(lines: list[dict[str, Any]]) -> str:
    here = next(line for line in lines if line["what"] == "winner")["bpb"]
    rows = [
        {"left out": line["what"].removeprefix("without "), "change, bits per byte": f"{line['bpb'] - here:+.4f}"}
        for line in lines
        if line["what"].startswith("without ") and line["bpb"] is not None
    ]
    return _markdown(rows)
