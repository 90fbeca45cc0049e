"""Pruners: usable in any Optuna study, and silent where scores were not seen to predict the end."""

import numpy as np
import optuna
import pytest
from optuna.pruners import MedianPruner
from optuna.trial import TrialState, create_trial
from scipy import stats

from golflab.search.ledger.pruners import (
    BYTES,
    DOCUMENTS,
    PROGRESS,
    ByteBudgetPruner,
    ReliableRungPruner,
    WilcoxonRungPruner,
    agreement,
    agreements,
    correlated,
)


class Always(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return True


def complete(study, value, early, documents=None):
    attributes = {} if documents is None else {DOCUMENTS: {str(step): list(d) for step, d in documents.items()}}
    study.add_trial(create_trial(value=value, intermediate_values=early, user_attrs=attributes))


def running(study, step, value, documents=None):
    trial = study.ask()
    trial.report(value, step)
    if documents is not None:
        trial.set_user_attr(DOCUMENTS, {str(step): list(documents)})
    return study.get_trials()[trial.number]


def test_agreement_is_spearmans_with_its_interval():
    study, rng = optuna.create_study(), np.random.default_rng(0)
    finals = rng.standard_normal(40)
    for final in finals:
        complete(study, final, {10: -final, 20: final + 0.1 * rng.standard_normal(), 30: rng.standard_normal()})
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={10: 5.0}))
    worst, best, none = agreements(study.trials)
    assert (worst.step, worst.spearman, worst.trials) == (10, -1.0, 40)
    assert 0.9 < best.low < best.spearman < best.high <= 1
    assert none.low < 0 < none.high
    assert agreement(study.trials, 11) is None


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), 0
    truth = 6 / np.pi * np.arcsin(0.8 / 2)  # Spearman's correlation of a normal pair with Pearson's 0.8
    for _ in range(200):
        x = rng.standard_normal(20)
        y = 0.8 * x + 0.6 * rng.standard_normal(20)
        found = agreement([create_trial(value=b, intermediate_values={1: a}) for a, b in zip(x, y, strict=True)], 1)
        covered += found.low <= truth <= found.high
    assert 180 <= covered <= 199


def test_nothing_is_stopped_for_its_score_until_scores_are_seen_to_predict():
    study = optuna.create_study()
    pruner = ReliableRungPruner(Always())
    for final in range(12):
        assert not pruner.prune(study, running(study, 1, 9.0)) or final >= 5
        complete(study, final, {1: final, 2: -final})
    assert pruner.prune(study, running(study, 1, 9.0))
    assert not pruner.prune(study, running(study, 2, 9.0))  # ranks backwards
    assert not pruner.prune(study, running(study, 3, 9.0))  # unknown
    assert not ReliableRungPruner(optuna.pruners.NopPruner()).prune(study, running(study, 1, 9.0))
    with pytest.raises(ValueError, match="lower"):
        ReliableRungPruner(Always(), lower=1.0)


def test_wilcoxon_pairs_the_documents_of_one_rung():
    study, rng = optuna.create_study(), np.random.default_rng(0)
    hardness = rng.normal(2.0, 0.5, 16)  # documents differ far more than trials do
    pruner = WilcoxonRungPruner()
    assert not pruner.prune(study, running(study, 5, 2.0, hardness))  # nothing to compare with
    complete(study, 1.5, {5: 2.0, 9: 1.6}, {5: hardness, 9: hardness - 0.4})
    noise = 0.005 * rng.standard_normal(16)
    assert pruner.prune(study, running(study, 5, 2.0, hardness + 0.02 + noise))
    assert not pruner.prune(study, running(study, 5, 2.0, hardness + noise - noise.mean()))
    assert not pruner.prune(study, running(study, 5, 2.0, hardness - 0.02 + noise))
    assert pruner.prune(study, running(study, 9, 2.0, hardness))  # better than the best was at 5, worse than at 9
    assert not pruner.prune(study, running(study, 5, 2.0, hardness[:5] + 1))  # other documents
    assert not pruner.prune(study, running(study, 7, 2.0, hardness + 1))  # the best was not scored there
    assert not pruner.prune(study, running(study, 5, np.nan, hardness * np.nan))
    upward = optuna.create_study(direction="maximize")
    complete(upward, 1.5, {5: 2.0}, {5: hardness})
    assert pruner.prune(upward, running(upward, 5, 2.0, hardness - 0.02 + noise))
    with pytest.raises(ValueError, match="p_threshold"):
        WilcoxonRungPruner(p_threshold=0)


def test_the_byte_pruner_wraps_any_other():
    study = optuna.create_study(pruner=ByteBudgetPruner(1000, MedianPruner(n_startup_trials=0)))
    trial = study.ask()
    for progress, size, stopped in ((0.5, 1049, False), (0.5, 1051, True), (1.0, 1000, False), (1.0, 1001, True)):
        trial.set_user_attr(BYTES, [2000, size])
        trial.set_user_attr(PROGRESS, progress)
        assert trial.should_prune() == stopped
    for wrong in ({"limit": 0}, {"limit": 1, "margin": -1.0}):
        with pytest.raises(ValueError, match="ByteBudgetPruner"):
            ByteBudgetPruner(**wrong)
    assert ByteBudgetPruner(1000, Always()).prune(study, running(study, 1, 0.0))


def test_scores_that_are_equal_share_their_rank():
    pairs = [(1.0, 2.0), (1.0, 3.0), (2.0, 2.0), (3.0, 5.0), (0.5, 1.0), (2.0, 4.0)]
    assert correlated(1, pairs).spearman == pytest.approx(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
