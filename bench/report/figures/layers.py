"""What each block of a language model holds, and the error by tap. Pure; no torch."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.results import STAGES, Results
from bench.report.figures.panels import Drawn, blank, drawn, key, over_seeds
from bench.report.figures.style import EMPTY, FAINT, SMALL, Look, looks, narrow

READ = {"local_r2": "Local change", "trend_r2": "Slow trend"}
"""Field of `Layer` -> title of its panel."""
DASHES: dict[str, tuple[float, tuple[float, ...]]] = {"untrained": (0, (3, 2)), "trained": (0, ())}
"""Stage of a probe -> dashes of its line."""
TAPS = {"local_tap": ("local_tap",), "global_tap": ("global_tap", "blocks")}
"""Tap -> options that may change with it: cutting the backbone moves the global one."""


def layers(planned: Results) -> Drawn | None:
    """Draw what probes read off each block, and the error by tap; None if nothing is probed and no tap is moved."""
    # 1. Probed runs of the data sets on which all are done; variants that move a tap.
    frame = planned.own.assign(spec=[entry.spec for entry, _ in planned.runs])
    probed = frame[[bool(spec.task.probe) for spec in frame.spec]]
    whole = probed[~probed.data.isin(probed[probed.why != ""].data)]
    swept = {tap: changes for tap in TAPS if len((changes := _by_tap(frame, tap)).columns) > 1}
    if probed.empty and not swept:
        return None
    # 2. Caption.
    probes = (
        "R2 on validation windows of linear probes of the state after each block (0: the input of the first) for a "
        "patch's step-to-step change (local) and for the mean over the half look-back that ends with it (trend): means "
        f"over {whole.data.nunique()} of {probed.data.nunique()} data sets, the complete ones, bands from the least "
        "seed to the largest; all states before the final norm"
    )
    taps = (
        "test MSE by tap, averaged over horizons, against the first variant's taps (ring): a thin line for each data "
        "set, a thick one for their mean unless one is missing"
    )
    lead = "; ".join([probes] * (len(probed) > 0) + [taps] * (len(swept) > 0))
    lead = lead[0].upper() + lead[1:]
    if whole.empty and all(changes.isna().all(axis=None) for changes in swept.values()):
        return drawn(planned, "No data set is complete: there is nothing to draw.", lead)
    blocks = _by_block(whole)
    figure = _figure(blocks, list(READ) if len(probed) else [], swept, looks(planned))
    return drawn(planned, figure, lead, alt=_ends(blocks, swept))


def _ends(blocks: pd.DataFrame, swept: dict[str, pd.DataFrame]) -> str:
    """Say what probes read at the first and the last block of each variant, and which tap has the lowest error."""
    sentences = []
    for field, title in READ.items():
        means = blocks[field].groupby(level=["title", "stage", "block"], sort=False).mean()
        for (name, stage), own in means.groupby(level=["title", "stage"], sort=False):
            ends = f"{own.iloc[0]:.2f} at its input, {own.iloc[-1]:.2f} after the last block"
            sentences.append(f"{title}, {name} ({STAGES[stage]}): R2 {ends}")
    for tap, changes in swept.items():
        means = changes.mean(skipna=False).dropna()
        if len(means):
            sentences.append(f"{tap.replace('_', ' ')}: lowest MSE at block {means.idxmin()} ({means.min():+.1f} %)")
    return f"{'; '.join(sentences)}."


def _by_tap(frame: pd.DataFrame, tap: str) -> pd.DataFrame:
    """Return the MSE's change (%) by data set and block that the tap reads: the first variant, then those that move it.

    Variants that move anything else do not count.
    """
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


def _by_block(whole: pd.DataFrame) -> pd.DataFrame:
    """Return means over data sets and horizons, by variant, stage, block and seed, of states before the final norm."""
    rows = [
        {"title": run.title, "seed": run.seed, **layer.model_dump()}
        for run in whole.itertuples()
        for layer in run.result.layers
        if not layer.normed
    ]
    measured = pd.DataFrame(rows, columns=["title", "seed", "stage", "block", *READ])
    return measured.groupby(["title", "stage", "block", "seed"], sort=False).mean()


def _figure(blocks: pd.DataFrame, probes: list[str], swept: dict[str, pd.DataFrame], looks: dict[str, Look]) -> Figure:
    """Draw probes above taps."""
    panels = [*probes, *swept]
    columns = 1 if narrow() else min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = blank(2.1 * rows + 0.1)
    for number, name in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, number)
        if name in READ:
            _draw_blocks(axes, blocks[name], looks)
            axes.set(title=READ[name], xlabel="After block", ylabel="R2 of a linear probe")
        else:
            _draw_taps(axes, swept[name], next(iter(looks.values())))
            axes.set(title=f"Moving the {name.replace('_', ' ')}", xlabel="Block it reads", ylabel="Change of MSE (%)")
    if len(blocks):
        key(figure, figure.axes[0].get_legend_handles_labels()[0])
    return figure


def _draw_blocks(axes: Axes, measured: pd.Series, looks: dict[str, Look]) -> None:
    """Draw a line for each variant, before and after training if there was any."""
    if measured.empty:
        _empty(axes)
        return
    trained = "trained" in measured.index.unique("stage")
    for (title, stage), own in measured.groupby(level=["title", "stage"], sort=False):
        over = own.groupby(level="block").agg(["mean", "min", "max"])
        colour, when, dash = looks[title].colour, STAGES[stage], DASHES[stage]
        label = f"{title}, {when}" if trained else title
        axes.plot(over["mean"], color=colour, linestyle=dash if trained else "-", label=label)
        axes.fill_between(over.index, over["min"], over["max"], color=colour, alpha=0.1, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_taps(axes: Axes, changes: pd.DataFrame, look: Look) -> None:
    """Draw lines over the blocks that the tap may read, broken at missing cells; ring the usual block (change 0)."""
    if changes.isna().all(axis=None):
        _empty(axes)
        return
    ordered = changes.sort_index(axis=1)
    axes.axhline(0, color=FAINT, linewidth=0.6, zorder=1)
    for name, own in ordered.iterrows():
        axes.plot(own, color=look.colour, linewidth=0.6, alpha=0.6, marker=".", markersize=3, label=name)
    axes.plot(ordered.mean(skipna=False), color=look.colour, marker=look.marker, linewidth=1.6, label="mean")
    axes.plot(changes.columns[0], 0, "o", color="none", markeredgecolor=FAINT, markersize=9)
    axes.set_xticks(list(ordered.columns))


def _empty(axes: Axes) -> None:
    """Write in a panel that nothing can be drawn there."""
    axes.set(xticks=[], yticks=[], facecolor=EMPTY)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    text, place = "no data set is complete", axes.transAxes
    axes.text(0.5, 0.5, text, transform=place, ha="center", va="center", color=FAINT, fontsize=SMALL)
