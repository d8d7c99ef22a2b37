"""A search of settings: equal budgets, chosen by validation alone, kept as data, taken over by another suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.analysis.results import Results
from bench.analysis.tuning import search_rows, searched
from bench.core.base import BenchError
from bench.core.store import Store
from bench.plan.suite import Filters, PlannedRun, entries, load_suite, plan
from bench.plan.tuning import Search, Searches, Trial, read_searches, write_searches
from bench.report.methods import methods
from tests.builders import failure, in_process, record

SEARCH = """\
title = "A search"
about = "Two rates."
models = ["dlinear", "itransformer"]
datasets = ["EPF"]
horizons = [24]
seeds = [1]
backbone = "smollm2-135m"

[[variant]]
title = "slow"
train = { lr = 1e-5, max_steps = 4, epochs = 2 }

[[variant]]
title = "fast"
train = { lr = 1e-2, max_steps = 4, epochs = 2 }
"""
USER = """\
title = "Takes it over"
about = "As searched."
tuned = "search.toml"
models = ["dlinear", "itransformer", "repeat_last"]
datasets = ["EPF"]
horizons = [24]
seeds = [1, 2]
backbone = "smollm2-135m"
"""
Score = Callable[[PlannedRun], float | None]


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("search.toml").write_text(SEARCH)
    Path("user.toml").write_text(USER)


def found(score: Score, test_error: float = 1.0) -> tuple[Search, ...]:
    """Search in records with these validation scores (None: failed), over two horizons and two seeds."""
    text = SEARCH.replace("[24]", "[24, 48]").replace("[1]", "[2021, 2022]")
    Path("search.toml").write_text(text)
    suite = load_suite("search.toml")
    runs = []
    for entry in entries(suite):
        result, value = record(entry.spec), score(entry)
        evaluations = tuple(each.model_copy(update={"mse": test_error}) for each in result.evaluations)
        losses = (9.0, value, 8.0) if value else ()
        epochs = [result.curve[0].model_copy(update={"epoch": i, "val_loss": x}) for i, x in enumerate(losses, 1)]
        update = {"curve": tuple(epochs), "evaluations": evaluations, "status": "done" if value else "failed"}
        runs.append((entry, result.model_copy(update=update)))
    return searched(suite, Results(runs))


def best_of_slow(entry: PlannedRun) -> float:
    return (0.5 if entry.variant == "slow" else 0.6) + (entry.spec.seed - 2020) / 100 + entry.spec.task.horizon / 1000


def test_the_least_mean_validation_score_is_chosen_and_test_errors_play_no_part() -> None:
    dlinear, itransformer = found(best_of_slow, test_error=1.0)
    assert (dlinear.model, dlinear.dataset, dlinear.context, dlinear.seeds) == ("dlinear", "EPF", 96, (2021, 2022))
    assert [trial.scores for trial in dlinear.trials] == [
        {24: pytest.approx(0.539), 48: pytest.approx(0.563)},
        {24: pytest.approx(0.639), 48: pytest.approx(0.663)},
    ]
    assert dlinear.chosen.title == itransformer.chosen.title == "slow"
    assert dlinear.chosen.train == {"lr": 1e-5, "max_steps": 4, "epochs": 2}
    assert found(best_of_slow, test_error=0.001) == (dlinear, itransformer)


@pytest.mark.parametrize("failing", ["slow", "fast"])
def test_a_trial_of_which_a_run_failed_is_never_chosen(failing: str) -> None:
    def score(entry: PlannedRun) -> float | None:
        failed = (entry.variant, entry.spec.seed) == (failing, 2022)
        return None if failed else best_of_slow(entry)

    for search in found(score):
        assert search.chosen.title == {"slow": "fast", "fast": "slow"}[failing]
    headers, (slow, fast) = search_rows(found(score))
    assert headers == ("Data set", "Trial", "DLinear", "iTransformer")
    printed = {"slow": slow[2:], "fast": fast[2:]}
    assert printed.pop(failing) == ("-", "-")
    assert printed.popitem()[1] == (("0.6510*",) * 2 if failing == "slow" else ("0.5510*",) * 2)


def test_nothing_is_chosen_or_written_where_no_trial_has_a_score(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("search.toml").write_text(SEARCH.replace("[1]", "[2021]"))  # seeds that builders.record knows
    store = Store(Path("results").absolute())
    for entry in entries(load_suite("search.toml")):
        failed = failure("RuntimeError: no") if entry.spec.model == "dlinear" else {}
        store.put(record(entry.spec).model_copy(update=failed))
    monkeypatch.setattr("bench.__main__._run_all", lambda *_: None)  # failed runs would be tried again
    assert in_process("tune", "--suite", "search.toml", "--results", store.root) == 1
    assert "no trial has a score: dlinear on EPF" in capsys.readouterr().err
    assert [search.model for search in read_searches(Path("search.toml")).searches] == ["itransformer"]


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        (
            'title = "fast"',
            'title = "fast"\nmodels = ["dlinear"]',
            "unequal numbers of trials: dlinear 2, itransformer 1",
        ),
        ("lr = 1e-2", 'lr = 1e-2, loss = "l1"', "tries several losses"),
        ("[[variant]]", "[override.all]\ntrain = { epochs = 3 }\n\n[[variant]]", "overrides settings"),
    ],
)
def test_a_search_that_does_not_compare_is_refused(old: str, new: str, cause: str) -> None:
    head, _, tail = SEARCH.rpartition(old) if "variant" not in old else SEARCH.partition(old)
    Path("search.toml").write_text(head + new + tail)
    suite = load_suite("search.toml")
    runs = [(entry, record(entry.spec)) for entry in entries(suite, Filters(seeds=(2021,)))]
    with pytest.raises(BenchError, match=cause):
        searched(suite, Results(runs))


def chosen(model: str = "dlinear", context: int = 96, title: str = "fast") -> Search:
    trials = (
        Trial(title="slow", train={"lr": 1e-5}, scores={24: 0.5}),
        Trial(title="fast", train={"lr": 1e-2}, scores={24: 0.4 if title == "fast" else 0.6}),
    )
    return Search(model=model, dataset="EPF", context=context, seeds=(1,), backbone=None, trials=trials)


def test_a_suite_takes_the_choices_over_and_says_so_and_no_suite_based_on_it_does() -> None:
    write_searches(Path("search.toml"), (chosen(), chosen("itransformer", title="slow")))
    suite = load_suite("user.toml")
    rates = {entry.spec.model: entry.spec.train.lr for entry in entries(suite)}
    assert rates == {"dlinear": 1e-2, "itransformer": 1e-5, "repeat_last": 1e-4}  # the last was not searched
    (section,) = [
        each for each in methods(suite, Results([(e, None) for e in entries(suite)])) if "Search" in each.title
    ]
    assert section.rows == (("EPF", "slow", "0.5000", "0.5000*"), ("EPF", "fast", "0.4000*", "0.6000"))
    Path("based.toml").write_text('base = "user.toml"\nabout = "Not tuned."\n')
    based = load_suite("based.toml")
    assert based.tuned == Searches()
    assert {entry.spec.train.lr for entry in entries(based)} == {5e-3, 1e-4}


def test_later_searches_replace_those_of_the_same_model_and_keep_the_others() -> None:
    path = Path("search.toml")
    write_searches(path, (chosen(), chosen("itransformer")))
    write_searches(path, (chosen(title="slow"),))
    assert read_searches(path).searches == (chosen(title="slow"), chosen("itransformer"))


def test_settings_are_not_taken_over_at_another_look_back_or_before_the_search() -> None:
    with pytest.raises(BenchError, match=r"no search has ended\. Do: python -m bench tune --suite search.toml"):
        load_suite("user.toml")
    write_searches(Path("search.toml"), (chosen(context=512),))
    with pytest.raises(BenchError, match="searched on EPF at look-back 512, not 96"):
        plan(load_suite("user.toml"))


def test_tune_trains_every_trial_keeps_the_best_and_its_run_is_not_trained_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Store(Path("results"))
    words = ("tune", "--suite", "search.toml", "--results", "results")
    assert in_process(*words, "--shard", "1/2") == 1  # stopped half-way: nothing is chosen
    assert not Path("search.json").exists()
    assert in_process(*words) == 0
    assert "chosen, written to search.json" in capsys.readouterr().out
    kept = json.loads(Path("search.json").read_text())
    assert [each["model"] for each in kept["searches"]] == ["dlinear", "itransformer"]
    trials = entries(load_suite("search.toml"))
    for search in read_searches(Path("search.toml")).searches:
        own = {entry.variant: entry.spec for entry in trials if entry.spec.model == search.model}
        scores = {title: min(e.val_loss for e in store.get(spec).curve) for title, spec in own.items()}
        assert search.chosen.title == min(scores, key=lambda title: scores[title])
        assert {trial.title: trial.scores[24] for trial in search.trials} == scores
        (first,) = plan(load_suite("user.toml"), Filters(models=(search.model,), seeds=(1,)))
        assert first.key == own[search.chosen.title].key
