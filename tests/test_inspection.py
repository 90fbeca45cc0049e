"""Bytes are counted right for every tokenizer or it is refused; held-out text in the training text is refused, too."""

from __future__ import annotations

import functools
import io
import json
import random

import numpy as np
import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golflab.model.data.batches import repetition
from golflab.model.data.corpus import load_corpus
from golflab.model.data.inspection import count, overlap_of, refuse_overlap
from golflab.model.data.prepare import prepare
from golflab.model.data.shards import Stream, read_shard, write_shard
from golflab.model.data.tokenizer import Tokenizer, train_tokenizer
from golflab.model.recipe import Recipe
from golflab.model.shape import Data
from golflab.model.technique import parse
from golflab.model.techniques.model.smear_gate import Smear
from golflab.search.cli.data import build, describe

LINES = [
    "Hello there, the quick brown fox jumps over the lazy dog again and again.",
    "  Double  spaces   here and  there, the end of the day is the end. ",
    "Naïve café ﬁn ½ … 1234, x y <a> b of the and A B C d e f g",
    "日本語 テキスト テキスト, and of it the rest.",
]
WORDS = st.sampled_from(
    ["the", "end ", " ", "  ", "日本", "é", "½", "x y", "<a>", "A", "\n", "\t", "🙂", "‽", "\u00a0", "of", "q"]
)


@functools.lru_cache(maxsize=64)
def trained(size: int = 120, **settings) -> bytes:
    """A small SentencePiece model with other settings than the challenge's."""
    model = io.BytesIO()
    told = {"vocab_size": size, "model_type": "bpe", "hard_vocab_limit": False, "num_threads": 1, "minloglevel": 2}
    symbols = {key: list(value) for key, value in settings.items() if isinstance(value, tuple)}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES * 6), model_writer=model, **told | settings | symbols)
    return model.getvalue()


@st.composite
def protos(draw):
    """Any kind of SentencePiece model there is."""
    settings = {
        "model_type": draw(st.sampled_from(["bpe", "unigram", "char", "word"])),
        "normalization_rule_name": draw(st.sampled_from(["nmt_nfkc", "nfkc", "identity", "nmt_nfkc_cf"])),
        "user_defined_symbols": tuple(draw(st.lists(st.sampled_from(["<a>", "▁▁", "x y", " q"]), unique=True, max_size=2))),
        "control_symbols": draw(st.sampled_from([(), ("<c>",)])),
    }
    flags = (
        "split_by_whitespace",
        "treat_whitespace_as_suffix",
        "add_dummy_prefix",
        "remove_extra_whitespaces",
        "byte_fallback",
    )
    settings |= {flag: draw(st.booleans()) for flag in flags}
    unk, bos, eos = draw(st.permutations(range(3)))
    settings |= {"unk_id": unk, "bos_id": bos, "eos_id": eos, "pad_id": draw(st.sampled_from([3, -1]))}
    return trained(400 if settings["byte_fallback"] else 120, **settings)


@settings(deadline=None, max_examples=120)
@given(protos(), st.lists(st.lists(WORDS, min_size=1, max_size=12).map("".join), min_size=1, max_size=4))
def test_counted_bytes_are_those_of_the_decoded_text(proto, texts):
    tokenizer = Tokenizer(proto)
    documents = [tokenizer.encode(text) for text in texts]
    decoded = tokenizer.decode_all(documents)
    assert count(tokenizer, documents).tolist() == [len(text.encode()) for text in decoded]
    assert decoded == [tokenizer.decode(document) for document in documents]
    assert all(document[0] == tokenizer.bos == 1 and (document[1:] != 1).all() for document in documents)


def test_spaces_inside_pieces_are_a_byte_each():
    tokenizer = Tokenizer(trained(200, split_by_whitespace=False))
    assert any("▁" in tokenizer.processor.id_to_piece(i)[1:] for i in range(200))
    ids = tokenizer.encode("the end of the day is the end")
    assert count(tokenizer, [ids]).tolist() == [29]


# ---------------------------------------------------------------------- a corpus and its tokenizer


def corpus_of(folder, make, count=60, name="a.jsonl"):
    """A corpus of documents that share no long stretch."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(json.dumps({"text": make(i)}) for i in range(count)))
    return str(folder / name)


def words(i, n=60):
    rng = random.Random(i)
    return f"Document {i}: " + " ".join(
        rng.choice(["the", "end", "of", "day", "Again", "fox", "dog", str(rng.random())]) for _ in range(n)
    )


def known_words(i):
    return " ".join(random.Random(i).choices(["the", "end", "of", "day", "again", "fox", "dog", "jumps"], k=60))


def prepared(tmp_path, corpus, proto, vocabulary=None, **data):
    path = tmp_path / "t.model"
    path.write_bytes(proto)
    size = vocabulary or Tokenizer(proto).vocabulary
    return prepare(Data(corpus=corpus, tokenizer=str(path), **data), size, tmp_path / "cache")


@pytest.mark.parametrize(
    "settings",
    [
        {"split_by_whitespace": False},
        {"remove_extra_whitespaces": False},
        {"add_dummy_prefix": False, "remove_extra_whitespaces": False, "normalization_rule_name": "identity"},
        {"treat_whitespace_as_suffix": True, "add_dummy_prefix": False},
        {"model_type": "unigram"},
        {"user_defined_symbols": ("<a>", "the end")},
        {"unk_id": 0, "bos_id": 3, "eos_id": 1, "pad_id": 2},
    ],
)
def test_ordinary_models_of_every_kind_are_counted_right(tmp_path, settings):
    corpus = corpus_of(tmp_path / "c", words)
    data = prepared(tmp_path, corpus, trained(400, byte_fallback=True, **settings))
    for split in ("dev", "test"):
        documents = data.split(split)
        decoded = [data.tokenizer.decode(d) for d in documents]
        told = data.facts["bytes"][split]
        assert told["counted"] == count(data.tokenizer, documents).sum() == sum(len(t.encode()) for t in decoded)
        assert told["original"] - told["counted"] in range(3 * len(documents))  # a space that begins or ends a document
    assert data.facts["notes"] == []


@pytest.mark.parametrize(
    ("settings", "make", "said"),
    [
        ({}, lambda i: words(i) + " ‽‽‽‽ ‽", r"changes \d+ of [\d,]+ bytes \(\d.*most often '.*‽.*byte_fallback=True"),
        ({"byte_fallback": True, "normalization_rule_name": "nmt_nfkc_cf"}, words, "most often '.*A.*keeps letters"),
        ({"byte_fallback": True, "normalization_rule_tsv": "65\t\n"}, words, "most often 'e' is lost"),
        ({"byte_fallback": True, "normalization_rule_tsv": "65\t65 65 65 65 65\n"}, words, r"changes \d+ of"),
        (
            {"byte_fallback": True, "normalization_rule_tsv": "20\t20 20 20\n", "remove_extra_whitespaces": False},
            words,
            "white space",
        ),
        ({"treat_whitespace_as_suffix": True, "byte_fallback": True}, words, "white space is added"),
        ({"byte_fallback": True, "model_type": "word"}, words, r"document 0 of dev .*count \d+ bytes, .* has \d+"),
    ],
)
def test_a_tokenizer_that_makes_text_cheap_is_refused(tmp_path, settings, make, said):
    if rules := settings.get("normalization_rule_tsv"):
        (tmp_path / "rules.tsv").write_text(rules)
        settings = settings | {"normalization_rule_tsv": str(tmp_path / "rules.tsv")}
    corpus = corpus_of(tmp_path / "c", make)
    for _ in range(2):  # a refusal is not forgotten
        with pytest.raises(ValueError, match=said):
            prepared(tmp_path, corpus, trained(400, **settings))


def test_unknown_pieces_that_never_occur_do_no_harm(tmp_path):
    data = prepared(tmp_path, corpus_of(tmp_path / "c", known_words), trained(400, add_dummy_prefix=False))
    assert data.facts["bytes"]["dev"]["changed"] == 0


def test_a_tokenizer_trained_on_text_without_spaces_can_spell_one():
    tokenizer = Tokenizer(train_tokenizer([f"日本語の文章は空白を使わない{i}。" for i in range(200)], 300))
    text = "日本語 の文 章"
    assert count(tokenizer, [tokenizer.encode(text)]).tolist() == [len(text.encode())]


def test_no_character_is_required_that_the_text_never_has(monkeypatch):
    """SentencePiece 0.2.2 and before end the process there."""
    train, asked = sentencepiece.SentencePieceTrainer.train, []

    def watched(*, sentence_iterator, required_chars="", **settings):
        sentences = list(sentence_iterator)
        asked.append((required_chars, "".join(sentences).replace(" ", required_chars or " ")))
        return train(sentence_iterator=iter(sentences), required_chars=required_chars, **settings)

    monkeypatch.setattr(sentencepiece.SentencePieceTrainer, "train", watched)
    train_tokenizer([f"日本語の文章は空白を使わない{i}。" for i in range(200)], 300)
    assert [set(required) <= set(text) for required, text in asked] == [True, True]
    assert [bool(required) for required, _ in asked] == [False, True]


def test_models_without_bos_or_with_too_many_ids_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="no BOS id"):
        Tokenizer(trained(120, bos_id=-1))
    monkeypatch.setattr(sentencepiece.SentencePieceProcessor, "vocab_size", lambda self: 70_000)
    with pytest.raises(ValueError, match="70,000 ids"):
        Tokenizer(trained(120))


def test_a_rewritten_tokenizer_is_read_again(tmp_path):
    corpus = corpus_of(tmp_path / "c", words)
    one = prepared(tmp_path, corpus, trained(400, byte_fallback=True))
    other = prepared(tmp_path, corpus, trained(400, byte_fallback=True, model_type="unigram"))
    assert one.fingerprint != other.fingerprint
    (tmp_path / "t.model").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"t\.model.*not a SentencePiece model"):
        prepare(Data(corpus=corpus, tokenizer=str(tmp_path / "t.model")), 400, tmp_path / "cache")


# ---------------------------------------------------------------------- BOS


def test_bos_is_one_id_inside_whatever_the_model_calls_it(tmp_path):
    own, other = (Tokenizer(trained(400, byte_fallback=True, unk_id=0, bos_id=b, eos_id=3 - b)) for b in (1, 2))
    ids = other.encode("the end of the day")
    assert ids[0] == 1
    assert ids[1:].tolist() == own.encode("the end of the day")[1:].tolist() == other.processor.encode("the end of the day")
    assert other.decode(np.array([1, *ids[1:], 2])) == "the end of the day"
    gate, x = Smear(4, 0.0, mask_documents=True), torch.randn(1, 2 * len(ids), 4)
    torch.nn.init.zeros_(next(gate.parameters()))
    stream = torch.from_numpy(np.concatenate([ids, ids]).astype(np.int64))[None]
    assert torch.equal(gate(x, stream)[0, len(ids)], x[0, len(ids)])


def test_shards_with_another_bos_are_read_with_theirs(tmp_path):
    tokenizer = Tokenizer(trained(400, byte_fallback=True, unk_id=0, bos_id=2, eos_id=1))
    documents = {kind: [np.array([2, *tokenizer.processor.encode(words(i))]) for i in ids] for kind, ids in SHARDS.items()}
    for kind, parts in documents.items():
        write_shard(tmp_path / f"fineweb_{kind}_000000.bin", parts)
    data = prepared(tmp_path, str(tmp_path), tokenizer.proto)
    assert [data.tokenizer.decode(d) for d in data.dev + data.test] == [words(i) for i in SHARDS["val"]]
    assert all(d[0] == 1 for d in data.dev)
    begins = np.cumsum([0, *(len(d) for d in documents["train"][:-1])])
    assert data.train.where(1).tolist() == begins.tolist()
    assert data.train.take(0, len(documents["train"][0]))[0] == 1
    shape = Recipe().with_(context=16, vocabulary=400).shape
    batches = parse("shuffled:documents=true").build(shape)(data.train, 64, 0)
    assert set(begins) & set(np.concatenate([batches.starts(s) for s in range(200)]).tolist())


SHARDS = {"train": range(40), "val": range(100, 110)}


# ---------------------------------------------------------------------- shards


@pytest.fixture
def shards(tmp_path):
    """A folder of shards of ten held-out documents, and the tokenizer that made them."""
    tokenizer = Tokenizer(trained(400, byte_fallback=True, add_dummy_prefix=False))
    for kind, ids in SHARDS.items():
        write_shard(tmp_path / f"fineweb_{kind}_000000.bin", [tokenizer.encode(words(i)) for i in ids])
    (tmp_path / "t.model").write_bytes(tokenizer.proto)
    return tmp_path


def of_shards(folder, **data):
    return prepare(Data(corpus=str(folder), **data), 400, folder / "cache")


def test_a_validation_shard_that_begins_in_mid_document_is_refused_before_training(shards):
    path = shards / "fineweb_val_000000.bin"
    tokens = np.array(read_shard(path))
    write_shard(path, [tokens[50:]])
    with pytest.raises(ValueError, match=r"fineweb_val_000000\.bin begins with token \d+, not with BOS \(id 1\).*cut off"):
        of_shards(shards)


def test_a_document_may_begin_in_one_shard_and_end_in_the_next(shards):
    whole = of_shards(shards)
    tokens = np.array(read_shard(shards / "fineweb_val_000000.bin"))
    write_shard(shards / "fineweb_val_000000.bin", [tokens[:100]])
    write_shard(shards / "fineweb_val_000001.bin", [tokens[100:]])
    split = of_shards(shards)
    assert [d.tolist() for d in split.dev + split.test] == [d.tolist() for d in whole.dev + whole.test]


def test_a_shard_may_end_within_a_character(shards):
    path, tokenizer = shards / "fineweb_val_000000.bin", Tokenizer((shards / "t.model").read_bytes())
    spelled = tokenizer.encode("the 🙂")
    write_shard(path, [np.array(read_shard(path)), spelled[:-2]])
    assert of_shards(shards).facts["bytes"]["test"]["documents"] == 5


def test_one_document_is_too_few(shards):
    write_shard(shards / "fineweb_val_000000.bin", [[1, 300, 301]])
    with pytest.raises(ValueError, match="one document"):
        of_shards(shards)


def test_tokens_beyond_the_vocabulary_are_found_wherever_they_are(shards):
    path = shards / "fineweb_train_000000.bin"
    write_shard(path, [np.array(read_shard(path)), np.full(1_100_000, 300), [1, 399, 400, 300]])
    with pytest.raises(ValueError, match=r"fineweb_train_000000\.bin holds token 400"):
        of_shards(shards)


def test_the_tokenizer_of_other_shards_is_refused(tmp_path):
    texts = []
    for seed in (1, 2):
        draw = random.Random(seed)
        known = ["".join(draw.choices("abcdefghij", k=draw.randint(3, 7))) for _ in range(200)]
        texts.append([" ".join(draw.choices(known, k=60)) for _ in range(40)])
    theirs, ours = (train_tokenizer(text, 600) for text in texts)
    for kind, part in {"train": texts[0][:30], "val": texts[0][30:]}.items():
        write_shard(tmp_path / f"fineweb_{kind}_000000.bin", [Tokenizer(theirs).encode(text) for text in part])
    assert prepared(tmp_path, str(tmp_path), theirs).facts["notes"] == []
    with pytest.raises(ValueError, match="made with another tokenizer"):
        prepared(tmp_path, str(tmp_path), ours)


def test_sidecars_that_say_what_the_pieces_say_are_fine_and_others_are_refused(shards):
    ids = np.array(read_shard(shards / "fineweb_val_000000.bin"))
    tokenizer = Tokenizer((shards / "t.model").read_bytes())
    sizes = np.append(0, tokenizer.token_bytes(ids[1:], ids[:-1]))
    write_shard(shards / "fineweb_val_bytes_000000.bin", [sizes])
    assert sum(map(len, of_shards(shards).dev + of_shards(shards).test)) == len(ids)
    told = describe(str(shards))
    assert told["splits"]["held_out"] == {"shards": 1, "tokens": len(ids), "bytes": sizes.sum()}
    assert any("sidecar" in note for note in told["notes"])
    sizes[40] += 1
    write_shard(shards / "fineweb_val_bytes_000000.bin", [sizes])
    with pytest.raises(ValueError, match=r"val_bytes_000000\.bin: .*first at token 40\..*CaseOps"):
        of_shards(shards)


def test_a_held_out_part_that_is_not_the_manifests_is_said(shards):
    size = len(read_shard(shards / "fineweb_val_000000.bin"))
    for documents, tokens, said in ((10, size, []), (12, size + 500, ["incomplete"])):
        stats = {"docs_val": documents, "tokens_val": tokens}
        manifest = {"datasets": [{"path": "datasets/x", "stats": stats}]}
        (shards / "manifest.json").write_text(json.dumps(manifest))
        (shards / "cache").rename(shards / f"old{documents}") if (shards / "cache").exists() else None
        assert [any(word in note for word in said) for note in of_shards(shards).facts["notes"]] == [True] * len(said)
        assert len(describe(str(shards))["notes"]) == len(said)


# ---------------------------------------------------------------------- overlap


def test_training_text_that_holds_the_held_out_text_is_refused_unless_asked_for(tmp_path):
    corpus = corpus_of(tmp_path / "c", lambda i: words(i % 10), 120)  # ten documents twelve times
    proto = trained(400, byte_fallback=True)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"\(100.00%\) and .* stand in the training text, too.*--allow-overlap"):
            prepared(tmp_path, corpus, proto)
    data = prepared(tmp_path, corpus, proto, allow_overlap=True)
    assert data.facts["overlap"]["train"]["duplicates"] > 90
    assert [note for note in data.facts["notes"] if "and allowed" in note]
    with pytest.raises(ValueError, match="stand in the training text"):
        build(corpus, 300, tmp_path / "built")


def test_a_training_file_that_contains_a_held_out_document_is_found(tmp_path):
    corpus_of(tmp_path / "c", words, name="train.jsonl")
    corpus_of(tmp_path / "c", lambda i: words(1000 + i), 10, name="val.jsonl")
    proto = trained(400, byte_fallback=True)
    assert prepared(tmp_path, str(tmp_path / "c"), proto).facts["notes"] == []
    corpus_of(tmp_path / "c", lambda i: words(2000) + " " + words(1003) + " " + words(2001), 1, name="more_train.jsonl")
    with pytest.raises(ValueError, match="0 of 5 documents"):
        prepared(tmp_path, str(tmp_path / "c"), proto)


def test_overlap_of_shards_is_found_in_tokens(shards):
    assert of_shards(shards).facts["overlap"]["window"] == 64
    copy = np.array(read_shard(shards / "fineweb_val_000000.bin"))[7:]
    write_shard(shards / "fineweb_train_000001.bin", [copy])
    with pytest.raises(ValueError, match="stand in the training text"):
        of_shards(shards)
    assert of_shards(shards, allow_overlap=True).facts["notes"]


def test_the_embedded_corpus_overlaps_nowhere():
    found = overlap_of(load_corpus("sotu"))
    assert refuse_overlap("sotu", found, allow=False) == []
    assert all(told["windows"] > 1000 and told["windows_in_train"] == 0 for told in found["splits"].values())


def test_allowing_overlap_leaves_other_recipes_as_they_were():
    plain = Recipe()
    assert "allow_overlap" not in plain.to_json()["data"]
    asked = plain.with_(allow_overlap=True)
    assert asked.hash != plain.hash
    assert Recipe.from_json(asked.to_json()) == asked
    with pytest.raises(ValueError, match="allow_overlap"):
        Data(allow_overlap="yes")


def test_a_text_shorter_than_a_batch_says_what_repeats():
    stream = Stream([np.arange(2, 302, dtype=np.uint16)])
    assert repetition(stream, 300) == []
    (note,) = repetition(stream, 4096, 81_920)
    assert all(said in note for said in ("300 tokens", "13.7 times", "273 times"))
