"""Tokenizers, the byte tables of the metric, and the token arrays a run works on."""

import multiprocessing

import numpy as np
import pytest
import sentencepiece

from golflab.model.data.prepare import prepare
from golflab.model.data.shards import read_shard, write_shard
from golflab.model.data.tokenizer import SPACE, Tokenizer, tokenizer_for, train_tokenizer
from golflab.model.shape import Data

SENTENCES = [
    "Hello there, Größe und Maß; naïve café costs 1234 € today.",
    "Tabs\tand\nnewlines   collapse.  日本語 and emoji 🙂🙃 fall back to bytes.",
    "The quick brown fox jumps over the lazy dog again and again and again.",
    "Ünïcödé ﬁligree ½ — “quotes” … and\u00a0spaces\u2003too.",
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(train_tokenizer(SENTENCES * 20, 340))


def write_corpus(folder, repeat=30):
    import json

    texts = [f"{s} It is number {i}." for i in range(repeat) for s in SENTENCES]
    (folder / "text.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    return Data(corpus=str(folder / "text.jsonl"))


def test_the_special_ids_are_the_challenges(tokenizer):
    model = tokenizer.processor
    assert [model.pad_id(), model.bos_id(), model.eos_id(), model.unk_id()] == [0, 1, 2, 3]
    assert all(model.is_byte(i) for i in range(4, 260))
    assert not model.is_byte(260)
    assert tokenizer.vocabulary == 340


def test_the_same_text_trains_the_same_tokenizer():
    assert train_tokenizer(SENTENCES * 20, 360) == train_tokenizer(SENTENCES * 20, 360)


def test_encoding_begins_with_bos_and_decodes_to_the_normalised_text(tokenizer):
    ids = tokenizer.encode("Tabs\tand\nnewlines   collapse. ½")
    assert ids.dtype == np.uint16
    assert ids[0] == 1
    assert tokenizer.decode(ids) == "Tabs and newlines collapse. 1⁄2"


@pytest.mark.parametrize("sentence", SENTENCES)
def test_bytes_of_tokens_add_up_to_the_bytes_of_the_text(tokenizer, sentence):
    ids = tokenizer.encode(sentence)
    total = tokenizer.token_bytes(ids[1:], ids[:-1]).sum()
    assert total == len(tokenizer.decode(ids).encode())  # an independent count


def slow_bytes(tokenizer, target, previous):
    """One token at a time, straight from the definition."""
    model = tokenizer.processor

    def silent(token):
        return model.is_control(token) or model.is_unknown(token) or model.is_unused(token)

    if silent(target):
        return 0
    if model.is_byte(target):
        return 1
    piece = model.id_to_piece(target)
    if piece.startswith(SPACE):
        return len(piece[1:].encode()) + (0 if silent(previous) else 1)
    return len(piece.encode())


def test_every_pair_of_tokens_counts_as_the_definition_says(tokenizer):
    random = np.random.default_rng(0)
    targets, previous = random.integers(0, tokenizer.vocabulary, (2, 2000))
    previous[:400] = random.integers(0, 4, 400)
    expected = [slow_bytes(tokenizer, int(t), int(p)) for t, p in zip(targets, previous, strict=True)]
    assert tokenizer.token_bytes(targets, previous).tolist() == expected


def test_a_bos_target_stands_for_no_bytes(tokenizer):
    assert tokenizer.token_bytes(np.array([1]), np.array([300])).tolist() == [0]


def test_the_whole_embedded_corpus_adds_up(tmp_path):
    """Bytes of all held-out speeches by the tables equal the UTF-8 length of the decoded text."""
    data = prepare(Data(), 512, tmp_path)
    for document in [*data.dev, *data.test]:
        assert document[0] == 1
        total = data.tokenizer.token_bytes(document[1:], document[:-1]).sum()
        assert total == len(data.tokenizer.decode(document).encode())


def test_prepared_tokens_are_mapped_not_made_again(tmp_path):
    data = write_corpus(tmp_path)
    first = prepare(data, 360, tmp_path / "cache")
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.bin")}
    second = prepare(data, 360, tmp_path / "cache")
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.bin")}
    assert isinstance(second.train.parts[0], np.memmap)
    assert first.fingerprint == second.fingerprint
    assert [d.tolist() for d in first.dev] == [d.tolist() for d in second.dev]


def test_a_damaged_cache_is_made_again(tmp_path):
    data = write_corpus(tmp_path)
    first = prepare(data, 360, tmp_path / "cache")
    whole = len(first.train)
    path = next((tmp_path / "cache").rglob("train.bin"))
    path.write_bytes(path.read_bytes()[:-10])
    assert len(prepare(data, 360, tmp_path / "cache").train) == whole


def prepared(folder, queue):
    queue.put(prepare(Data(corpus=str(folder / "text.jsonl")), 360, folder / "cache").fingerprint)


def test_two_processes_may_prepare_at_once(tmp_path):
    write_corpus(tmp_path)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=prepared, args=(tmp_path, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert all(worker.exitcode == 0 for worker in workers)
    found = {queue.get(timeout=5) for _ in workers}
    assert len(found) == 1
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_shards_bring_their_tokenizer_and_halve_their_validation(tmp_path, tokenizer):
    (tmp_path / "fineweb_340_bpe.model").write_bytes(tokenizer.proto)
    write_shard(tmp_path / "fineweb_train_000000.bin", [tokenizer.encode(s) for s in SENTENCES])
    write_shard(tmp_path / "fineweb_train_000001.bin", [tokenizer.encode(s) for s in SENTENCES])
    write_shard(tmp_path / "fineweb_val_000000.bin", [tokenizer.encode(s) for s in SENTENCES])
    data = prepare(Data(corpus=str(tmp_path), allow_overlap=True), 340, tmp_path / "cache")
    assert len(data.train) == 2 * len(read_shard(tmp_path / "fineweb_train_000000.bin"))
    assert [data.tokenizer.decode(d) for d in data.dev + data.test] == [
        tokenizer.decode(tokenizer.encode(s)) for s in SENTENCES
    ]
    assert (len(data.dev), len(data.test)) == (2, 2)


def test_shards_without_a_tokenizer_or_with_a_wrong_one_are_refused(tmp_path, tokenizer):
    for kind in ("train", "val"):
        write_shard(tmp_path / f"fineweb_{kind}_000000.bin", [np.array([1, 9000, 1, 5])])
    with pytest.raises(ValueError, match="no tokenizer of 340 ids"):
        prepare(Data(corpus=str(tmp_path)), 340, tmp_path / "cache")
    (tmp_path / "t.model").write_bytes(tokenizer.proto)
    with pytest.raises(ValueError, match="token 9000"):
        prepare(Data(corpus=str(tmp_path), tokenizer=str(tmp_path / "t.model")), 340, tmp_path / "cache")


def test_wrong_tokenizers_are_refused(tmp_path, tokenizer):
    data = write_corpus(tmp_path)
    (tmp_path / "t.model").write_bytes(tokenizer.proto)
    (tmp_path / "bad.model").write_bytes(b"no model")
    with pytest.raises(ValueError, match="340 ids, the shape has vocabulary=512"):
        prepare(Data(corpus=data.corpus, tokenizer=str(tmp_path / "t.model")), 512, tmp_path)
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        prepare(Data(corpus=data.corpus, tokenizer=str(tmp_path / "bad.model")), 512, tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        prepare(Data(corpus=data.corpus, tokenizer="nowhere.model"), 512, tmp_path)
    with pytest.raises(ValueError, match="4096 ids can be trained"):
        train_tokenizer(SENTENCES, 4096)


def test_a_tokenizer_is_trained_once_per_corpus_and_vocabulary(tmp_path):
    from golflab.model.data.corpus import load_corpus

    corpus = load_corpus(write_corpus(tmp_path).corpus)
    one = tokenizer_for(corpus, 360, tmp_path / "cache")
    assert tokenizer_for(corpus, 360, tmp_path / "cache").proto == one.proto
    assert tokenizer_for(corpus, 370, tmp_path / "cache").vocabulary == 370
    assert len(list((tmp_path / "cache").glob("*.model"))) == 2
    assert isinstance(one.processor, sentencepiece.SentencePieceProcessor)
