"""A ladder's statistics: noise, predictions and verdicts, on planted laws and by hand."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.ladder_worlds import RUNGS, rates, study, world
from golflab.analysis.ladder.advice import further_runs
from golflab.analysis.ladder.allocation import allocate
from golflab.analysis.ladder.check import against, held_out
from golflab.analysis.ladder.forecast import fit, predict, verdicts
from golflab.analysis.ladder.hierarchy import MIDDLE, Hierarchy, levy
from golflab.analysis.ladder.noise import checked, variances
from golflab.analysis.ladder.tails import CHANCES, LOG_SIZES, _sweeps


@pytest.fixture(scope="module")
def found():
    """What the predictions of a few made-up ladders are worth, by kind of world."""
    return {"mixed": rates(study("mixed", 4, draws=100)), "null": rates(study("null", 3, draws=100))}


def table(delta, se=0.002, replicates=3):
    """Two scales by three durations; ``delta`` says what a technique is worth at (log tokens per parameter, log parameters)."""
    rows = [
        (name, scale, size, d, law(np.log(d), np.log(size)), se, replicates)
        for name, law in delta.items()
        for scale, size in (("nano", 45e3), ("micro", 150e3))
        for d in (5.0, 20.0, 80.0)
    ]
    return pd.DataFrame(
        rows, columns=["technique", "scale", "parameters", "tokens_per_parameter", "delta_bpb", "se", "replicates"]
    )


def test_prediction_intervals_hold_the_truth_about_as_often_as_they_say(found):
    assert 0.80 <= found["mixed"]["coverage"] <= 0.97  # 90 % are meant, 48 techniques are counted


def test_false_verdicts_are_rare(found):
    assert found["null"]["flips"] + found["null"]["persists"] + found["null"]["grows"] <= 0.05
    assert found["mixed"]["false flips"] <= 0.05
    assert found["mixed"]["false persists"] <= 0.05


def test_it_predicts_better_than_the_smallest_rung(found):
    assert found["mixed"]["error"] < found["mixed"]["error of smallest"]


def test_what_is_constant_persists_and_what_is_nothing_cannot_be_told():
    laws = {f"t{k}": lambda x, z, k=k: -0.01 * k for k in range(6)}
    told = predict(fit(table(laws, se=0.0003), draws=100)).set_index("technique")
    assert told.loc["t5", "verdict"] in ("persists", "grows")
    assert told.loc["t5", "low"] < -0.05 < told.loc["t5", "high"]
    assert told.loc["t0", "verdict"] == "cannot tell"
    assert list(told.index) == ["t5", "t4", "t3", "t2", "t1", "t0"]


def test_a_line_over_the_logarithms_is_extrapolated():
    laws = {f"t{k}": lambda x, z, k=k: 0.004 * (k - 2) * (x - 3) for k in range(5)}
    told = predict(fit(table(laws, se=0.0002), parameters=150e3, tokens_per_parameter=320.0, draws=100)).set_index("technique")
    expected = np.array([0.004 * (k - 2) * (np.log(320) - 3) for k in range(5)])
    assert np.abs(told.loc[[f"t{k}" for k in range(5)], "delta_full"] - expected).max() < 0.006


def test_verdicts_of_sure_draws():
    here = np.full((100, 5), 0.01)
    full = np.tile([0.012, 0.008, 0.001, -0.01, 0.0], (100, 1))
    full[:50, 4] = 0.009
    full[50:, 4] = -0.004
    assert verdicts(here, full) == ["grows", "persists", "fades", "flips", "cannot tell"]
    assert verdicts(-here, -full) == ["grows", "persists", "fades", "flips", "cannot tell"]
    assert verdicts(np.where(np.arange(100)[:, None] % 2, here, -here), full)[:4] == ["cannot tell"] * 4


def test_the_likelihood_is_that_of_the_gaussian_it_says():
    rng = np.random.default_rng(0)
    technique, rungs = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1])
    at, delta, variance = rng.normal(size=(5, 2)), rng.normal(size=5) * 0.01, np.full(5, 1e-4)
    model = Hierarchy(technique, at, delta, variance, rungs, np.zeros(2))
    covariance = np.zeros((5, 5))
    a, b, c, lx, lz, field, wobble, rho, bend = MIDDLE
    bent = -np.expm1(-np.exp(bend) * at) / np.exp(bend)
    for i in range(5):
        for j in range(5):
            slow = np.array([[1, 0, 0], [lx, 1, 0], [lz, 0, 1]])
            own = slow @ np.diag(np.exp([2 * a, 2 * b, 2 * c])) @ slow.T
            common = slow @ np.diag([0.01**2, 0.002**2, 0.002**2]) @ slow.T
            p, q = np.array([1, *bent[i]]), np.array([1, *bent[j]])
            covariance[i, j] = p @ common @ q
            if technique[i] == technique[j]:
                near = (np.hypot(*at[i]) + np.hypot(*at[j]) - np.hypot(*(at[i] - at[j]))) / 2
                covariance[i, j] += p @ own @ q + np.exp(2 * field) * near + (rungs[i] == rungs[j]) * np.exp(2 * wobble)
            if rungs[i] == rungs[j]:
                covariance[i, j] += 1e-4 * (1.0 if i == j else 1 / (1 + np.exp(-rho)))
    assert np.allclose(model.covariance(MIDDLE), covariance, rtol=1e-10)
    cost = 0.5 * (np.linalg.slogdet(covariance)[1] + delta @ np.linalg.solve(covariance, delta))
    assert model.cost(MIDDLE) == pytest.approx(cost)


def test_a_brownian_field_varies_by_the_distance():
    at = np.random.default_rng(1).normal(size=(6, 2))
    k = levy(at, at)
    gap = np.diag(k)[:, None] + np.diag(k) - 2 * k
    assert np.allclose(gap, np.linalg.norm(at[:, None] - at, axis=2))
    assert np.linalg.eigvalsh(k).min() > -1e-12


def test_noise_is_drawn_towards_what_is_usual_on_the_rung():
    rng = np.random.default_rng(0)
    rows = []
    for rung, sd in enumerate((0.01, 0.002)):
        for k in range(60):
            draws = rng.normal(0, sd, 3)
            rows.append((f"t{k}", "nano", 45e3, 5.0 * 4**rung, draws.mean(), draws.std(ddof=1) / 3**0.5, 3))
    columns = ["technique", "scale", "parameters", "tokens_per_parameter", "delta_bpb", "se", "replicates"]
    found = variances(checked(pd.DataFrame(rows, columns=columns))) * 3
    assert np.median(found[:60]) ** 0.5 == pytest.approx(0.01, rel=0.15)
    assert np.median(found[60:]) ** 0.5 == pytest.approx(0.002, rel=0.15)
    assert found[:60].std() / found[:60].mean() < 0.25  # of the sample variances themselves it is 1


def test_noise_of_what_shares_its_training_does_not_hide_that_of_the_rest():
    """Seen in a real ladder: with one prior for both, the spread between two seeds was believed as it came."""
    rng, rows = np.random.default_rng(0), []
    for k in range(80):
        quiet = k % 4 == 0
        draws = rng.normal(0, 0.0001 if quiet else 0.01, 2)
        rows.append((f"t{k}", "nano", 45e3, 5.0, draws.mean(), draws.std(ddof=1) / 2**0.5, 2, quiet))
    columns = ["technique", "scale", "parameters", "tokens_per_parameter", "delta_bpb", "se", "replicates", "shares_training"]
    told = pd.DataFrame(rows, columns=columns)
    apart, quiet = np.sqrt(variances(checked(told)) * 2), told["shares_training"].to_numpy()
    assert np.median(apart[~quiet]) == pytest.approx(0.01, rel=0.2)
    assert apart[~quiet].std() < 0.2 * apart[~quiet].mean()
    assert np.median(apart[quiet]) == pytest.approx(0.0001, rel=0.5)
    mixed = np.sqrt(variances(checked(told.drop(columns="shares_training"))) * 2)
    assert mixed[~quiet].std() > 2 * apart[~quiet].std()
    one = told.assign(se=told["se"].where(~quiet), replicates=np.where(quiet, 1, 2))  # no quiet row is known
    assert np.isfinite(variances(checked(one))).all()


def test_a_row_without_an_error_gets_the_usual_one():
    rows = table({"a": lambda x, z: 0.0, "b": lambda x, z: 0.0}, se=0.002, replicates=4)
    rows.loc[0, ["se", "replicates"]] = [np.nan, 1]
    found = variances(checked(rows))
    assert found[0] == pytest.approx(4 * found[1], rel=0.3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parameters": 0.0}, "parameters must be above 0"),
        ({"delta_bpb": np.nan}, "delta_bpb is not finite"),
        ({"se": -1.0}, "se must not be negative"),
        ({"se": np.nan}, "no row has a standard error"),
    ],
)
def test_a_table_that_is_not_sound_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        fit(table({"a": lambda x, z: 0.0}).assign(**change))


def test_missing_columns_and_impossible_targets_are_said():
    rows = table({"a": lambda x, z: 0.0})
    with pytest.raises(ValueError, match="lacks se"):
        fit(rows.drop(columns="se"))
    with pytest.raises(ValueError, match="parameters=0"):
        fit(rows, parameters=0)


def rungs(noise=0.01):
    return pd.DataFrame(
        {
            "scale": ["nano", "nano", "micro"],
            "parameters": [45e3, 45e3, 150e3],
            "tokens_per_parameter": [5.0, 80.0, 20.0],
            "seconds": [100.0, 1500.0, 2000.0],
            "noise": noise,
        }
    )


def test_a_budget_is_spent_and_narrows_the_prediction():
    small, large = allocate(rungs(), 4000.0), allocate(rungs(), 30_000.0)
    assert small.seconds <= 4000 < large.seconds <= 30_000
    assert large.half_width < small.half_width
    assert (small.rungs["seeds"] != 1).all()
    assert small.half_width_quiet < small.half_width
    assert list(allocate(rungs()).rungs["seeds"]) == [2, 2, 2]


def test_what_has_run_costs_nothing_and_is_not_taken_back():
    done = np.array([4, 2, 0])
    more = allocate(rungs(), 4000.0, done=done)
    assert (more.rungs["seeds"] >= done).all()
    assert more.seconds == pytest.approx(float(rungs()["seconds"] @ (more.rungs["seeds"] - done)))


def test_a_budget_that_buys_nothing_is_refused():
    with pytest.raises(ValueError, match="too small"):
        allocate(rungs(), 50.0)


def test_a_further_run_is_proposed_where_it_would_tell():
    """Of two techniques that are nearly sure, a few seeds more decide; the cheap rung is taken where it is enough."""
    rng = np.random.default_rng(3)
    measured, _ = world("constant", 6, rng)
    told = further_runs(fit(measured, draws=100), rungs())
    assert set(told["technique"]) == {f"t{k:02d}" for k in range(6)}
    assert told["further_chance"].between(0, 1).all()
    likely = told[told["further_chance"] >= 0.5]
    assert (likely["further_seconds"] <= 32 * 2000).all()
    with pytest.raises(ValueError, match="lack seconds"):
        further_runs(fit(measured, draws=20), rungs().drop(columns="seconds"))


def test_rungs_of_the_worlds_are_a_ladder():
    assert len({(scale, duration) for scale, duration, _ in RUNGS}) == len(RUNGS)


def test_a_rung_is_held_out_and_predicted_from_the_others():
    laws = {f"t{k}": lambda x, z, k=k: 0.01 * (k - 2) for k in range(5)}
    told, summary = held_out(table(laws, se=0.0005), draws=60)
    assert np.allclose(told.set_index("technique")["measured"].sort_index(), [0.01 * (k - 2) for k in range(5)])
    summary = summary.set_index("way")
    assert summary.loc["ladder", "coverage_90"] == 1.0
    assert summary.loc["ladder", "rank_correlation"] > 0.9
    assert summary.loc["largest rung", "error"] < 1e-9  # constant, and told without noise
    assert np.isnan(summary.loc["smallest rung", "coverage_90"])
    with pytest.raises(ValueError, match="two cheaper rungs"):
        held_out(table(laws)[lambda t: t["tokens_per_parameter"] < 6])


def test_another_rung_may_be_held_out_and_is_predicted_from_cheaper_ones_alone():
    laws = {f"t{k}": lambda x, z, k=k: 0.01 * (k - 2) for k in range(5)}
    rows = table(laws, se=0.0005)
    dear = (rows["parameters"] > 1e5) & (rows["tokens_per_parameter"] > 5)
    rows.loc[dear, "delta_bpb"] = 5.0  # whatever is dearer must not be looked at
    told, _ = held_out(rows, parameters=45e3, tokens_per_parameter=80, draws=60)
    assert np.allclose(told["measured"].abs().max(), 0.02)
    assert told["rungs"].eq(3).all()
    with pytest.raises(ValueError, match="There are: 45,000 × 5, 45,000 × 20"):
        held_out(rows, parameters=45e3, tokens_per_parameter=7)


def test_intervals_for_a_measured_number_hold_its_own_error():
    """A quiet ladder and a noisy measurement: without the measurement's error, the intervals would be far too narrow."""
    laws = {f"t{k}": lambda x, z, k=k: 0.01 * (k - 2) for k in range(5)}
    rows = table(laws, se=0.0003, replicates=8)
    top = (rows["parameters"] > 1e5) & (rows["tokens_per_parameter"] == 80)
    rows.loc[top, "se"] = 0.02
    told, summary = held_out(rows, draws=60)
    half = (told["high_90"] - told["low_90"]) / 2
    assert (half > 1.5 * told["measured_se"]).all()
    assert (told["high"] - told["low"] < told["high_90"] - told["low_90"]).all()  # the true effect is known better
    assert summary.set_index("way").loc["ladder", "error_of_truth"] == pytest.approx(0.8 * told["measured_se"].mean(), rel=0.01)


def test_naive_ways_lose_their_sign_where_effects_turn():
    laws = {f"t{k}": lambda x, z, k=k: 0.004 * (k - 2.5) * (x - np.log(10)) for k in range(6)}
    summary = held_out(table(laws, se=0.0005), draws=60)[1].set_index("way")
    assert summary.loc["smallest rung", "signs"] == 0.0
    assert summary.loc["ladder", "signs"] == 1.0
    assert summary.loc["ladder", "clear_signs"] == 1.0
    assert summary.loc["ladder", "signs_low"] == pytest.approx(0.610, abs=1e-3)  # Wilson's, for 6 of 6
    assert summary.loc["ladder", "rank_low"] > 0.5 > -0.5 > summary.loc["smallest rung", "rank_high"]


def test_predictions_are_compared_with_what_was_published():
    laws = {f"t{k}": lambda x, z, k=k: 0.01 * (k - 2) for k in range(5)}
    published = pd.DataFrame({"technique": ["t0", "t4", "other"], "delta_bpb": [-0.019, 0.02, 1.0], "se": [0.001, 0.002, 0.1]})
    ladder = fit(table(laws, se=0.0005), draws=50)
    told, summary = against(ladder, published)
    assert told["technique"].tolist() == ["t0", "t4"]
    assert told["measured_se"].tolist() == [0.001, 0.002]
    assert summary["signs"].tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="no technique"):
        against(ladder, published.tail(1))
    with pytest.raises(ValueError, match="one row a technique"):
        against(ladder, pd.concat([published, published]))


# ---------------------------------------------------------------------- heavy tails


def test_one_huge_technique_does_not_blur_the_others():
    """Seen in a real ladder: 0.26 after 28 steps of one technique made every other prediction as wide as the prior."""
    laws = {f"t{k}": lambda x, z, k=k: 0.002 * (k - 4) for k in range(9)}
    huge = {"huge": lambda x, z: 0.26 - 0.2 * (x - np.log(5))}
    told = {
        name: predict(fit(table(which, se=0.001), draws=100)).set_index("technique")
        for name, which in (("without", laws), ("with", laws | huge))
    }
    width = {name: (rows["high"] - rows["low"]).drop("huge", errors="ignore").median() for name, rows in told.items()}
    assert width["with"] < 1.6 * width["without"]
    assert told["with"].loc["huge", "low"] > -0.1  # 0 ± 0.03 before anything is measured, its own deviation included


def test_sizes_are_drawn_from_their_posterior():
    """One technique of one row: every size's probability is known by hand."""
    delta, variance = np.array([0.05]), np.array([1e-6])
    model = Hierarchy(np.array([0]), np.zeros((1, 2)), delta, variance, np.array([0]), np.zeros(2))
    steps = _sweeps(model, MIDDLE, np.array([2]), 4000, np.random.default_rng(0))[:, 0]
    spread = np.exp(2 * LOG_SIZES) * model.own(MIDDLE)[0, 0] + 0.01**2 + 1e-6
    chance = CHANCES * np.exp(-0.5 * delta[0] ** 2 / spread) / np.sqrt(spread)
    assert np.abs(np.bincount(steps, minlength=len(CHANCES)) / 4000 - chance / chance.sum()).max() < 0.03


def test_a_changed_size_changes_the_precision_as_inverting_anew_would():
    model = fit(table({f"t{k}": lambda x, z, k=k: 0.003 * k for k in range(4)}), draws=20).model
    step = np.full(4, 2)
    once = _sweeps(model, MIDDLE, step, 6, np.random.default_rng(2))
    parts = [step]
    generator = np.random.default_rng(2)
    for _ in range(6):
        parts.append(_sweeps(model, MIDDLE, parts[-1], 1, generator)[0])
    assert np.array_equal(once, np.array(parts[1:]))


def test_the_steep_slope_of_very_short_runs_is_not_extrapolated():
    """Seen in a real ladder of 22 and 44 steps: +0.26, then +0.05, was predicted to become −0.9 for sure."""
    rows = table({"a": lambda x, z: 0.26 - 0.3 * (x - np.log(5)), "b": lambda x, z: 0.001}, se=0.001)
    told = predict(fit(rows[(rows["scale"] == "nano") & (rows["tokens_per_parameter"] < 80)], draws=100)).set_index("technique")
    assert told.loc["a", "low"] < 0 < told.loc["a", "high"]
    assert told.loc["a", "verdict"] in ("cannot tell", "fades")
    assert abs(told.loc["a", "delta_full"]) < 0.05
