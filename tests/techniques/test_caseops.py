"""CaseOps and verbatim text: nothing is lost, and bytes are those of the original text, all of them."""

from __future__ import annotations

import functools
import itertools
import json
import random
import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golflab.model.audit.experiments.accounting import accounting
from golflab.model.data.prepare import prepare, prepared
from golflab.model.data.rewriting import FUSED_AT, MARKERS_AT, SPACE_AT
from golflab.model.data.tokenizer import SPACE, forecast_bytes, train_tokenizer
from golflab.model.evaluation.score import Evaluator, evaluate
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.recipe import Recipe
from golflab.model.shape import Data, Shape
from golflab.model.technique import parse
from golflab.model.techniques.data.caseops import ALLCAPS, CAPNEXT, ESC, MARKERS, TITLE, Caseops, read, write
from golflab.model.techniques.data.verbatim import Verbatim

SHAPE = Shape(layers=2, width=16, heads=2, kv_heads=1, hidden=32, vocabulary=320, context=32)
KINDS = {"verbatim": Verbatim(), "caseops": Caseops(), "fused": Caseops(fusion=True)}
WORDS = ["the", "The", "USA", "iPhone", "McDonald", "a", "A", "end.", "of", "day", "Quick", "fox\n", " ", "été", "İstanbul"]
SPECIAL = [
    *MARKERS,
    SPACE,
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "ß",
    "ẞ",
    "İ",
    "ı",
    "ǅ",
    "ﬁ",
    "½",
    "e\u0301",
    "K",
    "Ａ",
    "ａ",
    "🙂",
    "Aa",
    "aB",
]
any_text = st.lists(
    st.one_of(st.sampled_from(SPECIAL), st.text(st.characters(codec="utf-8"), max_size=4), st.text("abAB", max_size=4))
).map("".join)


def texts(count: int = 60, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [f"Document {i} {draw.random()}: " + " ".join(draw.choices(WORDS, k=40)) for i in range(count)]


@functools.cache
def tokenizer(kind: str):
    rewriting = KINDS[kind].build(SHAPE)
    return rewriting.tokenizer(rewriting.train(texts(), SHAPE.vocabulary))


# ---------------------------------------------------------------------- a slow, obvious reference, from the definition


def slow_write(text: str) -> str:
    """Character by character."""
    out, i = "", 0
    while i < len(text):
        if text[i] in MARKERS:
            out += ESC + text[i]
            i += 1
            continue
        if text[i] not in string.ascii_letters:
            out += text[i]
            i += 1
            continue
        end = i
        while end < len(text) and text[end] in string.ascii_letters:
            end += 1
        word, i = text[i:end], end
        capital = [letter in string.ascii_uppercase for letter in word]
        if len(word) >= 2 and all(capital):
            out += ALLCAPS + word.lower()
            continue
        for place, letter in enumerate(word):
            if capital[place]:
                out += CAPNEXT if place else TITLE
            out += letter.lower()
    return out


def slow_bytes(tokenizer, ids: np.ndarray) -> list[int]:
    """Token by token: a marker stands for nothing, unless an escape that is not itself escaped stands in front of it."""
    sizes, escaped = [], False
    for token in ids.tolist():
        own = int(tokenizer.own[token])
        piece = tokenizer.processor.id_to_piece(own)
        if tokenizer.rewriting.fused and FUSED_AT <= token < FUSED_AT + 3:
            sizes.append(1)
        elif piece in MARKERS and tokenizer.rewriting.markers:
            sizes.append(3 if escaped else 0)
            escaped = piece == ESC and not escaped
            continue
        elif tokenizer.processor.is_control(own):
            sizes.append(0)
        elif tokenizer.processor.is_byte(own):
            sizes.append(1)
        else:
            sizes.append(len(piece.replace(SPACE, " ").encode()))
        escaped = False
    return sizes


# ---------------------------------------------------------------------- the rewriting


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("the", "the"),
        ("The", f"{TITLE}the"),
        ("A", f"{TITLE}a"),
        ("USA", f"{ALLCAPS}usa"),
        ("iPhone", f"i{CAPNEXT}phone"),
        ("McDonald", f"{TITLE}mc{CAPNEXT}donald"),
        ("aBC", f"a{CAPNEXT}b{CAPNEXT}c"),
        ("ABc", f"{TITLE}a{CAPNEXT}bc"),
        ("A1B", f"{TITLE}a1{TITLE}b"),
        ("éAB", f"é{ALLCAPS}ab"),  # é is no ASCII letter, so the word begins behind it
        ("Éa İ ß ǅ", "Éa İ ß ǅ"),
        (f"x{TITLE}y{ESC}", f"x{ESC}{TITLE}y{ESC}{ESC}"),
    ],
)
def test_words_are_written_as_defined(text, written):
    assert write(text) == slow_write(text) == written
    assert read(written) == text


@settings(deadline=None, max_examples=150)
@given(any_text)
def test_any_text_is_written_as_defined_and_read_back(text):
    written = write(text)
    assert written == slow_write(text)
    assert read(written) == text
    assert not any(letter in string.ascii_uppercase for letter in written)


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from([*MARKERS, "a", "b", " ", "é"]), max_size=12))
def test_whatever_a_model_writes_can_be_read(text):
    assert set(read(text)) <= set(text) | {"A", "B"}


def test_markers_are_the_four_private_code_points():
    assert MARKERS == "\ue001\ue002\ue003\ue004"
    assert len(set(MARKERS)) == 4


def test_a_long_word_is_read_in_linear_time():
    long = "a" * 300_000 + "B" + "c" * 300_000
    assert read(write(long)) == long


# ---------------------------------------------------------------------- tokens and bytes


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=150)
@given(text=any_text)
def test_tokens_lose_nothing_and_stand_for_the_original_bytes(kind, text):
    made = tokenizer(kind)
    ids = made.encode(text)
    assert made.decode(ids) == text
    sizes = made.token_bytes(ids[1:], ids[:-1])
    assert sizes.sum() == len(text.encode())
    assert sizes.tolist() == slow_bytes(made, ids)[1:]
    assert ids[0] == 1
    assert (ids[1:] != 1).all()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(4, SHAPE.vocabulary - 1), min_size=2, max_size=30), st.sampled_from(sorted(KINDS)))
def test_any_tokens_can_be_decoded_and_counted(ids, kind):
    made, ids = tokenizer(kind), np.array(ids)
    assert isinstance(made.decode(ids), str)
    assert made.token_bytes(ids[1:], ids[:-1]).tolist() == slow_bytes(made, ids)[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_is_refused(kind):
    with pytest.raises(ValueError, match=r"half of a surrogate pair, '\\ud800', at character 3"):
        tokenizer(kind).encode("abc\ud800")


def test_the_vocabulary_keeps_its_size_and_holds_each_marker_once():
    for kind in ("caseops", "fused"):
        made = tokenizer(kind)
        assert made.vocabulary == SHAPE.vocabulary
        assert made.markers.tolist() == [4, 5, 6, 7]
        assert all(made.encode(m).tolist() == [1, 7, 4 + k] for k, m in enumerate(MARKERS))
    assert tokenizer("caseops").proto == tokenizer("fused").proto


def test_fusion_makes_one_token_of_a_space_and_a_marker_and_nothing_else_is_lost():
    plain, fused = tokenizer("caseops"), tokenizer("fused")
    for text in [*texts(20), " A\0\x01\x02\x03 BB", f" {TITLE} {CAPNEXT} {ESC}"]:
        ids, fewer = plain.encode(text), fused.encode(text)
        space = int(plain.processor.piece_to_id(SPACE))
        pairs = sum(a == space and 4 <= b <= 6 for a, b in itertools.pairwise(ids))
        assert len(fewer) == len(ids) - pairs
        assert not (np.isin(fewer[1:], [4, 5, 6]) & (fewer[:-1] == SPACE_AT)).any()
    assert fused.encode(" A").tolist()[:2] == [1, FUSED_AT]
    assert fused.encode(" AB")[1] == FUSED_AT + 1


def test_fused_ids_are_those_of_bytes_that_no_text_holds():
    made = tokenizer("fused")
    taken = [made.processor.id_to_piece(int(made.own[FUSED_AT + k])) for k in range(3)]
    assert taken == ["<0xC0>", "<0xC1>", "<0xF5>"]
    assert sorted(made.own.tolist()) == list(range(SHAPE.vocabulary))


def test_fused_rows_start_as_a_mixture_of_the_space_and_the_marker():
    off, on = (GPT(Recipe(SHAPE).with_(t)) for t in (Caseops(), Caseops(fusion=True)))
    for model, t in ((off, Caseops()), (on, Caseops(fusion=True))):
        initialize(model, Recipe(SHAPE).with_(t))
    before, after = off.table.weight.detach(), on.table.weight.detach()
    for k in range(3):
        assert torch.allclose(after[FUSED_AT + k], 0.4 * before[SPACE_AT] + 0.6 * before[MARKERS_AT + k])
    rest = [i for i in range(SHAPE.vocabulary) if not FUSED_AT <= i < FUSED_AT + 3]
    assert torch.equal(before[rest], after[rest])


def test_a_vocabulary_without_room_and_a_model_without_markers_are_refused():
    with pytest.raises(ValueError, match="vocabulary=260 has no room"):
        Recipe(SHAPE).with_(Caseops(), vocabulary=260).check()
    with pytest.raises(ValueError, match=r"no piece.*user_defined_symbols"):
        Caseops().build(SHAPE).tokenizer(tokenizer("verbatim").proto)


# ---------------------------------------------------------------------- a corpus


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts()))
    return str(path)


def recipe_of(corpus, kind):
    bare = Recipe(SHAPE).with_(corpus=corpus, allow_overlap=True)
    return bare if kind == "plain" else bare.with_(KINDS[kind])


def test_prepared_tokens_decode_to_the_original_documents_and_are_told_apart(corpus, tmp_path):
    prints = set()
    for kind in ("plain", *KINDS):
        data = prepared(recipe_of(corpus, kind), tmp_path / "cache")
        prints.add(data.fingerprint)
        if kind == "plain":
            continue
        held_out = texts()[-len(data.dev) - len(data.test) :]
        assert [data.tokenizer.decode(d) for d in (*data.dev, *data.test)] == held_out
        for split, originals in (("dev", held_out[: len(data.dev)]), ("test", held_out[len(data.dev) :])):
            told = data.facts["bytes"][split]
            assert told["counted"] == told["original"] == sum(len(t.encode()) for t in originals)
            assert told["changed"] == 0
    assert len(prints) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_bits_are_divided_by_the_bytes_of_the_original_text(corpus, tmp_path, kind):
    """A model that knows nothing pays log2 V for every token; the rest of the reference is the text itself."""
    recipe = recipe_of(corpus, kind)
    data = prepared(recipe, tmp_path / "cache")
    model = GPT(recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    score = evaluate(model, data.dev, data.tokenizer, recipe)
    originals = texts()[-len(data.dev) - len(data.test) : -len(data.test)]
    assert score.bytes.tolist() == [len(text.encode()) for text in originals]
    tokens = sum(len(d) for d in data.dev) - 1
    assert score.bpb == pytest.approx(tokens * np.log2(SHAPE.vocabulary) / sum(len(t.encode()) for t in originals))


# ---------------------------------------------------------------------- audit


class CountsMarkers(Evaluator):
    """A version that counts a marker as the three bytes it has in UTF-8: text becomes longer, and bits per byte fewer."""

    def count_bytes(self, tokens):
        return super().count_bytes(tokens) + 3 * np.isin(tokens[1:], self.tokenizer.markers)


@pytest.mark.parametrize("kind", ["caseops", "fused"])
def test_the_audit_finds_it_honest_and_refuses_a_version_that_counts_markers(corpus, tmp_path, kind):
    recipe = recipe_of(corpus, kind)
    data = prepared(recipe, tmp_path / "cache")
    originals = texts()[-len(data.dev) - len(data.test) : -len(data.test)]
    found = []
    for evaluator in (Evaluator, CountsMarkers):
        judged = evaluator(GPT(recipe), data.tokenizer, recipe)
        found.append(accounting(judged, data.dev, data.tokenizer.decode, originals))
    assert found[0][0] == "pass"
    assert "are those of the decoded text" in found[0][1]
    assert "original text has" not in found[0][1]
    assert found[1][0] == "breach"
    assert "document 0 was counted as" in found[1][1]


def test_without_a_rewriting_nothing_changes(corpus, tmp_path):
    recipe = recipe_of(corpus, "plain")
    data = prepared(recipe, tmp_path / "cache")
    same = prepare(Data(corpus=corpus, allow_overlap=True), SHAPE.vocabulary, tmp_path / "cache")
    assert data.fingerprint == same.fingerprint
    assert data.counts == {}
    assert parse("caseops:fusion=true") == KINDS["fused"]


@pytest.mark.parametrize(("vocabulary", "kind"), [(512, "plain"), (512, "caseops"), (1024, "plain"), (1024, "caseops")])
def test_a_tokenizers_file_is_forecast_well_enough(vocabulary, kind):
    words = ["".join(random.Random(i).choices("abcdefghij", k=2 + i % 7)) for i in range(3000)]
    train = train_tokenizer if kind == "plain" else Caseops().build(SHAPE).train
    size = len(train([" ".join(words)] * 3, vocabulary))
    told = forecast_bytes("auto", vocabulary, None if kind == "plain" else Caseops().build(SHAPE))
    assert told == pytest.approx(size, rel=0.02 if kind == "plain" else 0.25)
