"""Records to one table: columns, dtypes, round trips."""

import json

import numpy as np
import pytest

from analysis.table import from_records, knobs, load, save, shapes, techniques
from model.record import Record
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
    with pytest.raises(ValueError, match="holds no record yet"):
        load(tmp_path)
