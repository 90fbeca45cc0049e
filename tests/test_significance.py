"""Multiplicity and power against statsmodels; the record rule; sequences that may be looked at any time."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from golflab.analysis.inference.sequences import confidence_sequence, record_sequence
from golflab.analysis.inference.significance import (
    benjamini_hochberg,
    bits_per_byte,
    detectable,
    holm,
    power,
    probability_better,
    record_rule,
    record_rules,
    seeds_needed,
)


def test_multiplicity_agrees_and_skips_the_unknown():
    p = np.array([0.001, 0.04, np.nan, 0.03, 0.5])
    known = p[np.isfinite(p)]
    assert np.allclose(holm(p)[np.isfinite(p)], multipletests(known, method="holm")[1], atol=1e-12)
    assert np.allclose(benjamini_hochberg(p)[np.isfinite(p)], multipletests(known, method="fdr_bh")[1], atol=1e-12)
    assert np.isnan(holm(p)[2])


@pytest.mark.parametrize("df", [3, 5, 47, 300])
def test_power_agrees_with_statsmodels(df):
    n = df + 1
    nc = detectable(df)
    assert TTestPower().power(nc / math.sqrt(n), n, 0.05) == pytest.approx(0.8, abs=1e-8)
    assert power(0.002, 0.001, df) == pytest.approx(TTestPower().power(2 / math.sqrt(n), n, 0.05), abs=1e-8)


def test_the_record_rule():
    margin = bits_per_byte(0.005, 2.436)
    assert margin == pytest.approx(0.00296, abs=2e-5)  # 0.59225 bits per byte for a nat at SP1024
    old, gaps = np.array([1.1, 1.1004, 1.0997]), np.array([0.0001, -0.0001, 0.0])
    good = record_rule(old - margin - 0.002 + gaps, old, 2.436, paired=True).iloc[0]
    close = record_rule(old - margin - 0.00005 + gaps, old, 2.436, paired=True).iloc[0]
    worse = record_rule(old + 0.001, old, 2.436).iloc[0]
    assert good.passes
    assert good.p == pytest.approx(stats.ttest_1samp(good.delta_bpb + gaps + margin, 0, alternative="less").pvalue, abs=1e-12)
    assert not close.passes
    assert 3 < close.seeds_needed < 100
    assert not worse.passes
    assert worse.seeds_needed == math.inf
    assert "would not help" in worse.doubt
    with pytest.raises(ValueError, match="needs at least 2"):
        record_rule([1.0], [1.0, 1.1], 2.4)


def test_unpaired_is_welch():
    a, b = np.array([1.0, 1.1, 1.05]), np.array([1.2, 1.25, 1.22, 1.3])
    row = record_rule(a, b, 2.4, nats=0.0).iloc[0]
    welch = stats.ttest_ind(a, b, equal_var=False, alternative="less")
    assert row.p == pytest.approx(welch.pvalue, abs=1e-12)
    assert row.df == pytest.approx(welch.df, abs=1e-9)


def test_seeds_needed_reaches_the_power():
    n = int(seeds_needed(0.001, 0.0007))
    crit = stats.t.ppf(0.99, n - 1)
    assert stats.nct.sf(crit, n - 1, 0.001 / 0.0007 * math.sqrt(n)) >= 0.8
    assert seeds_needed(0.0, 1.0) == math.inf
    assert seeds_needed(3e-5, 1e-3) == pytest.approx(11_155, abs=5)  # (z_0.99 + z_0.8)² · (1e-3 / 3e-5)²


@pytest.mark.parametrize("spread", [None, 1.0])
def test_sequences_hold_at_all_times(spread):
    """Whoever looks after each of 100 differences is wrong in 5 % of all sequences at most, the spread being known or not."""
    generator = np.random.default_rng(0)
    wrong = sum(confidence_sequence(generator.normal(0, 1, 100), spread)["decided"].any() for _ in range(400))
    assert wrong / 400 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)
    clear = confidence_sequence(generator.normal(-2, 1, 40), spread)
    assert clear["decided_at_n"].iloc[0] < 20
    with pytest.raises(ValueError, match="positive spread"):
        confidence_sequence([0.1], 0.0)


def test_an_interval_holds_the_means_that_the_sequential_t_test_does_not_refuse():
    """By the Bayes factor itself, integrated over the prior: at the ends of an interval it is 1 / alpha."""
    x, level, tuned = np.random.default_rng(3).normal(0.3, 1, 12), 0.95, 10
    row = confidence_sequence(x, level=level, tuned_for=tuned).iloc[-1]
    rho = tuned / (2 * math.log(20) + math.log(1 + 2 * math.log(20)))
    sizes = np.linspace(-8, 8, 20_001) / math.sqrt(rho)
    for end in (row.low, row.high):
        t = stats.ttest_1samp(x, end).statistic
        odds = stats.nct.pdf(t, len(x) - 1, sizes * math.sqrt(len(x))) / stats.t.pdf(t, len(x) - 1)
        factor = np.trapezoid(odds * stats.norm.pdf(sizes, scale=1 / math.sqrt(rho)), sizes)
        assert factor == pytest.approx(20, rel=1e-3)


def test_the_record_rule_may_be_asked_after_every_seed():
    generator, margin = np.random.default_rng(1), bits_per_byte(0.005, 2.4)
    old = generator.normal(1.1, 0.001, (300, 60))
    new = old - margin + generator.normal(0, 0.0005, old.shape)  # better by just the margin: that is not enough
    wrong = sum(record_sequence(n, o, 2.4)["passes"].any() for n, o in zip(new, old, strict=True))
    assert wrong / 300 <= 0.01 + 2 * math.sqrt(0.01 * 0.99 / 300)
    found = record_sequence(new[0] - 0.002, old[0], 2.4)
    assert found["passed_at_n"].iloc[0] <= 12
    assert not found["passes"].iloc[:5].any()
    with pytest.raises(ValueError, match="the same seeds"):
        record_sequence(new[0], old[0][:3], 2.4)


def test_probability_better():
    row = probability_better([1.0, 1.01, 0.99], [1.1, 1.12, 1.11]).iloc[0]
    assert row.p_run == 1.0
    assert row.p_mean > 0.99
    same = probability_better([1.0, 1.1], [1.0, 1.1]).iloc[0]
    assert same.p_run == 0.5


def test_three_rules_in_one_table():
    old, gaps = np.array([1.0594, 1.0597, 1.0592]), np.array([0.0003, 0.0, -0.0004])
    found = record_rules(old - 0.0012 + gaps, old, 2.9).set_index("rule")
    assert list(found.index) == ["readme", "accepted", "fixed"]
    assert not found.loc["readme", "passes"]
    assert "better recipe" in found.loc["readme", "next"]  # 0.0012 is less than the margin of 0.0025
    assert found.loc["accepted", "passes"]
    assert found.loc["accepted", "next"] == "nothing"
    welch = stats.ttest_ind(old - 0.0012 + gaps, old, equal_var=False, alternative="less").pvalue
    assert found.loc["accepted", "statistic"] == pytest.approx(welch, abs=1e-12)
    assert found.loc["fixed", "limit"] == pytest.approx(0.004 / math.log(2) / 2.9)
    assert found.loc["fixed", "statistic"] == pytest.approx((0.0012 - gaps.mean()) * math.sqrt(3))
    small = record_rules(old - 0.0003 + gaps, old, 2.9, spread=0.0006).set_index("rule").loc["fixed"]
    n = int(small.seeds_needed)
    assert stats.norm.sf((small.limit - (0.0003 - gaps.mean()) * math.sqrt(n)) / 0.0006) >= 0.8
    assert f"{n - 3} more seed" in small.next
    with pytest.raises(ValueError, match="must be positive"):
        record_rules(old, old, 2.9, spread=0.0)


def test_each_rule_passes_a_recipe_just_at_what_it_asks_as_often_as_it_says():
    generator, sd, margin = np.random.default_rng(4), 0.0009, bits_per_byte(0.005, 2.9)
    old, new = generator.normal(1.1, sd, (20_000, 3)), generator.normal(1.1, sd, (20_000, 3))
    p = stats.ttest_ind(new, old, axis=1, equal_var=False, alternative="less").pvalue
    limit = bits_per_byte(0.004, 2.9)
    fixed, loose = ((1.1 - new.mean(1)) * math.sqrt(3), (old.mean(1) - new.mean(1)) * math.sqrt(3))
    for k in range(40):  # the table decides as these formulas do
        found = record_rules(new[k], old[k], 2.9, target=1.1, spread=sd).set_index("rule")
        same = record_rules(new[k], old[k], 2.9, spread=sd).set_index("rule").loc["fixed"]
        at_margin = record_rules(new[k] - margin, old[k], 2.9).set_index("rule").loc["readme"]
        told = (at_margin["passes"], found.loc["accepted", "passes"], found.loc["fixed", "passes"], same["passes"])
        assert told == (p[k] < 0.01, p[k] < 0.25, fixed[k] >= limit, loose[k] >= limit)
    rates = ((p < 0.01).mean(), (p < 0.25).mean(), (fixed >= limit).mean(), (loose >= limit).mean())
    says = (at_margin["error_rate"], found.loc["accepted", "error_rate"], found.loc["fixed", "error_rate"], same["error_rate"])
    for rate, level in zip(rates, says, strict=True):
        assert rate <= level + 2.5 * math.sqrt(level * (1 - level) / 20_000)
        assert rate > level / 2
