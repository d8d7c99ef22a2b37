"""Figures from generated records: holes stay holes, numbers are those of the records, the same bytes every time."""

from __future__ import annotations

import colorsys
import hashlib
import importlib
import itertools
import math
import os
import re
import subprocess
import sys
import zlib
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from bench.analysis.results import Results
from bench.analysis.stats import datasets_needed
from bench.analysis.tables import mean_error
from bench.core.reading import UnusableRecord
from bench.core.record import Cost, Epoch, Evaluation, Layer, RunResult, Sample
from bench.core.spec import RunSpec
from bench.plan import suite as suites
from bench.plan.suite import Filters, PlannedRun, entries, load_suite
from bench.report.figures import catalogue
from bench.report.figures.catalogue import PLOTS, Picture, Plot, pictures, plots
from bench.report.figures.cost import pareto
from bench.report.figures.curves import POINTS
from bench.report.figures.heatmap import MIDDLE, relative_luminance
from bench.report.figures.inline import DARK, GROUND, dark, inlined, shorter_path
from bench.report.figures.lines import HIGHEST
from bench.report.figures.panels import Drawn
from bench.report.figures.ranks import draw_diagram
from bench.report.figures.style import COLOURS, FAINT, FURTHER_COLOURS, NARROW, SMALL, WIDE, Look, looks, styled
from models import MODELS
from tests.builders import WHERE, failure

PIXELS = 368
"""Width of a drawing on a page of 400 pixels."""
LEVEL = {"logo_llm": 1.0, "time_llm_lite": 1.12, "calf_lite": 1.06, "patchtst": 0.97, "itransformer": 1.01}
LEVEL |= {"dlinear": 1.09, "seasonal_naive": 1.45, "repeat_last": 2.2}
SCALE = {"ILI": 2.1, "ETTh2": 0.36, "ETTm2": 0.27, "Exchange": 0.3, "Weather": 0.24, "ECL": 0.19, "Traffic": 0.55}
SECONDS = {"logo_llm": 1100, "time_llm_lite": 2600, "calf_lite": 800, "patchtst": 400, "itransformer": 40, "dlinear": 4}


def record(spec: RunSpec, variant: str = "") -> RunResult:
    """A run with numbers as they might come out, drawn anew for each spec and the same every time."""
    task = spec.task
    same = f"{task.dataset} {spec.model} {variant}"
    cell, run = (np.random.default_rng(zlib.crc32(text.encode())) for text in (same, f"{same} {task} {spec.seed}"))
    trains = spec.model in SECONDS or spec.model not in LEVEL
    level = LEVEL.get(spec.model, 1.03) * math.exp(cell.normal(0, 0.06)) * (task.horizon / 96) ** 0.16
    level *= task.train_fraction**-0.1 * math.exp(run.normal(0, 0.008) if trains else 0)
    evaluations = tuple(
        Evaluation(
            dataset=name, mse=SCALE.get(name, 0.4) * level, mae=(SCALE.get(name, 0.4) * level) ** 0.5 * 0.6, windows=9
        )
        for name in (task.dataset, *task.test_on)
    )
    curve, best = _curve(spec, run) if trains else ((), None)
    seconds = SECONDS.get(spec.model, 90) * run.uniform(0.8, 1.2) if trains else 0.0
    return RunResult(
        spec=spec,
        status="done",
        evaluations=evaluations,
        layers=_layers(spec, run) if task.probe else (),
        sample=_sample(spec, run),
        best_epoch=best,
        curve=curve,
        cost=Cost(
            train_s=seconds,
            total_s=seconds + 2,
            steps=len(curve) * 10,
            samples_per_s=None,
            infer_ms=1,
            peak_mb=None,
            params=10**6,
            trainable=int(2e3 * seconds),
            flops=10**9,
        ),
        where=WHERE,
    )


def _curve(spec: RunSpec, run: np.random.Generator) -> tuple[tuple[Epoch, ...], int]:
    count = 100 if spec.model == "patchtst" else 10
    losses = 0.3 * (1 + np.exp(-np.arange(count) / 2) + 0.003 * np.arange(count) + abs(run.normal(0, 0.01, count)))
    curve = [
        Epoch(epoch=number, train_loss=loss, val_loss=loss, lr=1e-3, seconds=1) for number, loss in enumerate(losses, 1)
    ]
    return tuple(curve), int(losses.argmin()) + 1


def _layers(spec: RunSpec, run: np.random.Generator) -> tuple[Layer, ...]:
    pretrained = not str(spec.options["backbone"]).endswith("-random")
    return tuple(
        Layer(
            block=block,
            normed=False,
            stage=stage,
            local_r2=0.95 - 0.03 * block * (1 + pretrained) + run.normal(0, 0.01),
            trend_r2=0.3 + 0.015 * block + 0.02 * (stage == "trained") + run.normal(0, 0.01),
            local_share=0.3,
            trend_share=0.3,
            slow_power=0.3,
        )
        for stage in ("untrained", "trained")
        for block in range(int(spec.options["blocks"]) + 1)
    )


def _sample(spec: RunSpec, run: np.random.Generator) -> Sample:
    task = spec.task
    phase = zlib.crc32(task.dataset.encode()) % 24
    steps = np.arange(task.context + task.horizon)
    noise = np.random.default_rng(phase).normal(0, 0.25, len(steps))
    series = np.sin((steps + phase) * np.pi / 12) + 0.01 * steps + noise
    past, truth = series[: task.context], series[task.context :]
    forecast = (truth - noise[task.context :]) * run.uniform(0.6, 1) + run.normal(0, 0.1)
    if spec.model == "repeat_last":
        forecast = np.full(task.horizon, past[-1])
    return Sample(
        window=7,
        channel=0,
        past=tuple(past.round(4)),
        truth=tuple(truth.round(4)),
        forecast=tuple(forecast.round(4)),
    )


@lru_cache
def complete(suite: str = "paper", **filters: tuple) -> Results:
    """Every run of the suite under the filters is there."""
    planned = entries(load_suite(suite), Filters(backbone="smollm2-135m", **filters))
    return Results([(entry, record(entry.spec, entry.variant)) for entry in planned])


def changed(planned: Results, pattern: str, **values: object) -> Results:
    """With other values in the records of runs whose label fits, or without these records."""
    return Results(
        [
            (
                entry,
                (result.model_copy(update=values) if values else None) if re.search(pattern, entry.label) else result,
            )
            for entry, result in planned.runs
        ]
    )


FAILED = failure("OSError: no disk")
FEW = {"models": ("logo_llm", "patchtst", "dlinear", "repeat_last"), "datasets": ("ETTh1", "ILI")}


def drawn(planned: Results, name: str) -> Drawn:
    with styled():
        found = PLOTS[name].build(planned)
    assert found is not None
    return found


def panel(figure: Figure, title: str) -> Axes:
    (found,) = [axes for axes in figure.axes if axes.get_title(loc="left") == title]
    return found


def line(axes: Axes, name: str) -> np.ndarray:
    """The heights of a model's line with error bars."""
    (bars,) = [each for each in axes.containers if each.get_label() == name]
    assert isinstance(bars, ErrorbarContainer)
    return np.asarray(bars.lines[0].get_ydata(), dtype=float)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_a_suite_gets_the_figures_that_its_tables_ask_for() -> None:
    def names(suite: str, *seeds: int) -> list[str]:
        return [plot.name for plot in plots(few(suite, *seeds), load_suite(suite))]

    assert names("paper", 1, 2) == ["ranks", "heatmap", "horizons", "cost", "spread", "forecasts", "curves"]
    assert PLOTS["spread"].build(few("paper", 1)) is None, "one seed"
    assert names("few_shot", 1) == ["few_shot", "curves"]
    assert names("ablation", 1) == ["variants"]
    assert names("layers", 1) == names("taps", 1) == ["layers"]
    assert names("zero_shot", 1) == ["heatmap"]
    assert names("efficiency", 1) == [], "two epochs are no accuracy"


def few(suite: str, *seeds: int) -> Results:
    """The suite's first and last model on its first data set."""
    read = load_suite(suite)
    return complete(suite, models=(read.models[0], read.models[-1]), datasets=(read.datasets[0],), seeds=seeds)


@pytest.mark.parametrize("suite", suites.suite_names())
@pytest.mark.parametrize("there", ["one", "none"])
def test_no_state_of_a_suite_raises_and_every_caption_says_how_many_runs_are_done(suite: str, there: str) -> None:
    (first, result), *others = few(suite, 1, 2).runs
    planned = Results([(first, result if there == "one" else None), *((entry, None) for entry, _ in others)])
    for plot in plots(planned, load_suite(suite)):
        assert re.search(rf"\b{int(there == 'one')} of \d+ runs are done", plot.caption)
        if there == "none":
            assert not plot.figure.axes
            (text,) = texts(plot.figure)
            assert re.match(r"No .+(: there (is|are) no|\.)", text)


@pytest.mark.parametrize("models", [("dlinear",), ("seasonal_naive",)])
def test_one_model_on_one_data_set_with_one_seed_draws_what_makes_sense(models: tuple[str]) -> None:
    planned = complete(models=models, datasets=("ETTh1",), seeds=(2021,))
    names = {plot.name for plot in plots(planned, load_suite("paper"))}
    assert names == {"horizons", "forecasts"} | ({"curves"} if models == ("dlinear",) else set())


def cell(planned: Results, model: str, what: str) -> list[float]:
    """The MSE of each seed of a model on a data set at a horizon."""
    return [r.evaluations[0].mse for e, r in planned.runs if e.spec.model == model and e.what == what and r]


def least(planned: Results, what: str) -> float:
    """The lowest mean over seeds of any model there."""
    return min(np.mean(cell(planned, model, what)) for model in FEW["models"])


def test_a_model_that_is_best_at_a_horizon_is_at_one_there() -> None:
    planned = complete(**FEW)
    plot = drawn(planned, "horizons")
    for data, horizons in (("ETTh1", (96, 192, 336, 720)), ("ILI", (24, 36, 48, 60))):
        axes = panel(plot.figure, data)
        lines = np.array([line(axes, looks_title) for looks_title in looks(planned)])
        assert lines.min(axis=0) == pytest.approx(np.ones(4))
        best = [list(looks(planned))[lines[:, place].argmin()] for place in (0, 3)]
        assert f"{data}: {best[0]} at {horizons[0]} and {best[1]} at {horizons[3]}" in plot.alt


def test_lines_are_broken_at_holes_and_the_panel_names_them() -> None:
    planned = changed(complete(**FEW), "patchtst ETTh1 h336 s2022")
    axes = panel(drawn(planned, "horizons").figure, "ETTh1")
    heights = line(axes, "PatchTST")
    assert np.isnan(heights).tolist() == [False, False, True, False]
    errors = cell(planned, "patchtst", "ETTh1 h720")
    assert len(errors) == 3
    assert heights[3] == pytest.approx(np.mean(errors) / least(planned, "ETTh1 h720"))
    assert not np.isnan(line(axes, "DLinear")).any()
    assert axes.get_xlabel() == "missing at 336: PatchTST\nabove: Repeat last"
    assert axes.get_ylim()[1] == HIGHEST
    worse = changed(
        planned, "dlinear ETTh1 h720", evaluations=(Evaluation(dataset="ETTh1", mse=9.0, mae=2.0, windows=9),)
    )
    notes = panel(drawn(worse, "horizons").figure, "ETTh1").get_xlabel().splitlines()
    assert sorted(notes) == ["above at 720: DLinear", "above: Repeat last", "missing at 336: PatchTST"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["96", "192", "336", "720"]


@pytest.mark.parametrize("name", ["horizons", "spread", "forecasts"])
def test_a_data_set_without_anything_to_draw_has_no_panel_and_is_named_under_the_others(name: str) -> None:
    planned = complete(models=("patchtst", "dlinear"), datasets=("ETTh1", "ILI", "Exchange"), seeds=(2021, 2022))
    runs = [(entry, None if entry.spec.task.dataset == "ILI" else result) for entry, result in planned.runs]
    whole, holed = drawn(planned, name).figure, drawn(Results(runs), name).figure
    assert len(holed.axes) == len(whole.axes) - 1
    assert not any("No panel" in text for text in texts(whole))
    (foot,) = (text for text in texts(holed) if "No panel" in text)
    assert foot.endswith(": ILI")


def test_error_bars_reach_from_the_least_to_the_largest_seed() -> None:
    planned = complete(**FEW)
    axes = panel(drawn(planned, "horizons").figure, "ILI")
    (bars,) = [each for each in axes.containers if each.get_label() == "Logo-LLM"]
    (segments,) = [collection.get_segments() for collection in bars.lines[2]]
    for horizon, segment in zip((24, 36, 48, 60), segments, strict=True):
        runs = [r for e, r in planned.runs if e.label.startswith(f"logo_llm ILI h{horizon} ") and r]
        errors = [result.evaluations[0].mse for result in runs]
        best = least(planned, f"ILI h{horizon}")
        assert segment[:, 1] == pytest.approx([min(errors) / best, max(errors) / best])


def test_shares_of_the_windows_rise_from_left_to_right_and_each_is_averaged_over_whole_horizons() -> None:
    planned = changed(complete("few_shot", **FEW), "dlinear ILI 5% h24 s2021")
    axes = panel(drawn(planned, "few_shot").figure, "ILI")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "10"]
    own = planned.own
    own = own[(own.model == "dlinear") & (own.dataset == "ILI") & (own.fraction == 0.1)]
    assert np.isnan(line(axes, "DLinear")[0])
    assert line(axes, "DLinear")[1] == pytest.approx(mean_error(own, "mse"))


def test_a_model_has_the_same_colour_in_every_figure_and_every_suite() -> None:
    seen: dict[str, set[str]] = {}
    only = {"models": ("patchtst", "logo_llm", "dlinear")}
    for suite, models in (("paper", {}), ("paper", only), ("few_shot", only)):
        for plot in plots(complete(suite, datasets=("ILI",), seeds=(1, 2), **models), load_suite(suite)):
            for artist in plot.figure.findobj(Line2D):
                name = str(artist.get_label())
                if name in ("Logo-LLM", "PatchTST", "DLinear"):
                    seen.setdefault(name, set()).add(f"{to_hex(artist.get_color())} {artist.get_marker()}")
    colours = {name: {look.split()[0] for look in found} for name, found in seen.items()}
    assert {name: len(found) for name, found in colours.items()} == {"Logo-LLM": 1, "PatchTST": 1, "DLinear": 1}
    assert len(set.union(*colours.values())) == 3


def test_registered_models_keep_their_looks_and_any_number_of_others_gets_further_ones() -> None:
    def renamed(entry: PlannedRun, name: str) -> PlannedRun:
        return PlannedRun(entry.spec.model_copy(update={"model": name}))

    own = complete(models=("dlinear",), datasets=("ILI",), seeds=(2021, 2022))
    names = [f"mine:Model{number}" for number in range(30)]
    runs = [(renamed(entry, name), record(renamed(entry, name).spec)) for name in names for entry, _ in own.runs]
    planned = Results(runs + complete(datasets=("ILI",), seeds=(2021, 2022)).runs)
    found = looks(planned)
    assert len({(look.colour, look.marker) for look in found.values()}) == 38
    assert found["DLinear"] == looks(own)["DLinear"]
    for name in ("ranks", "cost", "forecasts"):
        assert drawn(planned, name).figure.get_figwidth() == WIDE


def test_variants_have_looks_of_their_own_and_the_first_one_that_of_its_model() -> None:
    found = looks(complete("losses", datasets=("ILI",)))
    assert found["PatchTST, MSE"] == looks(complete(datasets=("ILI",)))["PatchTST"]
    assert len(set(found.values())) == len(found) == 12


def test_the_heat_map_shows_percent_above_the_best_of_the_row() -> None:
    planned = complete(**FEW, seeds=(2021, 2022))
    figure = drawn(planned, "heatmap").figure
    own = planned.own
    assert len(own.groupby(["dataset", "horizon"])) == 8, "few enough for a row each"
    for metric, title in (("mse", "MSE"), ("mae", "MAE")):
        errors = own.pivot_table(index=["dataset", "horizon"], columns="model", values=metric, sort=False)[
            list(FEW["models"])
        ]
        above = 100 * (errors.to_numpy() / errors.to_numpy().min(axis=1, keepdims=True) - 1)
        axes = panel(figure, title)
        printed = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
        for (row, column), value in np.ndenumerate(above):
            assert float(printed[row + 0.5, column + 0.5]) == pytest.approx(value, abs=0.5 if value > 9.95 else 0.05)
        for row, best in enumerate(errors.min(axis=1)):
            assert printed[row + 0.5, 4.15] == f"{best:.3f}"


def test_a_hole_of_the_heat_map_is_a_hatched_dash_and_its_row_is_marked() -> None:
    planned = changed(complete(**FEW), "patchtst ILI h24", **FAILED)
    plot = drawn(planned, "heatmap")
    axes = panel(plot.figure, "MSE")
    marked = [label.get_text() for label in axes.get_yticklabels()]
    assert [label for label in marked if label.endswith("†")] == ["ILI 24 †"]
    (hatched,) = [patch for patch in axes.patches if patch.get_hatch()]
    assert (round(hatched.get_y()), round(hatched.get_x())) == (marked.index("ILI 24 †"), 1)
    assert [text.get_text() for text in axes.texts].count("–") == 1
    assert "best model of the row among the complete ones" in plot.caption
    assert "†" not in drawn(complete(**FEW), "heatmap").caption


def test_a_cell_that_lacks_seeds_is_grey_without_colour_and_never_the_best() -> None:
    planned = changed(complete(**FEW), "patchtst ILI h24 s2021")  # patchtst is best there
    plot = drawn(planned, "heatmap")
    axes = panel(plot.figure, "MSE")
    row = [label.get_text() for label in axes.get_yticklabels()].index("ILI 24 †")
    by_place = {text.get_position(): text for text in axes.texts}
    partial = by_place[1.5, row + 0.5]
    best = min(np.mean(cell(planned, model, "ILI h24")) for model in FEW["models"] if model != "patchtst")
    percent = 100 * (np.mean(cell(planned, "patchtst", "ILI h24")) / best - 1)
    assert float(partial.get_text().replace("−", "-")) == pytest.approx(percent, abs=0.05)
    assert partial.get_color() == FAINT
    assert by_place[4.15, row + 0.5].get_text() == f"{best:.3f}"
    assert not [patch for patch in axes.patches if patch.get_hatch()]
    assert not any(each.get_visible() for each in [*axes.get_xgridlines(), *axes.get_ygridlines()]), "none through it"
    assert re.search(r"ILI 24 \([^)]*; 3 of 4 models complete\)", plot.alt)
    assert plot.alt.count("of 4 models complete") == 1
    assert "Grey, without colour: some seeds are missing." in plot.caption


def test_rows_that_nobody_has_run_are_named_and_not_drawn() -> None:
    planned = changed(complete(**FEW), "ILI")
    plot = drawn(planned, "heatmap")
    rows = [label.get_text() for label in panel(plot.figure, "MSE").get_yticklabels()]
    assert rows == ["ETTh1 96", "ETTh1 192", "ETTh1 336", "ETTh1 720"]
    assert "since nobody has run them: ILI 24, ILI 36, ILI 48, ILI 60." in plot.caption


def test_the_alternative_text_of_the_heat_map_names_the_best_and_how_far_the_next_one_is() -> None:
    planned = complete(**FEW)
    plot = drawn(planned, "heatmap")
    means = {
        looks_title: np.mean(cell(planned, model, "ILI h24"))
        for looks_title, model in zip(looks(planned), FEW["models"], strict=True)
    }
    (first, best), (second, other), *_ = sorted(means.items(), key=lambda each: each[1])
    assert f"ILI 24 ({best:.3f}, next {second} +{100 * (other / best - 1):.1f} %)" in plot.alt
    assert re.search(rf"{first} on [^;]*ILI 24", plot.alt)


def test_numbers_on_colours_can_be_read() -> None:
    axes = panel(drawn(complete(**FEW), "heatmap").figure, "MSE")
    faces = np.asarray(axes.collections[0].get_facecolor())
    for text, face in zip(axes.texts, faces, strict=False):
        pair = [relative_luminance(np.array(to_rgb(colour))) for colour in (text.get_color(), face)]
        assert (max(pair) + 0.05) / (min(pair) + 0.05) >= 4.5


def test_many_rows_are_averaged_over_horizons_and_one_missing_run_makes_a_hole_of_the_cell() -> None:
    planned = changed(complete(models=("dlinear", "patchtst"), seeds=(2021,)), "dlinear ECL h96")
    axes = panel(drawn(planned, "heatmap").figure, "MSE")
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == [f"{name} †" if name == "ECL" else name for name in load_suite("paper").datasets]


def test_captions_count_runs_and_name_what_is_missing_and_why() -> None:
    planned = changed(complete(**FEW), "patchtst .*s2023")
    planned = changed(planned, "dlinear ILI h24 s2021", **FAILED)
    key = next(entry.spec.key for entry, result in planned.runs if result is None)
    planned = Results(planned.runs, {key: UnusableRecord(Path("results/s2023.json"), "of another protocol")})
    for name in ("heatmap", "horizons", "cost"):
        said = drawn(planned, name).caption
        assert "87 of 96 runs are done; missing: 1 refused, 7 not run, 1 failed: PatchTST on ETTh1; " in said
        assert "PatchTST, DLinear on ILI. " in said
        assert "DLinear on ILI 24, seed 2021: failed (OSError: no disk)." in said
        assert "PatchTST on ETTh1 96, seed 2023: refused (of another protocol)." in said
    assert "All 96 runs are done." in drawn(complete(**FEW), "horizons").caption


def test_ranks_are_joined_by_bars_only_with_enough_data_sets() -> None:
    models = ("logo_llm", "patchtst", "dlinear", "repeat_last")
    needed = datasets_needed(6)
    names = load_suite("paper").datasets
    for count in (needed - 1, needed):
        plot = drawn(complete(models=models, datasets=names[:count], seeds=(2021,)), "ranks")
        bars = [artist for artist in plot.figure.findobj(Line2D) if artist.get_gid() == "bar"]
        assert bool(bars) == (count == needed)
        assert ("no significance is claimed" in plot.caption) == (count < needed)
        assert ("A bar joins" in plot.caption) == (count == needed)


def test_mean_ranks_are_over_data_sets_that_are_complete_for_all() -> None:
    planned = changed(complete(**FEW), "patchtst ILI h24 s2022")
    plot = drawn(planned, "ranks")
    assert "1 of 2 data sets is complete for every model." in plot.caption
    own = planned.own
    means = own[own.dataset == "ETTh1"].groupby(["model", "horizon"]).mse.mean().groupby("model").mean()
    places = {
        line.get_label(): line.get_xdata()[0] for line in panel(plot.figure, "MSE").lines if line.get_label()[0] != "_"
    }
    assert places["PatchTST"] == means.rank()["patchtst"]
    assert places["Repeat last"] == 4


def test_bars_join_models_that_are_alike_pair_by_pair() -> None:
    names = list("abcd")
    means = pd.Series([1.25, 2.0, 3.0, 3.75], names)

    def bars(*alike: str) -> list[list[str]]:
        pairwise = pd.DataFrame(np.where(np.eye(4), 1.0, 0.001), names, names)
        for one, other in alike:
            pairwise.loc[one, other] = pairwise.loc[other, one] = 0.5
        axes = Figure().add_subplot()
        draw_diagram(axes, means, pairwise, dict.fromkeys(names, Look("#000000", "o")))
        places = [list(each.get_xdata()) for each in axes.lines if each.get_gid() == "bar"]
        return [[str(means.index[means == place][0]) for place in bar] for bar in places]

    assert bars("ab", "bc", "ac", "cd") == [["a", "b", "c"], ["c", "d"]]
    assert bars("ab", "bc", "cd") == [["a", "b"], ["b", "c"], ["c", "d"]]
    assert bars() == []


def test_the_pareto_front_is_what_no_other_model_beats() -> None:
    costs = pd.Series({"dear": 100.0, "cheap": 1.0, "middle": 10.0, "beaten": 20.0, "twin": 10.0, "worse": 1.0})
    errors = pd.Series({"dear": 0.3, "cheap": 0.9, "middle": 0.5, "beaten": 0.6, "twin": 0.5, "worse": 1.0})
    assert pareto(costs, errors) == ["cheap", "middle", "twin", "dear"]


def test_costs_and_errors_are_over_cells_complete_for_every_model_shown() -> None:
    planned = changed(complete(**FEW), "logo_llm ILI (h24|h36)")
    planned = changed(planned, "patchtst (ETTh1|ILI h(24|36|48))")
    plot = drawn(planned, "cost")
    assert "Over 1 of 8 cells, those complete for every model drawn (12 runs)." in plot.caption
    own = planned.own.assign(seconds=[result and result.cost and result.cost.train_s for _, result in planned.runs])
    own = own[(own.dataset == "ILI") & (own.horizon == 60)]
    means = own.groupby("model")[["mse", "seconds"]].mean().astype(float)
    relative = means.mse / np.exp(np.log(means.mse).mean())
    points = {line.get_label(): line for line in plot.figure.axes[0].lines}
    assert points["PatchTST"].get_xdata()[0] == pytest.approx(means.seconds["patchtst"])
    assert points["PatchTST"].get_ydata()[0] == pytest.approx(relative["patchtst"])
    assert points["Repeat last"].get_ydata()[0] == pytest.approx(relative["repeat_last"])


def test_models_without_a_cell_in_common_are_left_out_of_costs_by_name() -> None:
    gone = "Logo-LLM, Time-LLM-lite, CALF-lite, PatchTST, iTransformer"
    plot = drawn(changed(complete(datasets=("ILI",)), "(_ll|_lite|patchtst|itransformer).*s2021"), "cost")
    assert "Over 4 of 4 cells" in plot.caption
    assert f"Left out, without such a cell: {gone}." in plot.caption
    assert not set(gone.split(", ")) & set(texts(plot.figure))


def test_times_that_do_not_compare_give_way_to_operations() -> None:
    def axis_and_caption(pattern: str, **update: object) -> tuple[str, str]:
        where = WHERE.model_copy(update=update)
        plot = drawn(changed(complete(**FEW), pattern, where=where), "cost")
        assert plot.figure.axes[1].get_xlabel() == "Trained parameters"
        return plot.figure.axes[0].get_xlabel(), plot.caption

    label, caption = axis_and_caption("nothing")
    assert label == "Training time of a run (s)" and "All times are of Test CPU, 1 thread." in caption
    why = "Operations, and not times, which do not compare: the runs are of "
    for pattern, update, listed in (
        ("dlinear ILI", {"device": "Some GPU"}, "Test CPU, 1 thread (84 runs), Some GPU, 1 thread (12 runs)."),
        (
            "dlinear ILI",
            {"device": "Some GPU", "resumed": ("Test CPU, 1 thread",)},
            "Test CPU, 1 thread (84 runs), Some GPU, 1 thread after Test CPU, 1 thread (12 runs).",
        ),
        (
            ".*",
            {"device": "Some GPU", "resumed": ("Some GPU, 1 thread",), "sharing": 8},
            "Some GPU, 1 thread shared by 8 runs (96 runs).",
        ),
    ):
        label, caption = axis_and_caption(pattern, **update)
        assert label == "Floating-point operations of a forecast"
        assert why + listed in caption


def test_seeds_deviate_from_the_mean_of_their_own_cell() -> None:
    planned = changed(complete(**FEW), "patchtst ILI h24 s2022")
    axes = panel(drawn(planned, "spread").figure, "ILI")
    own = planned.own
    own = own[(own.model == "patchtst") & (own.dataset == "ILI") & (own.horizon > 24)]
    expected = [100 * (runs.mse / runs.mse.mean() - 1) for _, runs in own.groupby("horizon")]
    (dots,) = [each for each in axes.lines if each.get_label() == "PatchTST"]
    assert sorted(dots.get_xdata()) == pytest.approx(sorted(pd.concat(expected)))


def test_numbers_on_the_axis_of_seeds_stay_apart_and_models_without_a_spread_are_not_told_of() -> None:
    planned = complete(**FEW | {"datasets": ("ETTh1", "ILI", "Exchange")})  # three columns
    assert "Repeat last" not in drawn(planned, "spread").alt
    far = changed(
        planned, "patchtst ILI h24 s2022", evaluations=(Evaluation(dataset="ILI", mse=3.0, mae=1, windows=9),)
    )
    for each in (planned, far):
        figure = drawn(each, "spread").figure
        boxes = [
            label.get_window_extent()
            for label in panel(figure, "ILI").get_xticklabels()
            if panel(figure, "ILI").get_xlim()[0] <= label.get_position()[0] <= panel(figure, "ILI").get_xlim()[1]
        ]
        assert all(right.x0 - left.x1 > 3 for left, right in itertools.pairwise(sorted(boxes, key=lambda box: box.x0)))


def test_a_long_name_of_a_model_stays_over_its_own_panel() -> None:
    own = complete(models=("dlinear",), datasets=("ILI",), seeds=(2021, 2022))
    names = [f"my_forecasters:LongNameModel{number}" for number in range(6)]
    specs = [(name, entry.spec.model_copy(update={"model": name})) for name in names for entry, _ in own.runs]
    figure = drawn(Results([(PlannedRun(spec), record(spec)) for _, spec in specs]), "curves").figure
    assert len(figure.axes) == 6
    for axes in figure.axes:
        (title,) = [each for each in axes.get_children() if isinstance(each, Text) and each.get_text()]
        assert title.get_window_extent().x1 <= axes.bbox.x1 + 3


def test_forecasts_are_those_of_the_records_and_a_missing_one_says_why() -> None:
    planned = changed(complete(**FEW), "patchtst ILI")
    planned = changed(planned, "dlinear ILI", **FAILED)
    planned = changed(planned, "repeat_last ILI", sample=None)
    plot = drawn(planned, "forecasts")
    rows = {axes.get_ylabel().partition("\n")[0]: axes for axes in plot.figure.axes}
    found = [each.get_ydata() for each in rows["ILI"].lines if each.get_gid() == "forecast"]
    (result,) = [result for entry, result in planned.runs if entry.label == "logo_llm ILI h24 s2021" and result]
    assert [list(values) for values in found] == [list(result.sample.forecast)]
    said = [text.get_text() for text in rows["ILI"].texts]
    assert said == ["no sample:\nnot run", "no sample:\nfailed", "no sample:\nnone in\nits record"]
    assert len([each for each in rows["ETTh1"].lines if each.get_gid() == "forecast"]) == 4
    assert "6 of 8 runs are done" in plot.caption
    assert "1 of the records hold no sample" in plot.caption
    assert "one seed (2021)" in plot.caption


def test_no_more_of_the_look_back_is_shown_than_the_horizon_is_long() -> None:
    axes = drawn(complete("quick", models=("dlinear",)), "forecasts").figure.axes[0]
    drawn_past, drawn_truth, _ = [each for each in axes.lines if len(each.get_xdata()) > 2]
    assert len(drawn_past.get_xdata()) == 24
    assert len(drawn_truth.get_xdata()) == 25, "from the last step seen"


def test_every_curve_is_relative_to_its_own_best_epoch_and_the_mean_goes_as_far_as_all_seeds() -> None:
    planned = changed(complete(**FEW), "dlinear ILI h24 s2022")
    (short,) = (r for e, r in planned.runs if e.label == "dlinear ILI h24 s2021")
    assert short
    planned = changed(planned, "dlinear ILI h24 s2021", curve=short.curve[:7], best_epoch=3)
    plot = drawn(planned, "curves")
    axes = panel(plot.figure, "DLinear")
    colour = {each.get_label(): each.get_color() for each in axes.lines if each.get_gid() == "mean"}["ILI"]
    own = [each for each in axes.lines if each.get_color() == colour]
    thin = {each.get_gid(): each for each in own if str(each.get_gid()).startswith("seed")}
    (mean,) = [each for each in own if each.get_gid() == "mean"]
    relative = {}
    for result in (r for e, r in planned.runs if e.spec.model == "dlinear" and e.what == "ILI h24" and r):
        losses = np.array([epoch.val_loss for epoch in result.curve])
        relative[f"seed {result.spec.seed}"] = losses / losses.min()
    assert thin.keys() == relative.keys() == {"seed 2021", "seed 2023"}
    for name, curve in relative.items():
        assert thin[name].get_ydata() == pytest.approx(curve)
        assert thin[name].get_linewidth() < mean.get_linewidth() / 2
    assert mean.get_ydata() == pytest.approx(np.mean([curve[:7] for curve in relative.values()], axis=0))
    assert "Nothing to train: Repeat last." in plot.caption
    assert "mean over" not in plot.caption
    assert "seeds 2021, 2022, 2023" in plot.caption


def test_a_long_curve_is_drawn_by_few_points_and_keeps_its_lowest() -> None:
    planned = complete(models=("patchtst",), datasets=("ILI",), seeds=(2021,))
    (axes,) = drawn(planned, "curves").figure.axes
    (seed,) = [each for each in axes.lines if each.get_gid() == "seed 2021"]
    (result,) = (r for e, r in planned.runs if e.what == "ILI h24" and r)
    assert len(result.curve) == 100
    assert len(seed.get_xdata()) <= POINTS
    assert {result.best_epoch, 1, 100} <= set(seed.get_xdata())


def test_a_data_set_whose_runs_have_no_curve_is_named_below_each_panel() -> None:
    runs = [(e, None if e.spec.task.dataset == "ILI" else r) for e, r in complete(**FEW).runs]
    figure = drawn(Results(runs), "curves").figure
    assert [axes.get_xlabel() for axes in figure.axes] == ["missing: ILI"] * 3


def test_a_variant_is_compared_with_its_models_first_one_and_averaged_only_where_complete() -> None:
    planned = changed(complete("ablation", datasets=("ETTh1", "ILI")), r"logo_llm \(no backbone\) ILI h24 s2021")
    axes = drawn(planned, "variants").figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    own = planned.own
    own = own[(own.model == "logo_llm") & (own.dataset == "ETTh1")]
    means = {variant: mean_error(runs, "mse") for variant, runs in own.groupby("variant")}
    for variant in ("no backbone", "taps exchanged"):
        row = labels.index(variant)
        dots = [
            each.get_xdata()[0]
            for each in axes.lines
            if list(each.get_ydata()) == [row] and each.get_marker() != "None"
        ]
        assert dots[0] == pytest.approx(100 * (means[variant] / means["full"] - 1))
        bars = [each for each in axes.lines if each.get_gid() == "mean" and np.mean(each.get_ydata()) == row]
        assert bool(bars) == (variant == "taps exchanged")
    assert "missing: ILI" in [text.get_text() for text in axes.texts]


def test_taps_move_from_left_to_right_and_a_missing_run_breaks_the_line_and_the_mean() -> None:
    planned = changed(complete("taps"), r"local tap 3\) ILI h24 s2021")
    plot = drawn(planned, "layers")
    axes = panel(plot.figure, "Moving the local tap")
    lines = {each.get_label(): each for each in axes.lines}
    assert list(lines["ILI"].get_xdata()) == [0, 1, 2, 3, 4, 5, 6]
    assert np.isnan(lines["ILI"].get_ydata()).tolist() == [False, False, False, True, False, False, False]
    assert np.isnan(lines["mean"].get_ydata()).tolist() == [False, False, False, True, False, False, False]
    own = planned.own
    own = own[own.dataset == "ETTh1"].groupby("variant").mse.mean()
    assert lines["ETTh1"].get_ydata()[5] == pytest.approx(100 * (own["local tap 5"] / own["pretrained"] - 1))
    assert list(
        {each.get_label(): each for each in panel(plot.figure, "Moving the global tap").lines}["ILI"].get_xdata()
    ) == [2, 3, 4, 5, 6]


def test_probes_are_averaged_over_data_sets_that_are_complete() -> None:
    planned = changed(complete("taps"), r"random\) ILI h24 s2021")
    plot = drawn(planned, "layers")
    assert "over 3 of 4 data sets" in plot.caption
    measured = [
        layer.local_r2
        for entry, result in planned.runs
        if entry.variant == "pretrained" and entry.spec.task.dataset != "ILI" and result
        for layer in result.layers
        if (layer.stage, layer.block) == ("trained", 4)
    ]
    lines = {each.get_label(): each for each in panel(plot.figure, "Local change").lines}
    assert lines["Logo-LLM, pretrained, after training"].get_ydata()[4] == pytest.approx(np.mean(measured))


def small() -> Results:
    return changed(complete(models=FEW["models"], datasets=("ILI",), seeds=(2021, 2022)), "dlinear ILI h24 s2021")


def plotted(*names: str) -> list[Plot]:
    """Draw these figures alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "PLOTS", {name: kind for name, kind in PLOTS.items() if name in names})
        return [*plots(small(), load_suite("paper"))]


@lru_cache
def small_pictures() -> list[Picture]:
    return pictures(plotted("heatmap", "spread", "forecasts"))


def digest_of_pictures() -> str:
    files = [each.files[suffix] for each in small_pictures() for suffix in sorted(each.files)]
    files += [each.narrow + each.alt.encode() for each in small_pictures()]
    style = inlined(small_pictures()).style.encode()
    return hashlib.sha256(b"".join([*files, style])).hexdigest()


def test_the_same_records_give_the_same_bytes_in_any_process_and_none_imports_torch() -> None:
    code = "from tests.test_plots import *; print(digest_of_pictures(), 'torch' in sys.modules)"
    environment = os.environ | {"PYTHONHASHSEED": "1", "MPLBACKEND": "svg", "TZ": "Asia/Tokyo"}
    root = Path(__file__).parent.parent
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, cwd=root, check=True)
    assert found.stdout.decode().split() == [digest_of_pictures(), "False"]


def test_the_same_figure_twice_gives_the_same_bytes_and_touches_no_global_state() -> None:
    settings = dict(matplotlib.rcParams)
    (plot,) = plotted("spread")
    assert pictures([plot]) == [picture for picture in small_pictures() if picture.name == "spread"]
    assert not plot.figure.axes + plot.narrow.axes, "its memory is free again"
    assert dict(matplotlib.rcParams) == settings
    assert not importlib.import_module("matplotlib.pyplot").get_fignums()


def test_pictures_are_whole_files_without_dates_or_type_3_fonts() -> None:
    for picture in small_pictures():
        assert ElementTree.fromstring(picture.files["svg"]).tag.endswith("svg")
        assert picture.files["png"].startswith(b"\x89PNG")
        width = int.from_bytes(picture.files["png"][16:20])
        assert width == pytest.approx(150 * WIDE, rel=0.01), "150 dots an inch"
        assert picture.files["pdf"].startswith(b"%PDF")
        assert b"/Type3" not in picture.files["pdf"]
        for content in picture.files.values():
            assert not re.search(rb"CreationDate|<dc:date>|Software", content)


@pytest.mark.parametrize("suite", ["paper", "few_shot", "ablation", "taps", "layers", "zero_shot"])
def test_all_text_can_be_read_in_print_and_on_a_telephone_and_stays_on_the_page(suite: str) -> None:
    figures = plots(small() if suite == "paper" else few(suite, 1, 2), load_suite(suite))
    sizes = [(plot.figure, SMALL, plot.name) for plot in figures]
    sizes += [(plot.narrow, 11 / PIXELS * NARROW * 72, f"{plot.name}, narrow") for plot in figures]
    for figure, smallest, name in sizes:
        width, height = figure.bbox.size
        for text in figure.findobj(Text):
            if text.get_text() and text.get_visible():
                assert text.get_fontsize() >= smallest, (name, text)
        for axes in figure.axes:
            with styled():  # as figures are drawn: other settings have other ticks
                box = axes.get_tightbbox()
            if box is not None:
                assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= -2, name


def test_a_narrow_figure_shows_what_the_wide_one_shows() -> None:
    for plot in plots(small(), load_suite("paper")):
        assert plot.narrow.get_figwidth() == NARROW
        assert plot.alt.endswith(".")
        if plot.name != "forecasts":  # it shows one data set
            assert len(plot.narrow.axes) == len(plot.figure.axes)
            assert {axes.get_title(loc="left") for axes in plot.narrow.axes} == {
                axes.get_title(loc="left") for axes in plot.figure.axes
            }


SVG = "{http://www.w3.org/2000/svg}"


def test_drawings_of_a_page_hold_no_style_no_colour_and_no_address_and_share_no_id() -> None:
    found = inlined(small_pictures())
    ids: list[str] = []
    for picture in small_pictures():
        for kind, drawing in zip(("wide", "narrow"), found.drawings[picture.name], strict=True):
            root = ElementTree.fromstring(drawing)
            assert (root.tag, root.get("class"), root.get("role"), root.get("aria-label")) == (
                "svg",
                kind,
                "img",
                picture.alt,
            )
            own = [each.get("id") for each in root.iter() if each.get("id")]
            used = re.findall(r'(?:href="#|url\(#)(\w+)', drawing)
            assert set(used) <= set(own) | set(re.findall(r"url\(#(\w+)", found.style))
            ids += own
            for element in root.iter():
                assert not {"style", "onload", "fill", "stroke"} & set(element.attrib)
                assert not re.search(r"https?:|#[0-9a-f]{6}", " ".join(element.attrib.values()))
            original = ElementTree.fromstring(picture.files["svg"] if kind == "wide" else picture.narrow)
            words = [
                [each.text for each in tree.iter() if each.tag in ("text", f"{SVG}text")] for tree in (original, root)
            ]
            assert words[0] == words[1]
            assert len(drawing) < 0.6 * len(picture.files["svg"] if kind == "wide" else picture.narrow)
    assert len(ids) == len(set(ids))


def test_every_class_and_every_colour_of_a_drawing_has_a_rule_with_a_light_and_a_dark_value() -> None:
    found = inlined(small_pictures())
    drawings = "".join(drawing for pair in found.drawings.values() for drawing in pair)
    assert set(re.findall(r'class="(f\d+)"', drawings)) == set(re.findall(r"\.(f\d+)\{", found.style))
    used = set(re.findall(r"var\(--c-(\w+)\)", found.style))
    values = dict(re.findall(r"--c-(\w+):light-dark\(#\w+,(#\w+)\)", found.style))
    assert used <= set(values)
    assert all(value == dark(f"#{name}") for name, value in values.items())


def contrast(one: str, other: str) -> float:
    pair = sorted(relative_luminance(np.array(to_rgb(colour))) + 0.05 for colour in (one, other))
    return pair[1] / pair[0]


def test_colours_of_models_keep_their_hue_and_stay_apart_in_the_dark() -> None:
    models = tuple(MODELS)[: len(COLOURS)]
    colours = [look.colour for look in looks(complete(models=models, datasets=("ILI",), seeds=(2021,))).values()]
    twins = [dark(colour.lower()) for colour in colours]
    assert all(contrast(twin, GROUND) >= 3 for twin in twins)
    assert all(contrast(dark(colour.lower()), GROUND) >= 3 for colour in FURTHER_COLOURS)
    for number, one in enumerate(twins):
        for other in twins[number + 1 :]:
            assert np.abs(np.subtract(to_rgb(one), to_rgb(other))).sum() > 0.25, (one, other)
    for colour, twin in zip(colours, twins, strict=True):
        hues = [colorsys.rgb_to_hls(*to_rgb(each)) for each in (colour, twin)]
        assert hues[0][2] < 0.05 or abs(hues[0][0] - hues[1][0]) < 0.05, (colour, twin)
    blues = [dark("#0072b2"), dark("#56b4e9")]
    assert relative_luminance(np.array(to_rgb(blues[0]))) < relative_luminance(np.array(to_rgb(blues[1])))


def test_numbers_on_a_colour_scale_can_be_read_in_both_schemes() -> None:
    faces = [to_hex(colour) for colour in matplotlib.colormaps["Blues"](np.arange(256))]
    for face in faces:
        text = "#000000" if relative_luminance(np.array(to_rgb(face))) > MIDDLE else "#ffffff"
        assert contrast(face, text) >= 4.5, face
        assert contrast(dark(face), dark(text)) >= 4.5, face
    lights = [relative_luminance(np.array(to_rgb(dark(face)))) for face in faces]
    assert np.diff(lights).min() > -0.01  # a higher value is never darker, but for rounding
    assert dark("#ffffff") == GROUND == DARK["#ffffff"]


def test_a_narrow_forecast_sends_nobody_to_the_wide_one_for_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = changed(complete(datasets=("ILI", "ETTh1", "ECL"), seeds=(2021,)), "ECL")
    monkeypatch.setattr(catalogue, "PLOTS", {"forecasts": PLOTS["forecasts"]})
    (plot,) = plots(planned, load_suite("paper"))
    notes = plot.narrow.get_supxlabel().splitlines()
    assert [[name for name in ("ILI", "ETTh1", "ECL") if name in note] for note in notes] in (
        [["ETTh1"], ["ECL"]],
        [["ILI"], ["ECL"]],
    )


@pytest.mark.parametrize("digits", [1, 2])
def test_a_shorter_path_passes_through_the_same_points(digits: int) -> None:
    draws = np.random.default_rng(digits)
    points = draws.uniform(-50, 700, size=(40, 2)).round(4)
    ends = {"M": (0, 20), "z M": (20, 33), "C": (33, 36), "Q": (36, 38), "L": (38, 40)}
    path = " ".join(
        f"{command} " + " ".join(f"{x} {y}" for x, y in points[first:last]) for command, (first, last) in ends.items()
    )
    assert absolute(shorter_path(path, digits)) == pytest.approx(points, abs=0.51 * 10**-digits)


def absolute(path: str) -> np.ndarray:
    """The points of a path of relative commands."""
    at, start, points, command = np.zeros(2), np.zeros(2), [], ""
    tokens = iter(re.findall(r"[a-zA-Z]|-?\d*\.?\d+", path))
    for token in tokens:
        if token == "z":
            at = start
            continue
        first = next(tokens) if token.isalpha() else token
        command = token if token.isalpha() else "l" if command == "m" else command
        count = {"m": 1, "l": 1, "q": 2, "c": 3}[command]
        steps = np.array([float(first), *(float(next(tokens)) for _ in range(2 * count - 1))]).reshape(-1, 2)
        points += list(at + steps)
        at = points[-1]
        start = at if command == "m" else start
    return np.array(points)


def test_every_figure_has_a_title_and_a_name_for_its_files() -> None:
    assert all(re.fullmatch(r"[a-z_]+", name) and kind.title for name, kind in PLOTS.items())
