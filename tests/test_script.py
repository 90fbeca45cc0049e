import ast
import json
import subprocess
import sys

import pytest

from golflab.model.recipe import Recipe
from golflab.model.run import run
from golflab.model.shape import Shape
from golflab.model.submission.script import carried, code_bytes, script
from golflab.model.technique import parse

TEXT = "The state of the Union is what we make of it, and we make it every day. Members of Congress, my fellow citizens! "
TINY = Recipe(
    shape=Shape(layers=1, width=32, heads=2, kv_heads=1, hidden=32, vocabulary=300, context=32),
    techniques=(parse("smear_gate"), parse("int6_rows"), parse("zlib_codec")),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for name, times in (("train", 400), ("dev", 20), ("test", 20)):
        lines = [json.dumps({"text": f"{name} {i}. {TEXT * (1 + i % 3)}"}) for i in range(times)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def test_carries_what_the_recipe_uses_and_nothing_else():
    names = carried(TINY)
    assert {
        "golflab.model.network.gpt",
        "golflab.model.training.loop",
        "golflab.model.compression.artifact",
        "golflab.model.techniques.model.smear_gate",
    } <= names
    assert {"golflab.model.techniques.pack.zlib_codec", "golflab.model.techniques.quantise.int6_rows"} <= names
    assert (
        not {
            "golflab.model.techniques.model.bigram_hash",
            "golflab.model.techniques.pack.rans_codec",
            "golflab.model.compression.rans",
        }
        & names
    )
    assert (
        not {
            "golflab.model.submission.script",
            "golflab.model.compression.forecast",
            "golflab.model.run",
            "golflab.model.compression.gptq",
        }
        & names
    )
    assert "golflab.model.compression.gptq" in carried(TINY.with_(parse("gptq")))


def test_is_one_deterministic_readable_file():
    text = script(TINY).decode()
    assert script(TINY).decode() == text
    compile(text, "train_gpt.py", "exec")
    assert json.loads(
        next(n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant) and str(n.value)[:1] == "{").value
    )
    assert text.count("\n") < 40


def test_seed_and_name_change_no_byte_count():
    assert len(script(TINY.with_(seed=1, name="x"))) == len(script(TINY.with_(seed=2, name="yyyy")))


@pytest.mark.parametrize("extra", ["bigram_hash", "gptq", "ema", "rans_codec"])
def test_quick_count_is_within_one_percent(extra):
    recipe = TINY.with_(parse(extra))
    assert code_bytes(recipe) == pytest.approx(len(script(recipe)), rel=0.01)


def test_trains_and_scores_in_a_fresh_process_as_the_laboratory_does(corpus, tmp_path):
    recipe = TINY.with_(corpus=str(corpus), tokens=4096, batch_tokens=1024, micro_tokens=1024)
    record = run(recipe, None, tmp_path / "cache", device="cpu")
    file = tmp_path / "train_gpt.py"
    file.write_bytes(script(recipe))
    ask = [sys.executable, str(file), "--artifact", "model.bin", "--split", "dev", "--device", "cpu"]

    def told(*more):
        done = subprocess.run([*ask, *more], cwd=tmp_path, capture_output=True, text=True, check=False, env={"PATH": ""})
        return json.loads(done.stdout) if done.returncode == 0 else done

    trained = told("--train")
    assert isinstance(trained, dict), trained.stderr
    assert trained["code_bytes"] == len(script(recipe)) == record.code_bytes
    assert trained["bytes"] == record.bytes
    assert trained["bpb"] == pytest.approx(record.bpb, rel=1e-4)
    scored = told()
    assert (scored["bpb"], scored["scored"]) == (trained["bpb"], "dev")
    (tmp_path / "some.txt").write_text(TEXT * 5)
    assert 0 < told("--text", "some.txt")["bpb"] < 20
    (tmp_path / "model.bin").write_bytes(b"GOLF damaged")
    refused = told()
    assert refused.returncode == 2
    assert "artifact:" in refused.stderr
