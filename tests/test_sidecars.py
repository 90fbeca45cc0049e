"""Official shards of text that CaseOps rewrote: scores are by their byte sidecars; those that must be wrong are refused."""

from __future__ import annotations

import io
import json
import random
import shutil

import numpy as np
import pytest
import sentencepiece
import torch

from golflab.model.data.official import incomplete
from golflab.model.data.prepare import prepared
from golflab.model.data.rewriting import FUSED_AT, MARKERS_AT, SPACE_AT, Rewriting
from golflab.model.data.shards import read_shard, write_shard
from golflab.model.evaluation.score import evaluate
from golflab.model.network.gpt import GPT
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.submission import standalone
from golflab.model.technique import parse
from golflab.model.techniques.data.caseops import MARKERS, write
from golflab.model.training.rungs import measure
from golflab.model.variants import TextScorer
from golflab.search.cli.data import build, describe
from golflab.search.cli.export import judge_bytes

SIZE = 340
WORDS = ["The", "quick", "Fox", "jumps", "over", "a", "lazy", "dog", "in", "the", "USA", "while", "iPhone", "owners", "Eat"]
FOLDED = "  two\n\nlines"  # two bytes of the original that a tokenizer which normalises folds
SIDECAR = "fineweb_val_bytes_000000.bin"


def texts(count, seed):
    """Documents with a little white space that is folded, and a marker that stands in the text itself."""
    draw = random.Random(seed)
    return [
        f"Text {i} {draw.random()} " + " ".join(draw.choices(WORDS, k=80)) + f"{FOLDED} {MARKERS[0]}." for i in range(count)
    ]


TEXTS = {"train": texts(50, 0), "val": texts(8, 1)}


def normalising() -> bytes:
    """A tokenizer as the official one: the challenge's normalisation, with the markers as symbols of their own."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=map(write, TEXTS["train"] * 2), model_writer=model, vocab_size=SIZE, model_type="bpe",
        byte_fallback=True, split_digits=True, normalization_rule_name="nmt_nfkc", add_dummy_prefix=False, pad_id=0, bos_id=1,
        eos_id=2, unk_id=3, user_defined_symbols=list(MARKERS), num_threads=1, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of shards whose sidecar counts, token by token, the original text that SentencePiece says a token stands for."""
    folder, proto = tmp_path_factory.mktemp("official"), normalising()
    model = sentencepiece.SentencePieceProcessor(model_proto=proto)
    (folder / "t.model").write_bytes(proto)
    for kind, documents in TEXTS.items():
        ids, sizes = [], []
        for text in documents:
            pieces = model.encode(write(text), return_type="proto").pieces
            ids.append(np.array([1, *(piece.id for piece in pieces)]))
            told = [0 if piece.piece in MARKERS else len(piece.surface.encode()) for piece in pieces]
            for place in range(1, len(pieces)):  # a marker that stands in the text itself
                if pieces[place - 1].piece == MARKERS[-1] and pieces[place].piece in MARKERS:
                    told[place] = 3
            sizes.append(np.array([0, *told]))
        write_shard(folder / f"fineweb_{kind}_000000.bin", ids)
        if kind == "val":
            write_shard(folder / SIDECAR, sizes)
    return folder


@pytest.fixture
def shards(made, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(made, tmp_path / "shards")


def recipe_of(folder, text="caseops"):
    shape = Shape(layers=2, width=16, heads=2, kv_heads=1, hidden=32, vocabulary=SIZE, context=32)
    recipe = Recipe(shape).with_(corpus=str(folder), allow_overlap=True, split="test")
    return recipe.with_(parse(text)) if text else recipe


def of(folder, text="caseops"):
    return prepared(recipe_of(folder, text), folder / "cache")


def empty(recipe):
    """A model that knows nothing: every token costs log2 V bits."""
    model = GPT(recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


@pytest.mark.parametrize("text", ["caseops", "caseops:fusion=true"])
def test_scores_are_by_the_bytes_of_the_original_text(made, text):
    recipe, data = recipe_of(made, text), of(made, text)
    originals = [len(t.encode()) for t in TEXTS["val"]]
    assert [int(c.sum()) for c in (*data.counts["dev"], *data.counts["test"])] == originals
    assert [len(c) for c in data.counts["test"]] == [len(d) for d in data.test]
    score = evaluate(empty(recipe), data.test, data.tokenizer, recipe, counts=data.counts["test"])
    assert score.bytes.tolist() == originals[4:]
    by_pieces = evaluate(empty(recipe), data.test, data.tokenizer, recipe)
    assert (score.bytes - by_pieces.bytes).tolist() == [2] * 4  # of the normalised text: only the sidecar knows the rest
    (note,) = [n for n in data.facts["notes"] if "sidecars" in n]
    assert f"{sum(originals):,} bytes of the original text" in note


def test_fusing_shards_makes_one_token_of_each_space_and_marker(made):
    plain, fused = of(made), of(made, "caseops:fusion=true")
    assert [plain.tokenizer.decode(d) for d in plain.test] == [fused.tokenizer.decode(d) for d in fused.test]
    ids = fused.train.take(0, len(fused.train))
    assert len(fused.train) < len(plain.train)
    assert np.isin(ids, [FUSED_AT, FUSED_AT + 1]).any()
    assert not ((ids[:-1] == SPACE_AT) & np.isin(ids[1:], range(MARKERS_AT, MARKERS_AT + 3))).any()


def test_long_shards_are_fused_piece_by_piece_alike(made, monkeypatch):
    tokenizer, tokens = of(made, "caseops:fusion=true").tokenizer, read_shard(made / "fineweb_train_000000.bin")
    whole = np.concatenate(list(tokenizer.fused_pieces(tokens)))
    monkeypatch.setattr("golflab.model.data.rewriting.PIECE", 3)
    assert np.concatenate(list(tokenizer.fused_pieces(tokens))).tolist() == whole.tolist()


def test_rungs_variants_and_the_exported_script_count_by_the_sidecars_too(made, monkeypatch):
    recipe, data = recipe_of(made), of(made)
    originals = sum(len(t.encode()) for t in TEXTS["val"][4:])
    tokens = sum(map(len, data.test)) - 1
    ruler = TextScorer(empty(recipe), recipe, data.test, data.tokenizer, tokens + 1, counts=data.counts["test"])
    assert ruler.text.weights.sum() == originals
    told, _ = measure(recipe, empty(recipe), data.test, data.tokenizer, 0, data.counts["test"])
    assert told["bpb"] == pytest.approx(tokens * np.log2(SIZE) / originals)
    monkeypatch.setattr("sys.argv", ["train_gpt.py", "--cache", str(made / "script")])
    _, documents, counts = standalone._documents(recipe, standalone._options())
    assert sum(map(len, documents)) == tokens + 1
    assert sum(int(c.sum()) for c in counts) == originals


# ---------------------------------------------------------------------- what is refused


def spoiled(folder, change):
    sizes = np.array(read_shard(folder / SIDECAR))
    write_shard(folder / SIDECAR, [change(sizes)])


def counts_markers(folder):
    """The fault that makes text cheap: a marker counted as the three bytes it has in UTF-8."""
    ids = read_shard(folder / "fineweb_val_000000.bin")
    spoiled(folder, lambda sizes: np.where(np.isin(ids, [4, 5, 6, 7]), 3, sizes))


SPOILS = {
    "markers": (counts_markers, r"val_bytes_000000\.bin: token \d+ is a marker, which stands for no bytes, and counts 3"),
    "bos": (lambda f: spoiled(f, lambda s: np.append(1, s[1:])), r"token 0 is BOS"),
    "length": (lambda f: spoiled(f, lambda s: s[:-1]), r"counts the bytes of [\d,]+ tokens, fineweb_val_000000\.bin holds"),
    "spaces twice": (lambda f: spoiled(f, lambda s: s + (s > 3)), r"sidecars count [\d,]+ bytes, the decoded text has"),
    "none": (lambda f: (f / SIDECAR).unlink(), r"normalises text, so only byte sidecars know"),
    "one of two": (lambda f: shutil.copy(f / "fineweb_val_000000.bin", f / "fineweb_val_000001.bin"), "has no byte sidecar"),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_sidecars_that_cannot_be_right_are_refused(shards, spoil):
    change, said = SPOILS[spoil]
    change(shards)
    with pytest.raises(ValueError, match=said):
        of(shards)


def test_text_is_refused_where_the_tokenizer_normalises_it(made, tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS["train"]))
    with pytest.raises(ValueError, match="the tokenizer normalises text"):
        prepared(recipe_of(path).with_(tokenizer=str(made / "t.model")), tmp_path / "cache")


def test_rewritten_shards_are_refused_as_plain_text_with_advice(shards):
    with pytest.raises(ValueError, match="--with caseops"):
        of(shards, "")


def test_what_a_folder_holds_is_told_and_a_fault_is_named(shards):
    told = describe(str(shards))
    assert told["splits"]["held_out"]["bytes"] == sum(len(t.encode()) for t in TEXTS["val"])
    assert any("--with caseops" in note for note in told["notes"])
    counts_markers(shards)
    assert any("Runs are refused" in note and "is a marker" in note for note in describe(str(shards))["notes"])


def test_the_audit_of_byte_tables_passes_the_sidecar_and_refuses_one_that_counts_markers(shards):
    assert judge_bytes(shards / "t.model", shards / SIDECAR, str(shards)).passed
    counts_markers(shards)
    told = judge_bytes(shards / "t.model", shards / SIDECAR, str(shards))
    assert told.breaches == ("accounting",)


def test_a_cut_off_official_held_out_part_is_said(shards):
    folder = shards.rename(shards.parent / "fineweb10B_sp8192_lossless_caps_caseops_v1_reserved")
    data = of(folder)
    data.tokenizer.vocabulary = 8192
    from golflab.model.data.corpus import load_corpus

    (note,) = incomplete(load_corpus(str(folder)), data.tokenizer)
    assert "incomplete: 8 documents" in note
    assert "50,000 and 47,853,344" in note


# ---------------------------------------------------------------------- shards of one's own


def test_built_shards_bring_a_sidecar_and_are_read_like_the_text_itself(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS["train"]))
    names = [p.name for p in build(str(path), SIZE, tmp_path / "built", text="caseops", allow_overlap=True)]
    assert names == [f"fineweb_{SIZE}_bpe.model", "fineweb_train_000000.bin", "fineweb_val_000000.bin", SIDECAR]
    shutil.rmtree(tmp_path / "built" / "cache")
    here, there = of(tmp_path / "built"), prepared(recipe_of(path), tmp_path / "cache")
    held = [here.tokenizer.decode(d) for d in (*here.dev, *here.test)]
    assert held == [there.tokenizer.decode(d) for d in (*there.dev, *there.test)]
    assert [int(c.sum()) for c in (*here.counts["dev"], *here.counts["test"])] == [len(text.encode()) for text in held]
    with pytest.raises(ValueError, match="fused when a run"):
        build(str(path), SIZE, tmp_path / "other", text="caseops:fusion=true")
    with pytest.raises(ValueError, match="--text takes caseops or verbatim"):
        build(str(path), SIZE, tmp_path / "other", text="shuffled")


def test_a_rewriting_says_its_name_so_that_tokens_are_told_apart():
    kinds = [parse(text).build(Shape()) for text in ("caseops", "caseops:fusion=true", "verbatim")]
    assert all(isinstance(kind, Rewriting) for kind in kinds)
    assert len({kind.name for kind in kinds}) == 3
