"""Errors relative to the best model of each row. Pure; no torch, and seaborn only to draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.analysis.results import ERRORS, MEASURED, Results
from bench.core.names import Metric
from bench.report.figures.panels import ENDLESS, Drawn, blank, drawn, of_the_done, over_seeds, pretrained_on
from bench.report.figures.style import FAINT, HOLE, INK, SMALL, looks, narrow

DETAILED = 12
"""Give each horizon a row of its own up to this many rows; beyond, average over horizons."""
CLIPPED = 60
"""Percent at which the colours end."""
MIDDLE = 0.179
"""Relative luminance at which black and white text are read equally well, at a contrast of 4.6."""
SIDE_BY_SIDE = 9
"""Put the two maps side by side up to this many models."""


def heatmap(planned: Results) -> Drawn | None:
    """Draw a map of each error; None for a single model, which is always its own best."""
    frame, row = _with_rows(planned)
    names, first = list(looks(planned)), planned.metrics[0]
    if len(names) < 2:
        return None
    begun = frame.groupby("row", sort=False).mse.transform("count") > 0
    unrun, frame = frame[~begun].row.unique(), frame[begun]
    compared = frame.assign(**{metric: frame[metric].mask(frame.seen) for metric in planned.metrics})
    errors = {metric: _errors(compared, metric, names, over_seeds) for metric in planned.metrics}
    partial = {metric: _errors(frame, metric, names, of_the_done) for metric in planned.metrics}
    what = MEASURED.get(first, "Test errors on standardised channels") + "," * (first in MEASURED)
    lead = (
        f"{what} by {row}: percent above the best model of the row (0, in bold), whose "
        f"error is printed to the right; colours end at {CLIPPED} %"
    )
    gaps, hatched = errors[first].isna(), errors[first].isna() & partial[first].isna()
    if gaps.all(axis=None):
        return drawn(planned, "No cell is complete: there is nothing to compare.", lead)
    notes = [
        "Hatched: runs of the cell are missing, or did not measure this error." if hatched.any(axis=None) else "",
        "† The best model of the row among the complete ones." if gaps.any(axis=None) else "",
        _grey(frame, (gaps & ~hatched).any(axis=None)),
        f"Without a row, since nobody has run them: {', '.join(unrun)}." if len(unrun) else "",
    ]
    return drawn(planned, _figure(errors, partial), lead, *notes, alt=_best(errors[first], ERRORS[first]))


def _grey(frame: pd.DataFrame, any_grey: bool) -> str:
    """Say what a number without colour is."""
    seen = pretrained_on(frame)
    kinds = ["some seeds are missing"] if len(frame[~frame.seen & (frame.why != "")]) or not seen else []
    kinds += seen
    return f"Grey, without colour: {'; '.join(kinds)}." if any_grey else ""


def _errors(
    frame: pd.DataFrame, metric: str, names: list[str], mean: Callable[[pd.DataFrame, list[str], str], pd.DataFrame]
) -> pd.DataFrame:
    """Return errors by row of the map and title of the model."""
    return mean(frame, ["row", "title"], metric)["mean"].unstack().reindex(index=frame.row.unique(), columns=names)


def _best(errors: pd.DataFrame, error: str) -> str:
    """Say which model is best on which rows, how far the next one is, and where few models are compared."""
    rows: dict[str, list[str]] = {}
    for row, own in _above(errors, errors.min(axis=1)).dropna(how="all").iterrows():
        (first, _), *others = own.dropna().sort_values(kind="stable").items()
        behind = [f", next {name} +{'∞' if above == ENDLESS else f'{above:.1f}'} %" for name, above in others[:1]]
        few = f"; {1 + len(others)} of {len(own)} models complete" if own.isna().any() else ""
        rows.setdefault(str(first), []).append(f"{row} ({errors.at[row, first]:.3f}{''.join(behind)}{few})")
    return f"Lowest {error}: {'; '.join(f'{name} on ' + ', '.join(own) for name, own in rows.items())}."


def _with_rows(planned: Results) -> tuple[pd.DataFrame, str]:
    """Return the runs, each with the `row` of the map that it belongs to, and what a row is."""
    frame = planned.frame
    pairs = frame[frame.tested != frame.dataset]
    if len(pairs):
        what = "data set trained on → data set tested on, averaged over horizons"
        return pairs.assign(row=pairs.data + " → " + pairs.tested), what
    by_horizon = frame.assign(row=frame.data + " " + frame.horizon.astype(str))
    if by_horizon.row.nunique() <= DETAILED:
        return by_horizon, "data set and horizon"
    return frame.assign(row=frame.data), "data set, averaged over horizons"


def _figure(errors: dict[Metric, pd.DataFrame], partial: dict[Metric, pd.DataFrame]) -> Figure:
    """Draw the maps side by side if they fit, else one above the other."""
    metrics = [*errors]
    rows, columns = errors[metrics[0]].shape
    beside = columns <= SIDE_BY_SIDE and not narrow()
    figure = blank((1 if beside else len(metrics)) * (0.24 * rows + 0.4) + 0.6)
    panels = figure.subplots(*((1, len(metrics)) if beside else (len(metrics), 1)), squeeze=False).flat
    for axes, metric in zip(panels, metrics, strict=True):
        _draw(axes, errors[metric], partial[metric])
        axes.set_title(ERRORS[metric])
        axes.tick_params(labelleft=not beside or metric == metrics[0], labelbottom=beside or metric == metrics[-1])
    return figure


def _draw(axes: Axes, errors: pd.DataFrame, partial: pd.DataFrame) -> None:
    """Draw a map: a coloured number for each complete cell, a grey one for a partial cell, else a hatched dash."""
    import seaborn

    # 1. Complete cells, in black or white, whichever is read better on the colour.
    best = errors.min(axis=1)
    above = _above(errors, best)
    colours = {"vmin": 0, "vmax": CLIPPED, "cmap": "Blues", "cbar": False, "linewidths": 0.8, "linecolor": "white"}
    seaborn.heatmap(above, ax=axes, annot=above.map(_percent), fmt="", annot_kws={"fontsize": SMALL}, **colours)
    faces = np.asarray(axes.collections[0].get_facecolor())[above.notna().to_numpy().ravel()]
    for text, face in zip(axes.texts, faces, strict=True):
        text.set_color("#000000" if relative_luminance(face) > MIDDLE else "#ffffff")
        text.set_fontweight("bold" if text.get_text() == "0" else "normal")
    # 2. Incomplete cells.
    percent = _above(partial, best)
    for row, column in np.argwhere(above.isna().to_numpy()):
        value, place = percent.iat[row, column], (column + 0.03, row + 0.03)
        if np.isnan(value):
            axes.add_patch(Rectangle(place, 0.94, 0.94, facecolor=HOLE, hatch="/////", linewidth=0))
        words, colour = ("–", INK) if np.isnan(value) else (_percent(value), FAINT)
        axes.text(column + 0.5, row + 0.5, words, ha="center", va="center", fontsize=SMALL, color=colour)
    # 3. Errors of the best, labels.
    edge = errors.shape[1] + 0.15
    for row, value in enumerate(best):
        axes.text(edge, row + 0.5, "" if np.isnan(value) else f"{value:.3f}", va="center", color=FAINT, fontsize=SMALL)
    axes.text(edge, -0.12, "best", va="bottom", color=FAINT, fontsize=SMALL)
    labels = [f"{row} †" if gap else row for row, gap in errors.isna().any(axis=1).items()]
    axes.set(xlabel="", ylabel="")
    axes.set_yticks(np.arange(len(labels)) + 0.5, labels, rotation=0)
    axes.set_xticks(np.arange(errors.shape[1]) + 0.5, errors.columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.grid(False)  # it would cross the numbers of partial cells


def _above(errors: pd.DataFrame, best: pd.Series) -> pd.DataFrame:
    """Return percent above the best of each row, at most ENDLESS: what is above a best error of 0."""
    equal = errors.eq(best, axis=0)
    return (100 * (errors.div(best, axis=0) - 1)).mask(equal, 0).clip(upper=ENDLESS)


def relative_luminance(colour: np.ndarray) -> float:
    """Return the relative luminance of a colour (WCAG 2.2), 0 for black and 1 for white."""
    linear = np.where(colour[:3] <= 0.04045, colour[:3] / 12.92, ((colour[:3] + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _percent(value: float) -> str:
    """Return a number short enough for a cell."""
    if value == 0:
        return "0"
    if value < 0:
        return f"{value:.1f}".replace("-", "−")
    if value == ENDLESS:
        return "∞"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}" if value < 999.5 else f"{value / 1000:.1f}k"
