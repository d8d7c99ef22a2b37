"""What each block of a language model holds, and the error by tap. Pure; no torch."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.analysis.results import Results
from bench.report.figures.panels import Drawn, blank, emptied, key, over_seeds, own_frame, said, settled, words
from bench.report.figures.style import FAINT, Look, looks

READ = {"local_r2": "Local change", "trend_r2": "Slow trend"}
Dash = tuple[float, tuple[float, ...]]
STAGES: dict[str, tuple[str, Dash]] = {
    "untrained": ("before training", (0, (3, 2))),
    "trained": ("after training", (0, ())),
}
TAPS = {"local_tap": ("local_tap",), "global_tap": ("global_tap", "blocks")}
"""A tap, and the options that may change with it: the global one is moved by cutting the backbone there."""


def layers(planned: Results) -> Drawn | None:
    """What a probe reads off each block, and the error by tap; None where nothing is probed and no tap is moved."""
    frame = own_frame(planned).assign(
        spec=[entry.spec for entry, _ in planned.runs], result=[result for _, result in planned.runs]
    )
    probed = frame[[spec.task.probe for spec in frame.spec]]
    swept = {tap: changes for tap in TAPS if len((changes := _by_tap(frame, tap)).columns) > 1}
    if probed.empty and not swept:
        return None
    whole = _complete(probed)
    probes = (
        "R2 on validation windows of linear probes of the state after each block (0: the input of the first) for a "
        "patch's step-to-step change (local) and for the mean over the half look-back that ends with it (trend): means "
        f"over {whole.data.nunique()} of {probed.data.nunique()} data sets, those that are complete, bands from the "
        "least to the largest"
    )
    taps = (
        "test MSE by tap, averaged over horizons, against the first variant's taps (ring): a thin line for each data "
        "set, a thick one for their mean where all are there"
    )
    lead = "; ".join([*([probes] if len(probed) else []), *([taps] if swept else [])])
    caption = said(planned, lead[0].upper() + lead[1:])
    if whole.empty and all(changes.isna().all(axis=None) for changes in swept.values()):
        return Drawn(words("No data set is complete: there is nothing to draw."), caption)
    return Drawn(_layers(_by_block(whole), len(probed) > 0, swept, looks(planned)), caption)


def _by_tap(frame: pd.DataFrame, tap: str) -> pd.DataFrame:
    """Change of the MSE in percent by data set and place of the tap, over the variants that move nothing else; the
    first column is the first variant's."""
    specs = frame.drop_duplicates("title").set_index("title").spec
    first, usual = specs.index[0], specs.iloc[0]
    means = over_seeds(frame, ["data", "title"])["mean"].unstack().reindex(frame.data.unique())
    changes = {}
    for name, spec in specs.items():
        moved = {option for option in usual.options if spec.options.get(option) != usual.options[option]}
        moves_only_it = tap in moved and moved.issubset(TAPS[tap])
        if spec.model == usual.model and (moves_only_it or (name == first and tap in spec.options)):
            changes[spec.options[tap]] = 100 * (means[name] / means[first] - 1)
    return pd.DataFrame(changes)


def _complete(probed: pd.DataFrame) -> pd.DataFrame:
    """The runs of the data sets on which every probed variant is complete."""
    gaps = probed[probed.why != ""].data
    return probed[~probed.data.isin(gaps)]


def _by_block(whole: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds and horizons, by variant, stage, block and data set."""
    rows = [
        {"title": run.title, "data": run.data, **layer.model_dump(include={"stage", "block", *READ})}
        for run in whole.itertuples()
        for layer in run.result.layers
    ]
    measured = pd.DataFrame(rows, columns=["title", "data", "stage", "block", *READ])
    return measured.groupby(["title", "stage", "block", "data"], sort=False).mean()


def _layers(blocks: pd.DataFrame, probed: bool, swept: dict[str, pd.DataFrame], shown: dict[str, Look]) -> Figure:
    """Probes above, taps below."""
    drawn = [*(READ if probed else ()), *swept]
    rows = (len(drawn) + 1) // 2
    figure = blank(2.1 * rows + 0.1)
    for number, name in enumerate(drawn):
        axes = figure.add_subplot(rows, min(2, len(drawn)), number + 1)
        if name in READ:
            _draw_blocks(axes, blocks[name], shown)
            axes.set(title=READ[name], xlabel="After block", ylabel="R2 of a linear probe")
        else:
            _draw_taps(axes, swept[name], next(iter(shown.values())))
            axes.set(title=f"Moving the {name.replace('_', ' ')}", xlabel="Block it reads", ylabel="Change of MSE (%)")
    titles = blocks.index.get_level_values("title").unique()
    handles = [
        Line2D([], [], color=shown[title].colour, linestyle=dash, label=f"{title}, {when}")
        for title in titles
        for when, dash in STAGES.values()
    ]
    if handles:
        key(figure, handles)
    return settled(figure)


def _draw_blocks(axes: Axes, measured: pd.Series, shown: dict[str, Look]) -> None:
    """A line for each variant, before and after training."""
    if measured.empty:
        return emptied(axes, "no data set is complete")
    for (title, stage), own in measured.groupby(level=["title", "stage"], sort=False):
        over = own.groupby(level="block").agg(["mean", "min", "max"])
        look, (when, dash) = shown[title], STAGES[stage]
        axes.plot(over.index, over["mean"], color=look.colour, linestyle=dash, label=f"{title}, {when}")
        axes.fill_between(over.index, over["min"], over["max"], color=look.colour, alpha=0.1, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return None


def _draw_taps(axes: Axes, changes: pd.DataFrame, look: Look) -> None:
    """Lines over the places of the tap, broken at holes; the usual place, where all are 0, is ringed."""
    if changes.isna().all(axis=None):
        return emptied(axes, "no data set is complete")
    usual = changes.columns[0]
    ordered = changes.sort_index(axis=1)
    axes.axhline(0, color=FAINT, linewidth=0.6, zorder=1)
    for name, own in ordered.iterrows():
        axes.plot(
            ordered.columns, own, color=look.colour, linewidth=0.6, alpha=0.6, marker=".", markersize=3, label=name
        )
    axes.plot(
        ordered.columns, ordered.mean(skipna=False), color=look.colour, marker=look.marker, linewidth=1.6, label="mean"
    )
    axes.plot(usual, 0, "o", color="none", markeredgecolor=FAINT, markersize=9)
    axes.set_xticks(list(ordered.columns))
    return None
