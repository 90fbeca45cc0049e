"""Technique, knob, slot: ranges, names, and the command line's way of writing them."""

from __future__ import annotations

import pytest

from golflab.model.slots import SLOTS
from golflab.model.system.slot_names import slot_names
from golflab.model.technique import Knob, catalogue, find, parse


def test_find_takes_file_names_and_class_names():
    assert find("smear_gate") is find("SmearGate") is find("smear-gate")
    assert find("xsa").name == "xsa"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no technique called 'smeargat'.*Did you mean 'smear_gate'"):
        find("smeargat")
    with pytest.raises(ValueError, match="golflab techniques"):
        find("zzzzzzzz")


def test_parse_reads_every_kind_of_knob():
    t = parse("bigram_hash:buckets=2048,scale=0.1,start=both_live")
    assert (t.buckets, t.scale, t.start) == (2048, 0.1, "both_live")
    assert parse("smear_gate:mask_documents=true").mask_documents is True
    assert str(t) == "bigram_hash:buckets=2048,scale=0.1,start=both_live"
    assert parse("smear_gate") == find("smear_gate")()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bigram_hash:bucket=2", "no knob 'bucket'.*Did you mean 'buckets'"),
        ("bigram_hash:buckets=many", "does not read as int"),
        ("bigram_hash:buckets=3", "out of range.*between 16 and 65536"),
        ("bigram_hash:start=none", "out of range.*one of zero_table"),
        ("smear_gate:mask_documents=maybe", "does not read as bool"),
        ("smear_gate:theta=nan", "out of range"),
        ("qk_norm:value=1", "no knob 'value'.*none"),
    ],
)
def test_bad_text_is_refused_with_what_is_allowed(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_equal_numbers_are_the_same_knob():
    assert find("q_gain")(value=2) == find("q_gain")(value=2.0)
    assert isinstance(find("q_gain")(value=2).value, float)
    assert isinstance(find("bigram_hash")(buckets=2048.0).buckets, int)


def test_knobs_judge_values():
    assert Knob(0.0, 1.0).allows(1.0)
    assert not Knob(0.0, 1.0).allows(1.01)
    assert not Knob(0.0, 1.0).allows(True)
    assert not Knob(0.0, 1.0).allows("0.5")
    assert Knob(choices=("a", "b")).allows("a")
    assert not Knob(choices=("a", "b")).allows("c")


def test_techniques_are_frozen():
    with pytest.raises(AttributeError):
        find("smear_gate")().theta = 1.0


def test_the_catalogue_is_in_the_order_of_the_slots():
    order = list(SLOTS)
    places = [order.index(cls.slot) for cls in catalogue().values()]
    assert places == sorted(places)


def test_analyses_know_every_slot_without_importing_a_technique():
    assert slot_names() == {name: kind.slot for name, kind in catalogue().items()}
