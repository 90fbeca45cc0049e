"""What `benchmarks.frontier` compares: every technique of the records, what it is added to, and what was published about it.

An `Arm` is one side of a comparison. It is compared with the arm that it names (``against``), seed by seed.
"""

from __future__ import annotations

from dataclasses import dataclass

GROUPS = ("in-training", "records", "caseops", "rounding", "windows", "adapters", "knobs")  # dearest value first


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
        name: within its group.
        techniques: added to the recipe; ``~`` in front changes the named knobs of a technique that is on, and no other knob.
        against: the arm it is compared with.
        rank: of the technique in the list of twenty; 0 for one that is not on it.
        words: how the page names it; empty for an arm that has no row of its own.
        published: what was published, in bits per byte.
        trained: the arm whose training and artifact this one shares; None for one with a training of its own.
    """

    name: str
    techniques: str = ""
    against: str = "baseline"
    rank: int = 0
    words: str = ""
    published: str = "–"
    trained: str | None = None


GATE = "gated_attention:bias=0,learned_bias=false,window=12"
LOOP = "depth_recurrence:first=1,final=1,times=3,mode=inline,begin=0.35"
LANES = "two_lanes:form=simultaneous,skips=first,x0=first"
IN_TRAINING = (
    Arm("baseline"),
    Arm("document_mask", "document_mask", rank=4, words="`document_mask`", published="−0.001 nats"),
    Arm(
        "gate_narrow",
        GATE + ",scale=0.5",
        rank=6,
        words="`gated_attention:window=12,scale=0.5,bias=0,learned_bias=false` (#1855)",
        published="−0.0005 … −0.003",
    ),
    Arm("input_smear", "input_smear", rank=7, words="`input_smear`", published="−0.0035 with 6"),
    Arm("lanes", LANES + ",last=2", rank=8, words=f"`{LANES},last=2`", published="−0.002"),
    Arm(
        "polar",
        "~muon:polynomial=polar_express",
        rank=9,
        words="`muon:polynomial=polar_express`",
        published="at most −0.0017, with 10",
    ),
    Arm("floor", "warmdown:floor=0.1", rank=10, words="`warmdown:floor=0.1`", published="as 9"),
    Arm("wd", "~muon:weight_decay=0.095", rank=10, words="`muon:weight_decay=0.095`"),
    Arm(
        "wd_taper",
        "~muon:weight_decay=0.095,decay_hold=0.7,decay_end=0.5",
        "wd",
        10,
        "… tapered (`decay_hold=0.7,decay_end=0.5`), against not tapered",
        "as 1",
    ),
    Arm("beta2", "adam_groups:beta2=0.99", rank=10, words="`adam_groups:beta2=0.99`", published="as 9"),
    Arm("context_growth", "context_growth", rank=11, words="`context_growth`", published="−0.0010 (3 seeds against 3)"),
    Arm("loop", LOOP, rank=16, words=f"`{LOOP}`", published="−0.002 … −0.003"),
    Arm("loop_steps", LOOP + ",growth=steps,full=0.65", "loop", 16, "… `growth=steps`, against at once"),
    Arm("xsa", "xsa:last=4", rank=18, words="`xsa:last=4`", published="−0.002 … −0.018"),
    Arm("xsa_gated", "xsa:last=4,gated=true", "xsa", 18, "… `gated=true`, against not gated", "none"),
    Arm("qgain_mid", "q_gain:value=2.5", rank=18, words="`q_gain:value=2.5`, against 1.5"),
    Arm(
        "qgain_slope", "q_gain:value=2.0,slope=0.5", "qgain_mid", 18, "`q_gain:value=2,slope=0.5`, against `value=2.5`", "none"
    ),
    Arm("asym_live", "asym_logit", rank=20, words="`asym_logit`, in place of `softcap`", published="none"),
    Arm(
        "asym_published",
        "asym_logit:form=published",
        rank=20,
        words="`asym_logit:form=published`",
        published="claimed; 0 in truth",
    ),
)
KNOBS = (
    Arm("gate_gain", GATE + ",gain=2", rank=6, words="`gated_attention:window=12,gain=2,bias=0,learned_bias=false` (#1667)"),
    Arm(
        "gate_dense",
        "gated_attention:bias=0,learned_bias=false",
        rank=6,
        words="`gated_attention:bias=0,learned_bias=false`, all channels (#1736)",
        published="neutral against the narrow one (#1787)",
    ),
    Arm("lanes1", LANES + ",last=1", rank=8, words=f"`{LANES},last=1`, the published share of the layers"),
    Arm("scale_beta2", "adam_groups:scale_beta2=0.99", rank=10, words="`adam_groups:scale_beta2=0.99`"),
    Arm(
        "decay_groups",
        "adam_groups:weight_decay=0.085,scale_decay=0.235",
        rank=10,
        words="`adam_groups:weight_decay=0.085,scale_decay=0.235`",
        published="as 9",
    ),
    Arm(
        "loop_thirds",
        LOOP + ",growth=thirds",
        "loop",
        16,
        "recurrence with `growth=thirds`, against at once",
        "−0.0004 (3 seeds)",
    ),
    Arm("loop_blend", LOOP + ",blend=true", "loop", 16, "recurrence with `blend=true`, against without", "−0.0009"),
    Arm("loop_inject", LOOP + ",inject=true", "loop", 16, "recurrence with `inject=true`, against without"),
    Arm("qgain5", "q_gain:value=5.25", rank=18, words="`q_gain:value=5.25`, against 1.5", published="−0.0002 (5.25 against 5)"),
)

_GRIDS, _CLIP, _PACKED = "mixed_rows:mlp=6,attention=6,table=7", "sd_clip:table=14", "shared_row rans_codec"
_Q = f"{_GRIDS} {_CLIP} gptq {_PACKED}"


def _rounded(name: str, techniques: str, rank: int = 0, words: str = "", published: str = "–", against: str = "grid") -> Arm:
    return Arm(name, techniques, against, rank, words, published, "baseline")


ROUNDING = (
    _rounded("grid", _Q),
    _rounded(
        "role",
        _Q.replace(_CLIP, "sd_clip:mlp=11.5,attention=13,table=14"),
        5,
        "`sd_clip:mlp=11.5,attention=13,table=14`",
        "−0.001",
    ),
    _rounded("row", _Q.replace(_CLIP, _CLIP + ",importance=0.175,by=row"), 5, "`importance=0.175,by=row` (#1412)"),
    _rounded("matrix", _Q.replace(_CLIP, _CLIP + ",importance=0.175"), 5, "`importance=0.175,by=matrix`"),
    _rounded(
        "table8",
        _Q.replace("table=7", "table=8").replace("table=14", "table=20"),
        5,
        "table on 8 bits, k = 20",
        "~0 bpb, +530 kB (#1586)",
    ),
    _rounded("lqer", _Q + " lqer", 12, "`lqer`", "claimed −0.009; logs at most −0.0003"),
    _rounded("lqer_gain", _Q + " lqer:select=gain", 12, "`lqer:select=gain`"),
    _rounded("awq", _Q + " awq_lite", 13, "`awq_lite`", "−0.0003, +87 kB"),
    _rounded(
        "damping",
        _Q.replace("gptq", "gptq:mlp_damping=2,table_damping=0.5"),
        17,
        "`gptq:mlp_damping=2,table_damping=0.5`",
        "−0.0006 (unpaired)",
    ),
    _rounded("windows", _Q.replace("gptq", "gptq:windows=documents"), 17, "`gptq:windows=documents`"),
    _rounded("rotate", _Q + " rotate_values", 17, "`rotate_values`", "none"),
    _rounded("nearest", _Q.replace("gptq ", ""), 0, "`nearest` in place of `gptq`"),
    _rounded("shuffle_brotli", _Q.replace(_PACKED, "byte_shuffle brotli_codec")),
    _rounded(
        "similar_brotli",
        _Q.replace(_PACKED, "similar_rows brotli_codec"),
        14,
        "`similar_rows`, against `byte_shuffle`, both with `brotli_codec`",
        "−280 kB with an archiver",
        "shuffle_brotli",
    ),
    _rounded(
        "similar_rans",
        _Q.replace(_PACKED, "similar_rows rans_codec"),
        14,
        "`similar_rows`, against `shared_row`, both with `rans_codec`",
    ),
)
WINDOWS = (
    Arm("isolated", "chunked:isolated=true", words="`chunked:isolated=true`", trained="baseline"),
    Arm(
        "mask_isolated",
        "document_mask chunked:isolated=true",
        "isolated",
        4,
        "`document_mask`, both scored in isolated windows",
        trained="document_mask",
    ),
    Arm(
        "context160", "chunked:context=160", rank=11, words="`chunked:context=160` (1.25 × the training's)", trained="baseline"
    ),
    Arm(
        "context256",
        "chunked:context=256",
        rank=11,
        words="`chunked:context=256`",
        published="−0.0006 (1.25 ×)",
        trained="baseline",
    ),
    Arm(
        "growth_context160",
        "context_growth chunked:context=160",
        "context160",
        11,
        "`context_growth`, both scored with `chunked:context=160`",
        trained="context_growth",
    ),
    Arm("sliding", "sliding_window:stride=32", words="`sliding_window:stride=32`", trained="baseline"),
    Arm("tilt", "ngram_tilt", rank=15, words="`ngram_tilt`", published="−0.0006", trained="baseline"),
    Arm(
        "tilt_leak",
        "ngram_tilt:experts=as_published",
        rank=15,
        words="`ngram_tilt:experts=as_published` (a leak)",
        trained="baseline",
    ),
)

SECOND = "lora_ttt:rank=80,alpha=144,chunk=16,beta1=0,beta2=0.99,decay=0.5,targets=q_k_v_o_mlp_head"


def _adapts(name: str, techniques: str, rank: int = 0, words: str = "", published: str = "–", against: str = "chunked") -> Arm:
    return Arm(name, techniques, against, rank, words, published, "baseline")


ADAPTERS = (
    _adapts("chunked", "chunked"),
    _adapts(
        "still",
        "lora_ttt:rank=1,rate=0.00001,chunk=16",
        0,
        "windows that move by 16, nearly no learning (`lora_ttt:rank=1,rate=0.00001,chunk=16`)",
    ),
    _adapts("first", "lora_ttt:chunk=32", 0, "`lora_ttt:chunk=32`, the first generation"),
    _adapts("second", SECOND + ",rate=0.0001", 2, "the second generation at its published rate, 0.0001", "−0.0125"),
    _adapts("second_ten", SECOND + ",rate=0.001", 2, "… at ten times that rate, 0.001"),
    _adapts(
        "phased",
        SECOND + ",rate=0.001 phased_sgd:share=0.05,chunk=2048",
        3,
        "… at 0.001 with `phased_sgd:share=0.05`, against without",
        "−0.0006 … −0.0014",
        "second_ten",
    ),
    _adapts("mixer", "byte_mixer", 19, "`byte_mixer`, the proper form", "unknown"),
)
CASEOPS = (
    Arm("verbatim", "verbatim", "verbatim"),
    Arm("caseops", "caseops", "verbatim", 1, "`caseops` − `verbatim`", "−0.004 with a taper (3 seeds)"),
    Arm("fused", "caseops:fusion=true", "caseops", 1, "fused − `caseops`", "−0.0025 (3 seeds)"),
)
RECORDS = ("record_2014", "record_1394", "seed_849")
ARMS = {
    "in-training": IN_TRAINING,
    "knobs": KNOBS,
    "rounding": ROUNDING,
    "windows": WINDOWS,
    "adapters": ADAPTERS,
    "caseops": CASEOPS,
}
