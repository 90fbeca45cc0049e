"""Least squares against statsmodels, aliases, shared trainings."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from golflab.analysis.inference.design_matrix import Design
from golflab.analysis.inference.pair_selection import pair_leak, select_pairs
from golflab.analysis.inference.regression import hc3, least_squares, residuals
from golflab.search.design.matrices import folded_plackett_burman


def coded(flags):
    return np.hstack([np.ones((len(flags), 1)), flags - 0.5])


def named(matrix, pairs=()):
    return Design(matrix, ("1", *(f"t{k}" for k in range(matrix.shape[1] - 1))), tuple(pairs))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(20, 90), k=st.integers(1, 8))
def test_agrees_with_statsmodels(seed, n, k):
    generator = np.random.default_rng(seed)
    flags = (generator.random((n, k)) < 0.5).astype(float)
    matrix = np.hstack([coded(flags), generator.normal(size=(n, 1))])
    pairs = [(1, 2)] if k > 1 else []
    design = named(matrix, pairs)
    whole = np.hstack([design.block(start) for start in range(0, 1)])
    if np.linalg.matrix_rank(whole) < whole.shape[1]:
        return
    y = generator.normal(2.0, 0.01, n)
    fit, reference = least_squares(design, y), sm.OLS(y, whole).fit()
    assert np.allclose(fit.beta, reference.params, atol=1e-8, rtol=1e-8)
    assert np.allclose(fit.se, reference.bse, atol=1e-10, rtol=1e-8)
    assert np.allclose(fit.p, reference.pvalues, atol=1e-8)
    assert np.allclose(np.array([fit.beta - fit.half_width(), fit.beta + fit.half_width()]).T, reference.conf_int(), atol=1e-8)
    robust = hc3(fit, residuals(fit, y))
    if robust.errors == "HC3" and n < 20 * design.size:
        assert np.allclose(np.sqrt(np.diag(robust.covariance)), reference.HC3_se, rtol=1e-7)


def test_blocks_of_rows_change_nothing():
    generator = np.random.default_rng(0)
    matrix = coded((generator.random((20_000, 5)) < 0.5).astype(float))
    design = named(matrix, [(1, 2), (3, 5)])
    y = generator.normal(size=len(matrix))
    whole = np.hstack([matrix, matrix[:, [1]] * matrix[:, [2]], matrix[:, [3]] * matrix[:, [5]], y[:, None]])
    assert np.allclose(design.gram(y[:, None]), whole.T @ whole, rtol=1e-12, atol=1e-9)


def test_refuses_what_cannot_be_told_apart():
    generator = np.random.default_rng(1)
    flags = (generator.random((40, 4)) < 0.5).astype(float)
    flags[:, 3] = flags[:, 1]
    fit = least_squares(named(coded(flags)), generator.normal(size=40))
    assert np.isnan(fit.beta[[2, 4]]).all()
    assert fit.aliases[2] == [4]
    assert np.isfinite(fit.beta[[1, 3]]).all()
    assert np.isinf(fit.vif[2])


def test_no_degree_of_freedom_no_error():
    flags = np.vstack([np.ones(4), 1 - np.eye(4)])
    fit = least_squares(named(coded(flags)), np.arange(5.0))
    assert np.isnan(fit.se).all()


def test_shared_trainings_match_a_mixed_model():
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), 4)
    trained = np.repeat((generator.random(30) < 0.5).astype(float), 4)
    after = np.tile([0.0, 0.0, 1.0, 1.0], 30)
    y = 0.3 * trained - 0.1 * after + np.repeat(generator.normal(0, 0.05, 30), 4) + generator.normal(0, 0.01, 120)
    fit = least_squares(named(coded(np.column_stack([trained, after]))), y, groups)
    reference = sm.MixedLM(y, coded(np.column_stack([trained, after])), groups).fit(reml=True)
    assert np.allclose(fit.beta, reference.fe_params, atol=1e-5)
    assert np.allclose(fit.se, reference.bse_fe, rtol=2e-2)
    assert fit.sigma_training == pytest.approx(float(np.sqrt(reference.cov_re[0, 0])), rel=0.03)
    assert fit.se[2] < fit.se[1] / 4  # judged within trainings, where its error is small
    assert list(fit.df) == [28, 28, 89]


def test_a_folded_design_keeps_pairs_out_of_main_effects():
    names = [f"t{k}" for k in range(11)]
    flags = np.array([[n in run for n in names] for run in folded_plackett_burman(names)], float)
    pairs = [(i, j) for i in range(1, 12) for j in range(i + 1, 12)]
    full = named(coded(flags), pairs)
    y = (
        2.0
        - 0.01 * flags[:, 0]
        - 0.01 * flags[:, 1]
        + 0.02 * flags[:, 0] * flags[:, 1]
        + np.random.default_rng(3).normal(0, 1e-4, len(flags))
    )
    gram = full.gram(y[:, None])
    assert pair_leak(full, gram, 11) < 1e-12
    assert full.take(select_pairs(full, gram, len(y), list(range(1, 12)))).pairs == ((1, 2),)
    random = (np.random.default_rng(4).random((24, 11)) < 0.5).astype(float)
    loose = named(coded(random), pairs)
    assert pair_leak(loose, loose.gram(np.zeros((24, 1))), 11) > 0.3
