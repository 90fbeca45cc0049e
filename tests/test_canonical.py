"""Two knob values that mean one model are one recipe, and no others are.

`SAME` lists every region of a knob, over the whole catalogue, in which nothing happens or nothing happens any more;
`benchmarks/dead_knobs.py` found them by trying values of every knob of every technique, and finds new ones. Each line is
checked both ways: the recipes are one, and what the stage makes of the two settings as given is equal bit by bit.
"""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.dead_knobs import PLAIN, RICH, outcome
from golflab.model.recipe import Recipe
from golflab.model.technique import Technique, catalogue, parse
from golflab.spaces.presets import PRESETS, preset
from golflab.spaces.scales import at_scale
from tests.contract_helpers import TINY

UNTIED = PLAIN.with_(tied=False)
BARE = PLAIN.without("unet_skips")
GPTQ = PLAIN.with_(parse("gptq:tokens=256"))

# Where, one setting, another one that means the same there. TINY has 4 layers of width 32, heads of 8, 32 positions.
SAME: list[tuple[Recipe, str, str]] = [
    (PLAIN, "xsa:last=4", "xsa:last=64"),
    (PLAIN, "xsa_diagonal:last=4", "xsa_diagonal:last=9"),
    (PLAIN, "parallel_residual:last=4", "parallel_residual:last=9"),
    (PLAIN, "two_lanes:last=4", "two_lanes:last=9"),
    (PLAIN, "value_embedding:dim=4,last=4", "value_embedding:dim=4,last=9"),
    (PLAIN, "wavelet_mixer:channels=32", "wavelet_mixer:channels=512"),
    (PLAIN, "rope:ntk_from=0", "rope:ntk_from=32"),
    (PLAIN, "partial_rope:dims=4,ntk_from=0", "partial_rope:dims=4,ntk_from=9999"),
    (PLAIN, "gated_attention:form=static,bias=4", "gated_attention:form=static,bias=-1"),
    (PLAIN, "gated_attention:form=static", "gated_attention:form=static,window=4,scale=2,gain=2,learned_bias=false"),
    (PLAIN, "gated_attention:window=0", "gated_attention:window=32"),
    (PLAIN, "input_smear:window=32", "input_smear:window=512"),
    (PLAIN.with_(layers=1), "q_gain:slope=0", "q_gain:slope=0.5"),
    (PLAIN, "two_lanes:last=4", "two_lanes:last=4,spare=true"),
    (PLAIN.without("resid_mix"), "two_lanes:x0=both", "two_lanes:x0=first"),
    (BARE, "two_lanes:skips=both", "two_lanes:skips=first"),
    (PLAIN, "depth_recurrence:first=1,final=1,mode=inline", "depth_recurrence:first=1,final=1,mode=each"),
    (BARE, "depth_recurrence:first=2,final=3,mode=tail", "depth_recurrence:first=2,final=3,mode=inline"),
    (PLAIN.with_(layers=1), "unet_skips:gated=false", "unet_skips:gated=true"),
    (PLAIN.with_(layers=1), "value_residual:form=pair", "value_residual:form=gate"),
    (PLAIN, "orthogonal_init:smallest=17", "orthogonal_init:smallest=32"),
    (PLAIN, "orthogonal_init:smallest=4", "orthogonal_init:smallest=16"),
    (PLAIN, "orthogonal_init:smallest=100", "orthogonal_init:smallest=200,outputs=scaled"),
    (PLAIN, "orthogonal_init:smallest=8", "orthogonal_init:smallest=8,tables=true,side_scale=true"),
    (RICH, "orthogonal_init:smallest=4", "orthogonal_init:smallest=4,tables=true"),  # the bigram table starts at zero
    (PLAIN, "muon:momentum_warmup=0,momentum_start=0.85", "muon:momentum_warmup=0,momentum_start=0.5"),
    (PLAIN, "muon:momentum=0.9,momentum_start=0.9", "muon:momentum=0.9,momentum_start=0.9,momentum_warmup=0.7"),
    (PLAIN, "muon_eq_r:momentum_warmup=0", "muon_eq_r:momentum_warmup=0,momentum_start=0.5"),
    (PLAIN, "parallel_muon:momentum_warmup=0", "parallel_muon:momentum_warmup=0,momentum_start=0.5"),
    (PLAIN, "muon:weight_decay=0", "muon:weight_decay=0,decay_hold=0.2,decay_end=0.5"),
    (PLAIN, "muon:weight_decay=0.1,decay_end=1", "muon:weight_decay=0.1,decay_end=1,decay_hold=0.2"),
    (PLAIN, "adam_groups:weight_decay=0", "adam_groups:weight_decay=0,scale_decay=0.5"),
    (PLAIN, "adam_groups:beta2=0.95", "adam_groups:beta2=0.95,scale_beta2=0.95"),
    (PLAIN, "adam_groups:head_lr=0.008", "adam_groups:head_lr=0.1"),
    (PLAIN, "adam_groups:side=muon", "adam_groups:side=adam"),
    (PLAIN, "ema:decay=0.9,horizon=0.05", "ema:decay=0.9,horizon=0.5"),
    (PLAIN.with_(parse("warmdown:fraction=1.25")), "ste_qat:threshold=0.8", "ste_qat:threshold=1"),
    (PLAIN.with_(parse("warmdown:fraction=1.25")), "crown_q:threshold=0.9", "crown_q:threshold=1"),
    (PLAIN, "ste_qat:threshold=1", "ste_qat:threshold=1,floor=true,extended=true,bits=5"),
    (PLAIN, "ste_qat:threshold=1,where=stored", "ste_qat:threshold=1,where=all,bits=5"),  # nothing is kept in fp16
    (PLAIN.with_(parse("mixed_rows:late_keys=1")), "ste_qat:threshold=1,where=large", "ste_qat:threshold=1,where=all,bits=6"),
    (PLAIN, "mixed_rows:late_keys=4", "mixed_rows:late_keys=4,bigram=2,value=3,head=16"),
    (PLAIN.with_(layers=2), "mixed_rows:late_keys=2", "mixed_rows:late_keys=4"),
    (PLAIN, "int8_rows:small=0", "int8_rows:small=511"),
    (PLAIN, "int8_rows:small=1024", "int8_rows:small=2047"),
    (RICH, "ternary_rows:small=0", "ternary_rows:small=300"),  # what is that small is fp16 there anyway
    (PLAIN.with_(parse("int4_rows:table=16")), "sd_clip:table=20", "sd_clip:table=4"),
    (PLAIN, "mixed_clip:mlp=sd_clip", "mixed_clip:mlp=sd_clip,bigram=sd_clip,value=mse_clip,side=sd_clip,head=sd_clip"),
    (PLAIN, "sd_clip:k=9", "sd_clip:k=9,mlp=9,attention=9"),
    (PLAIN.with_(parse("mixed_rows:mlp=16")), "sd_clip:mlp=0", "sd_clip:mlp=7"),
    (PLAIN, "sd_clip:importance=0", "sd_clip:importance=0,by=row"),
    (PLAIN, "gptq:tokens=256", "gptq:tokens=287"),
    (PLAIN, "gptq:tokens=256,tables=false", "gptq:tokens=256,tables=false,table_damping=3"),
    (UNTIED, "gptq:tokens=256", "gptq:tokens=256,table_damping=3"),
    (PLAIN, "gptq:tokens=256,text=own", "gptq:tokens=256,text=own,windows=documents"),
    (GPTQ, "awq_lite:width=64", "awq_lite:width=200"),
    (PLAIN.with_(parse("int4_rows:table=16")), "gptq:tokens=256", "gptq:tokens=256,tables=false"),
    (UNTIED, "gptq:tokens=256", "gptq:tokens=256,tables=false"),
    (PLAIN, "magnitude:fraction=0", "magnitude:fraction=0,when=after,mask=false,small=99"),
    (PLAIN, "magnitude:fraction=0.3,when=before", "magnitude:fraction=0.3,when=after"),
    (GPTQ, "magnitude:fraction=0.3,when=after", "magnitude:fraction=0.3,when=after,mask=false"),
    (PLAIN, "magnitude:fraction=0.3,small=512", "magnitude:fraction=0.3,small=1023"),
    (PLAIN, "selective_prune:most=0", "selective_prune:most=0,tolerance=0.01"),
    (PLAIN, "adamw_ttt:chunk=64,blocks=4", "adamw_ttt:chunk=64,blocks=16"),
    (PLAIN, "sgd_ttt:chunk=64,freeze=4", "sgd_ttt:chunk=64,freeze=16"),
    (PLAIN, "adamw_ttt:chunk=64,rows=2", "adamw_ttt:chunk=64,rows=16"),
    (PLAIN, "sgd_ttt:chunk=64,rows=2", "sgd_ttt:chunk=64,rows=128"),
]  # fmt: skip

# Neighbours of the above that are different models, and must stay different recipes.
DIFFERENT: list[tuple[Recipe, str, str]] = [
    (PLAIN, "xsa:last=4", "xsa:last=3"),
    (PLAIN, "depth_recurrence:first=2,final=3,mode=tail", "depth_recurrence:first=2,final=3,mode=inline"),
    (PLAIN, "rope:ntk_from=0", "rope:ntk_from=31"),
    (PLAIN, "gated_attention:window=0", "gated_attention:window=31"),
    (PLAIN, "two_lanes:last=2,skips=both", "two_lanes:last=2,skips=first"),
    (PLAIN, "orthogonal_init:smallest=16", "orthogonal_init:smallest=17"),
    (RICH, "orthogonal_init:smallest=4", "orthogonal_init:smallest=4,side_scale=true"),
    (RICH, "bigram_hash:buckets=64,dim=4,start=zero_projection", "bigram_hash:buckets=64,dim=4,start=both_live"),
    (PLAIN.with_(parse("bigram_hash:buckets=64,dim=4,start=both_live")), "adam_groups:side=muon", "adam_groups:side=adam"),
    (PLAIN, "muon:polynomial=fixed", "muon:polynomial=polar_express"),
    (PLAIN, "adam_groups:beta2=0.9", "adam_groups:beta2=0.9,scale_beta2=0.95"),
    (PLAIN, "ema:decay=0,horizon=0.5", "ema:decay=0,horizon=1"),
    (PLAIN, "ste_qat:threshold=1", "ste_qat:threshold=1,scales=quantile"),
    (PLAIN.with_(parse("mixed_rows:late_keys=1")), "ste_qat:threshold=1,where=stored", "ste_qat:threshold=1,where=large"),
    (PLAIN, "int8_rows:small=511", "int8_rows:small=512"),
    (PLAIN, "sgd_ttt:chunk=64,rows=1", "sgd_ttt:chunk=64,rows=2"),
    (GPTQ, "magnitude:fraction=0.3,when=before", "magnitude:fraction=0.3,when=after"),
    (GPTQ, "magnitude:fraction=0.3", "magnitude:fraction=0.3,mask=false"),
    (GPTQ, "gptq:tokens=256", "gptq:tokens=288"),
    (RICH, "mixed_clip:side=row_max", "mixed_clip:side=sd_clip"),
    (PLAIN, "sd_clip:k=9", "sd_clip:k=9,mlp=7"),
    (GPTQ, "gptq:tokens=256", "gptq:tokens=256,table_damping=3"),
    (GPTQ, "awq_lite:width=8", "awq_lite:width=9"),
]  # fmt: skip


def pair(around: Recipe, a: str, b: str) -> tuple[Recipe, Recipe, str]:
    first, second = parse(a), parse(b)
    return around.with_(first), around.with_(second), first.stage()


def as_given(around: Recipe, text: str, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe whose techniques keep their knobs exactly as they are written."""
    with monkeypatch.context() as patched:
        for cls in (Technique, *catalogue().values()):
            patched.setattr(cls, "canonical", lambda self, recipe: self)
        return around.with_(parse(text))


@pytest.mark.parametrize(("around", "a", "b"), [pytest.param(*c, id=f"{c[1]} = {c[2]}") for c in SAME])
def test_settings_that_mean_one_model_are_one_recipe(around, a, b, monkeypatch):
    ours, theirs, stage = pair(around, a, b)
    assert ours == theirs
    assert ours.hash == theirs.hash
    plain = (as_given(around, text, monkeypatch) for text in (a, b))
    first, second = (outcome(recipe, stage) for recipe in plain)
    assert first == second


@pytest.mark.parametrize(("around", "a", "b"), [pytest.param(*c, id=f"{c[1]} ≠ {c[2]}") for c in DIFFERENT])
def test_settings_that_mean_two_models_are_two_recipes(around, a, b):
    ours, theirs, stage = pair(around, a, b)
    assert ours.hash != theirs.hash
    assert outcome(ours, stage) != outcome(theirs, stage)


@pytest.mark.parametrize("name", list(catalogue()))
def test_a_canonical_form_is_its_own(name):
    """At either end of every knob: made again from its own JSON, a recipe is the same one."""
    for knob, rule in catalogue()[name].knobs().items():
        for value in rule.choices or (rule.low, rule.high):
            recipe = Recipe(TINY, techniques=(dataclasses.replace(parse(name), **{knob: value}),))
            again = Recipe.from_json(recipe.to_json())
            assert (again, again.hash) == (recipe, recipe.hash)


# Hashes of the presets before knobs had canonical forms: records and caches made with them stay theirs. That of seed_849's
# proxy is of November 2026, when its mixer's `update` ceased to follow the scale.
HASHES = {
    "baseline": ("6485e1d029fa", "44ef713f6c38"),
    "seed_211": ("a76059593777", "e44f6b64de34"),
    "seed_211_as_published": ("de2060917b54", "167d461edf61"),
    "seed_849": ("0f2b05a5eb13", "4aedb3b109bb"),
    "seed_680": ("d7edf4839ab0", "69928f8a92ad"),
    "seed_1499": ("81ecb1bae210", "e97bd00f2139"),
    "seed_295": ("1204579ee371", "f10e71f6ee82"),
}


@pytest.mark.parametrize("name", list(HASHES))
def test_presets_keep_their_hashes(name):
    small = preset(name, "proxy").with_(limit=730_000)  # the limit that all presets shared then
    assert (small.hash, preset(name, "full").hash) == HASHES[name]
    assert at_scale(PRESETS[name], "full") == PRESETS[name]


def test_a_knob_that_came_later_is_told_only_where_it_differs():
    assert parse("ste_qat").settings() == {"threshold": 0.5}
    assert parse("ste_qat:scales=row_max").settings() == {"threshold": 0.5, "scales": "row_max"}


def test_values_are_of_their_knobs_type():
    """1 and True, 2 and 2.0 are one value; what is no such value is refused."""
    cls = catalogue()
    assert cls["ema"](correct=1).settings() == cls["ema"](correct=True).settings()
    assert cls["ema"](correct=1).settings()["correct"] is True
    assert isinstance(cls["xsa"](last=2.0).last, int)
    with pytest.raises(ValueError, match=r"last=2\.5"):
        cls["xsa"](last=2.5)
