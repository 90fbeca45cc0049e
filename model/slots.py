"""Slots: the named places in the pipeline that techniques fill, in the order of a run."""

from __future__ import annotations

from dataclasses import dataclass

STAGES = ("data", "model", "train", "quantise", "pack", "evaluate")


@dataclass(frozen=True)
class Slot:
    """A named place in the pipeline.

    Attributes:
        name: its name in the code.
        stage: which of `STAGES` it belongs to.
        takes: the values it is given and the value it returns, with shapes.
        per_layer: whether `Technique.build` is called once per block (with its index) or once per model (with None).
        default: the technique that fills the slot when a recipe names none; None leaves it empty.
        many: whether it may hold several techniques at once. Only slots in which their order does not matter allow that.
    """

    name: str
    stage: str
    takes: str
    per_layer: bool = False
    default: str | None = None
    many: bool = False


# In the order of a forward pass, a training step, an export and an evaluation.
# B batch, T positions, D width, H query heads, K key/value heads, d head width, V vocabulary, L layers.
SLOTS: dict[str, Slot] = {
    slot.name: slot
    for slot in (
        Slot("text", "data", "text -> rewritten text and back, and the tokenizer of it; empty: the challenge's normalisation"),
        Slot("batches", "data", "token stream -> batches of (inputs, targets)", default="shuffled"),
        Slot("segments", "model", "ids (B,T) -> segments (B,T), which attention does not leave; in training only"),
        Slot("embed", "model", "ids (B,T), dtype -> (B,T,D), added to the token embedding", many=True),
        Slot("embed_mix", "model", "raw embeddings x (B,T,D), ids (B,T) -> x, before the first norm"),
        Slot("stem", "model", "x (B,T,D), ids (B,T) -> x, once after the first norm"),
        Slot(
            "path", "model", "training progress in [0, 1] -> the blocks in the order they run, and how many of them skips span"
        ),
        Slot("skips", "model", "x (B,T,D), outputs of all earlier steps, step, span -> x"),
        Slot("enter", "model", "x (B,T,D), x0 (B,T,D) -> x at the block's entrance", per_layer=True),
        Slot("wiring", "model", "x, the block's attention and MLP branches -> x; empty: one after the other", per_layer=True),
        Slot("norm", "model", "normalised x (B,T,D) -> x, on the input of attention and of the MLP", per_layer=True),
        Slot("value_add", "model", "ids (B,T), dtype -> what each layer adds to its values: (B,T,K,d) or None, one per layer"),
        Slot("value_mix", "model", "v (B,T,K,d), v of the first layer -> v", per_layer=True),
        Slot("qk_norm", "model", "q or k (B,T,H,d) -> same", per_layer=True),
        Slot("rotary", "model", "q or k (B,T,H,d), position of the first row -> same", default="rope"),
        Slot("q_gain", "model", "q (B,T,H,d) -> q", per_layer=True),
        Slot(
            "attend", "model", "q (B,Tq,H,d), k, v (B,T,K,d) -> y (B,Tq,H,d); empty: causal softmax attention", per_layer=True
        ),
        Slot("attn_out", "model", "y (B,T,H,d), v (B,T,K,d) -> y", per_layer=True),
        Slot("head_gate", "model", "y (B,T,H,d), the block's normed input (B,T,D) -> y", per_layer=True),
        Slot("mix", "model", "x (B,T,D) -> x, between the attention branch and the MLP branch", per_layer=True),
        Slot(
            "activation",
            "model",
            "hidden units (B,T,F) -> same, between the MLP's matrices",
            per_layer=True,
            default="relu_squared",
        ),
        Slot("branch_scale", "model", "a branch's output (B,T,D) -> same, before it is added", per_layer=True),
        Slot("leave", "model", "x (B,T,D), x0 (B,T,D) -> x at the block's exit", per_layer=True),
        Slot("exit", "model", "x (B,T,D), outputs of all steps -> x, before the final norm"),
        Slot("logits", "model", "logits (N,V) -> logits (N,V), with its slope (kernels.LogitMap)"),
        Slot("init", "model", "a matrix and its generator -> the initial matrix"),
        Slot("table_init", "model", "the token table and its generator -> the initial table"),
        Slot("matrix_update", "train", "matrices and their gradients -> a step", default="muon"),
        Slot("groups", "train", "tables and scales -> Adam groups", default="adam_groups"),
        Slot("schedule", "train", "progress in [0, 1] -> learning-rate multiplier", default="warmdown"),
        Slot("growth", "train", "progress in [0, 1] -> positions of a training sequence, and a factor of the learning rates"),
        Slot("clip_grad", "train", "gradients -> gradients"),
        Slot("fake_quant", "train", "model, recipe, multiplier -> the weights (out,in) the forward pass sees"),
        Slot("penalty", "train", "model, recipe, multiplier -> a scalar added to the loss", many=True),
        Slot("average", "train", "weights after each step -> the weights that are exported"),
        Slot("rotate", "quantise", "weights by name, their infos -> other weights of the same function"),
        Slot("prune", "quantise", "matrix (out,in), its info -> the matrix with zeros, masks during and after rounding"),
        Slot("bits", "quantise", "a parameter's info -> the grid it is stored on, None for fp16", default="int8_rows"),
        Slot("clip", "quantise", "matrix (out,in), largest level, its info -> one scale per row", default="row_max"),
        Slot("protect", "quantise", "weights, infos, Hessians, grids -> which columns are kept on a finer grid, by name"),
        Slot("rounding", "quantise", "matrix to round, with its scales, grid and Hessian -> integers", default="nearest"),
        Slot("correct", "quantise", "weights, quantised parameters -> quantised parameters with what corrects them"),
        Slot("trim", "quantise", "quantised parameters, their packed size, room -> parameters that pack into fewer bytes"),
        Slot("layout", "pack", "integers and fp16 numbers -> planes of bytes and back", default="shared_row"),
        Slot("codec", "pack", "planes of bytes -> fewer bytes and back", default="rans_codec"),
        Slot("windows", "evaluate", "document tokens -> windows and the positions each scores", default="chunked"),
        Slot("adapt", "evaluate", "scored text -> a model changed for the text that follows"),
        Slot(
            "adapt_all",
            "evaluate",
            "what is in `adapt`, which scores documents -> the same, with all weights trained in between",
        ),
        Slot("temperature", "evaluate", "logits (N,V) -> logits (N,V)"),
        Slot("mixer", "evaluate", "the model's distribution and the scored text -> a distribution"),
    )
}
