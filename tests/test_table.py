"""Records to one table: columns, dtypes, round trips."""

import json

import numpy as np
import pandas as pd
import pytest

from golflab.analysis.comparison.frontier import frontier, shadow_price
from golflab.analysis.comparison.ranking import ranking
from golflab.analysis.effects.contribution import contribution
from golflab.analysis.effects.rungs import rungs
from golflab.analysis.joined import whole
from golflab.analysis.table import from_records, knobs, load, save, shapes, techniques
from golflab.model.record import Record
from tests.planted import Planted, write_experiment


def some(count=20, seed=0):
    world = Planted.draw(seed, 6)
    flags = (np.random.default_rng(seed).random((count, 6)) < 0.5).astype(float)
    return world, flags, world.records(flags)


def test_a_column_per_technique_that_varies():
    world, flags, records = some()
    table = from_records(records)
    assert techniques(table) == list(world.names)
    assert (table[list(world.names)].to_numpy() == (flags > 0)).all()
    assert table.attrs["always"] == ["bedrock"]
    assert table["bpb"].dtype == float
    assert table["bytes"].notna().all()
    assert set(table["condition"]) == {"524288 tokens, sotu, auto, dev"}


def test_knobs_and_shapes_only_where_they_vary():
    _, flags, records = some()
    for k, record in enumerate(records):
        if flags[k, 0]:
            record["spec"]["techniques"]["technique_a"] = {"theta": 0.1 * k, "kind": "soft" if k % 2 else "hard"}
        record["spec"]["shape"]["layers"] = 4 + k % 2
    table = from_records(records)
    assert knobs(table) == ["technique_a.kind", "technique_a.theta"]
    assert shapes(table) == ["shape.layers"]
    assert (table["technique_a.theta"].notna() == (flags[:, 0] > 0)).all()


def test_folder_jsonl_and_parquet_agree(tmp_path):
    _, _, records = some()
    folder = write_experiment(tmp_path / "demo", records, counts={"asked": 30})
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, records)))
    from_folder, from_lines = load(folder), load(tmp_path / "all.jsonl")
    back = load(save(from_folder, tmp_path / "all.parquet"))
    for other in (from_lines, back):
        assert list(other["recipe"]) == list(from_folder["recipe"])
        assert np.allclose(other["bpb"], from_folder["bpb"])
        assert techniques(other) == techniques(from_folder)
    assert from_folder.attrs["experiment"]["counts"]["asked"] == 30


def test_reads_what_a_record_writes(tmp_path):
    for k in range(3):
        body = {
            "shape": {"layers": 2},
            "schedule": {"tokens": 10},
            "data": {},
            "techniques": {"ema": {}} if k else {},
            "limit": 9,
            "seed": k,
        }
        Record(
            recipe=f"r{k}",
            seed=k,
            preset="p",
            state="failed" if k == 2 else "complete",
            spec=body,
            bpb=None if k == 2 else 2.0 + k,
        ).save(tmp_path / "trials" / f"r{k}")
    table = load(tmp_path)
    assert list(table["ema"]) == [False, True, True]
    assert np.isnan(table["bpb"].iloc[2])
    assert list(table["limit"]) == [9, 9, 9]


def test_a_damaged_record_is_named_and_left_out(tmp_path):
    _, _, records = some()
    folder = write_experiment(tmp_path / "demo", records)
    (folder / "trials" / "000000000003" / "record.json").write_text('{"recipe": "0000')
    with pytest.warns(UserWarning, match="000000000003"):
        assert len(load(folder)) == 19


def test_nothing_there_is_one_clear_message(tmp_path):
    with pytest.raises(ValueError, match=r"There is no .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no record yet"):
        load(tmp_path)


# ---------------------------------------------------------------------- several experiments in one table


def world(path, seed, always=(), options=None, **more):
    """An experiment with techniques of its own, some of which are on in all its runs."""
    drawn = Planted.draw(seed, 6)
    flags = (np.random.default_rng(seed).random((30, 6)) < 0.5).astype(float)
    for k in always:
        flags[:, k] = 1.0
    records = drawn.records(flags, seed=seed)
    for k, record in enumerate(records):
        record["recipe"] = f"{seed:04x}{k:08x}"
    return write_experiment(path, records, options=options or {}, **more)


@pytest.fixture
def two(tmp_path):
    """A screen in which one technique was always on, and a search that looked at its scores."""
    screen = world(tmp_path / "screen", 1, always=(0,), design="screen")
    search = world(tmp_path / "search", 2, options={"space": "starter", "trials": 30})
    return screen, search


def test_several_experiments_are_one_table(two):
    table = load(two)
    assert list(table["experiment"]) == ["screen"] * 30 + ["search"] * 30
    assert "technique_a" in techniques(table)
    assert table["technique_a"][:30].all()
    assert all(table[name].dtype == bool for name in techniques(table))
    assert list(load(list(two))["recipe"]) == list(table["recipe"])
    assert table.attrs["always"] == ["bedrock"]
    assert list(table["adaptive"]) == [False] * 30 + [True] * 30
    assert set(table.attrs["experiment"]["experiments"]) == {"screen", "search"}
    assert table.attrs["machines"]["torch"] == {"2.13.0": 60}


def test_runs_that_a_search_chose_are_never_counted_as_a_designs(two):
    screen, search = two
    joined = contribution(load(two))
    alone = contribution(load(screen))
    assert joined.attrs["runs"] == 30  # the screen's
    assert any("30 further runs were chosen by looking at scores" in note for note in joined.attrs["notes"])
    both = [name for name in alone["technique"] if np.isfinite(alone.set_index("technique").loc[name, "delta_bpb"])]
    assert np.allclose(
        joined.set_index("technique").loc[both, "delta_bpb"], alone.set_index("technique").loc[both, "delta_bpb"]
    )
    world(search.parent / "more", 3, options={"space": "starter"})
    searches = contribution(load([search, search.parent / "more"]))
    assert any("biased" in note for note in searches.attrs["notes"])
    assert searches.attrs["runs"] == 60


def test_what_pandas_joined_is_warned_of_and_loses_nothing(two):
    pieces = [load(folder) for folder in two]
    raw, right = pd.concat(pieces), load(two)
    assert raw.attrs == {}
    with pytest.warns(UserWarning, match=r"table of screen, search was not made by load"):
        told = contribution(raw)
    assert any("chosen by looking at scores" in note for note in told.attrs["notes"])
    expected = contribution(right)
    pd.testing.assert_frame_equal(told.set_index("technique").sort_index(), expected.set_index("technique").sort_index())
    with pytest.warns(UserWarning, match="was not made by load"):
        ranked = ranking(raw)
    assert list(ranked["recipe"]) == list(ranking(right)["recipe"])
    assert set(techniques(whole(right))) == set(techniques(right))


def test_knobs_and_shapes_that_only_some_runs_tell_are_left_out_with_a_word(two):
    pieces = [load(folder) for folder in two]
    pieces[0]["shape.layers"], pieces[0]["technique_b.theta"] = 5.0, 0.5
    with pytest.warns(UserWarning, match=r"technique_b\.theta, shape\.layers|shape\.layers, technique_b\.theta"):
        joined = whole(pd.concat(pieces))
    assert "shape.layers" not in joined
    assert joined["technique_a"].dtype == bool
    assert joined["technique_a"][:30].all()


def test_whole_numbers_and_times(tmp_path):
    for k in range(3):
        spec = {"techniques": {}, "limit": 9, "seed": k, "shape": {}, "schedule": {}, "data": {}}
        told = {"bytes": 5 + k, "tokens": 10} if k else {}
        record = Record(f"r{k}", k, "p", "complete" if k else "failed", spec, bpb=2.0 if k else None, **told)
        record.trial, record.started = k, f"2026-11-26T04:0{k}:00.000+00:00"
        record.save(tmp_path / "trials" / f"r{k}")
    table = load(tmp_path)
    assert {str(table[name].dtype) for name in ("seed", "trial", "limit")} == {"int64"}
    assert {str(table[name].dtype) for name in ("bytes", "tokens", "code_bytes")} == {"Int64"}
    assert table["bytes"].isna().tolist() == [True, False, False]
    assert table["started"].iloc[2] == pd.Timestamp("2026-11-26T04:02:00Z")
    assert table["ended"].isna().all()
    assert {str(load([tmp_path]).dtypes[name]) for name in ("seed",)} == {"int64"}
    assert str(pd.concat([table, table[1:]])["bytes"].dtype) == "Int64"
    back = load(save(table, tmp_path / "all.parquet"))
    assert dict(back.dtypes[["seed", "bytes", "started"]]) == dict(table.dtypes[["seed", "bytes", "started"]])


def test_whole_numbers_that_are_missing_stop_no_analysis():
    """Failed runs have neither bytes nor tokens."""
    _, _, records = some(40)
    for record in records[:5]:
        record |= {"state": "failed", "bpb": None, "bpb_float": None, "bytes": None, "tokens": None, "code_bytes": None}
    table, without = from_records(records), from_records(records[5:])
    assert str(table["bytes"].dtype) == "Int64"
    for work in (contribution, ranking, frontier, shadow_price, rungs):
        a, b = work(table), work(without)
        assert len(a) == len(b)
        numbers = [c for c in a if pd.api.types.is_numeric_dtype(a[c]) and c != "run"]
        assert np.allclose(a[numbers].to_numpy(float), b[numbers].to_numpy(float), equal_nan=True)


def test_how_experiments_are_named(two, tmp_path, monkeypatch):
    screen, _ = two
    other = world(tmp_path / "elsewhere" / "screen", 5)
    assert set(load([screen, other])["experiment"]) == {f"{tmp_path.name}/screen", "elsewhere/screen"}
    (tmp_path / "runs").mkdir()
    screen.rename(tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    assert load("mine").attrs["experiment"]["name"] == "mine"
    assert set(load(["mine", "search"])["experiment"]) == {"mine", "search"}
    for wrong, said in (([], "at least one"), (["mine", "runs/mine"], "named twice"), (["mine", "no"], "There is no no")):
        with pytest.raises(ValueError, match=said):
            load(wrong)
    save(load("mine"), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="finished table"):
        load(["search", "a.parquet"])
