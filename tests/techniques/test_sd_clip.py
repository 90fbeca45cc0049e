import pytest
import torch

from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from tests.matrices import LINEAR, TABLE, matrix, weights

ATTENTION = ParameterInfo("a", "linear", "attention", (64, 96), 0)
SIDE = ParameterInfo("s", "linear", "bigram", (64, 96), None)


def test_step_is_the_same_share_of_every_rows_deviation():
    w = matrix(32, 200, spread=0.5)
    scales = parse("sd_clip:k=10").build(None)(w, 31, LINEAR)
    torch.testing.assert_close(scales / w.std(1, correction=0), torch.full((32,), 10 / 31))


def test_tables_have_a_k_of_their_own():
    build = parse("sd_clip:k=10,table=20").build(None)
    w = matrix(8, 64)
    torch.testing.assert_close(build(w, 127, TABLE), 2 * build(w, 127, LINEAR))


def test_roles_have_a_k_of_their_own_where_they_are_given_one():
    """#1855: 11.5 for the MLP, 13 for attention, 14 for the table, 12.85 for whatever else there is."""
    technique, w = parse("sd_clip:mlp=11.5,attention=13,table=14"), matrix(8, 64)
    for info, k in ((LINEAR, 11.5), (ATTENTION, 13.0), (TABLE, 14.0), (SIDE, 12.85)):
        torch.testing.assert_close(technique.build(None)(w, 31, info), k * w.std(1, correction=0) / 31)
        assert technique.reach(64, 31, info) == k


@pytest.mark.parametrize("strength", [0.175, -0.4])
@pytest.mark.parametrize("by", ["row", "matrix"])
def test_important_rows_have_other_steps(by, strength):
    infos = [ParameterInfo(n, "linear", role, (6, 8), 0) for n, role in (("u", "mlp"), ("d", "mlp"), ("q", "attention"))]
    w = weights(infos, spread=1.0)
    inputs = {n: torch.randn(50, 8) * (i + 1) for i, n in enumerate(w)}
    build = parse(f"sd_clip:k=10,importance={strength},by={by}").build(None)
    build.study(w, infos, {n: x.T @ x / 50 for n, x in inputs.items()})
    rows = {n: [sum(abs(w[n][r, j]) * inputs[n][:, j].square().mean() for j in range(8)) / 8 for r in range(6)] for n in w}
    means = {n: sum(rows[n]) / 6 for n in w}
    role = {"u": (means["u"] + means["d"]) / 2, "d": (means["u"] + means["d"]) / 2, "q": means["q"]}
    for info in infos:
        scales = build(w[info.name], 31, info)
        for r in range(6):
            share = rows[info.name][r] / means[info.name] if by == "row" else means[info.name] / role[info.name]
            factor = max(0.25, 1 + strength * (share - 1))
            torch.testing.assert_close(scales[r], factor * 10 * w[info.name][r].std(correction=0) / 31)


def test_importance_wants_hessians():
    with pytest.raises(ValueError, match="Add `gptq`"):
        Recipe().with_(parse("sd_clip:importance=0.1")).check()
