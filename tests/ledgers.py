"""Ledgers for tests: a small space, records, and forecasters that note what they are asked and taught."""

from fake_runs import Forecaster, run

from golflab.model.record import Record
from golflab.search.ledger.ledger import Ledger
from golflab.search.ledger.problem import RecipeProblem
from golflab.search.ledger.requested import Plan
from golflab.search.ledger.storage import open_storage
from golflab.search.sampler.fitting import FittingSampler
from golflab.spaces.presets import preset
from golflab.spaces.space import Space

LIMIT = 640_000
SPACE = Space(
    "small",
    preset("baseline").with_(limit=LIMIT),
    techniques=("xsa", "smear_gate", "bigram_hash", "ln_scale", "value_residual"),
)
OFF = SPACE.params(SPACE.preset)
LARGE = OFF | {"bigram_hash": True, "value_residual": True}
PLAN = [SPACE.recipe(OFF | change) for change in ({"xsa": True}, {"bigram_hash": True, "value_residual": True}, {})]
RUNG = {"step": 2, "tokens": 8, "seconds": 1.5, "progress": 0.25, "bpb": 3.0, "bytes": 100}


class Learning(Forecaster):
    """Notes what it is asked and taught; its forecasts grow with what it was taught."""

    def __init__(self):
        self.asked, self.taught = [], []

    def __call__(self, recipe):
        self.asked.append(recipe.hash)
        return {key: value + len(self.taught) for key, value in super().__call__(recipe).items()}

    def learn(self, record):
        self.taught.append(record.recipe)
        return {"of": record.recipe}


class Recalling(Learning):
    """Takes an earlier driver's word for every trial but those of an edited code."""

    remembers = 2
    edited = ()

    def recall(self, told):
        if told is None or told["of"] in self.edited:
            return False
        self.taught.append(f"recalled {told['of']}")
        return True


def ledger(
    folder,
    target=9,
    forecaster=None,
    *,
    name="test",
    space=SPACE,
    storage=None,
    plan=None,
    proposes=True,
    sampling=None,
    **options,
):
    """A ledger in a folder; ``sampling`` are settings of its sampler, ``options`` those of the ledger."""
    problem = RecipeProblem(space, forecaster or Forecaster())
    sampler = FittingSampler(problem, **(sampling or {}))
    storage = storage or open_storage(None, folder)
    return Ledger(folder, name, storage, problem, target, sampler=sampler, plan=Plan(plan, proposes), **options)


def finish(book, proposal):
    book.finish(proposal.number, run(proposal.recipe, book.trial_folder(proposal.recipe.hash), book.folder / "cache"))


def record_of(proposal, state="complete", **told):
    recipe = proposal.recipe
    return Record(recipe.hash, recipe.seed, "baseline", state, recipe.to_json(), **told)


def trial_of(book, proposal):
    return book.study.trials[proposal.number]
