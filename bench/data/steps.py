"""Steps between rows: a fixed time, calendar months or business days. No torch.

Stamps lie on an axis of whole numbers: microseconds, months or business days since a first one. A row is one step after
the row before if the axis says so; hence months of any length are one step, and so are Friday and Monday.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

SIZES = {"D": 86_400_000_000, "h": 3_600_000_000, "min": 60_000_000, "s": 1_000_000, "ms": 1000, "us": 1}
"""Fixed unit -> microseconds; the longest first."""
SPOKEN = {"D": ("day", "days"), "M": ("month", "months"), "B": ("business day", "business days")}
"""Unit -> its words for one and for several; the other units are said as they are written."""
ALIASES = {
    **{f"{kind}{edge}": (count, "M") for kind, count in (("M", 1), ("BM", 1)) for edge in "SE"},
    **{f"{kind}{edge}": (count, "M") for kind, count in (("Q", 3), ("BQ", 3), ("Y", 12), ("BY", 12)) for edge in "SE"},
    **{"Q": (3, "M"), "Y": (12, "M"), "A": (12, "M"), "AS": (12, "M"), "W": (7, "D"), "d": (1, "D"), "H": (1, "h")},
    **{"T": (1, "min"), "S": (1, "s"), "L": (1, "ms"), "U": (1, "us")},
    **{unit: (1, unit) for unit in (*SIZES, "M", "B")},
}
"""Name of a step in pandas, today's or a former one, or ours -> count and unit."""
SEASONS = {
    **{"10min": 144, "15min": 96, "30min": 48, "1h": 24, "1D": 7, "7D": 52, "1B": 5},
    **{"1M": 12, "2M": 6, "3M": 4, "4M": 3, "6M": 2, "12M": 1},
}
"""Step -> rows of a season by convention."""
EPOCH = np.datetime64("0001-01-01")
"""A Monday before all stamps, where business days are counted from."""
Dates = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Step:
    """The time between rows: `count` of a fixed unit (SIZES), of months (M), or one business day (B)."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Step | None:
        """Return the step of a card (15min, 3M, 1B) or of a name in pandas (QS-FEB, 2W); None for any other text."""
        found = re.fullmatch(r"([1-9][0-9]{0,6})?([A-Za-z]+)(?:-[A-Z]{3})?", text)
        if not found or found[2] not in ALIASES:
            return None
        count, unit = ALIASES[found[2]]
        step = cls(count * int(found[1] or 1), unit)
        if unit in SIZES:
            return cls.of(step.count * SIZES[unit])
        return step if step.count <= {"M": 9999, "B": 1}[unit] else None

    @classmethod
    def of_card(cls, text: str) -> Step:
        """Return the step of a card, whose pattern admits no other text."""
        step = cls.parse(text)
        assert step is not None
        return step

    @classmethod
    def of(cls, microseconds: int) -> Step:
        """Return the fixed step in the largest unit that divides it."""
        unit = next(unit for unit, size in SIZES.items() if microseconds % size == 0)
        return cls(microseconds // SIZES[unit], unit)

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    @property
    def size(self) -> int:
        """The length of the step on its axis."""
        return self.count * SIZES.get(self.unit, 1)

    @property
    def length(self) -> pd.Timedelta:
        """The time that a step takes on average."""
        day = {"M": 365.25 / 12, "B": 7 / 5}.get(self.unit)
        return pd.Timedelta(self.size, "us") if day is None else pd.Timedelta(days=self.count * day)

    def say(self, length: int | None = None) -> str:
        """Write a length on the axis (None: one step) for people: 3 h, 1 day 2 h, 2 months, 1 business day."""
        rest, parts = self.size if length is None else length, []
        for unit, size in SIZES.items() if self.unit in SIZES else [(self.unit, 1)]:
            number, rest = divmod(rest, size)
            if number:
                parts.append(f"{number} {SPOKEN.get(unit, (unit, unit))[number > 1]}")
        return " ".join(parts)

    def places(self, stamps: pd.Series) -> np.ndarray:
        """Return the place of each stamp on the axis `[rows]`: microseconds, months, or business days."""
        moments = stamps.to_numpy("M8[us]")
        if self.unit == "M":
            return moments.astype("M8[M]").astype(np.int64)
        return np.busday_count(EPOCH, moments.astype("M8[D]")) if self.unit == "B" else moments.astype(np.int64)

    def odd(self, stamps: pd.Series) -> np.ndarray:
        """Return which rows are not one step after the row before, or fall on a weekend between business days."""
        strides = np.diff(self.places(stamps), prepend=np.int64(0))
        odd = strides != self.size
        odd[:1] = False
        return odd | (stamps.dt.day_of_week.to_numpy() > 4) if self.unit == "B" else odd

    def missing(self, stamps: pd.Series, rows: np.ndarray) -> pd.Series:
        """Return the stamps that are missing before `rows`, each a whole number of steps after the row before."""
        places = self.places(stamps)
        between = [np.arange(places[row - 1] + self.size, places[row], self.size) for row in rows]
        return self._moments(stamps, np.concatenate([np.arange(0), *between]))

    def after(self, stamps: pd.Series, count: int) -> pd.Series:
        """Return the `count` stamps after the last one, which follow the pattern of days that most stamps have."""
        return self._moments(stamps, self.places(stamps)[-1] + self.size * np.arange(1, count + 1))

    def before(self, stamps: pd.Series) -> pd.Timestamp:
        """Return the stamp before the first one, by the same pattern."""
        return self._moments(stamps, self.places(stamps)[:1] - self.size).iloc[0]

    def _moments(self, stamps: pd.Series, places: np.ndarray) -> pd.Series:
        """Return the moments at places on the axis, on the days and at the time of day that the stamps have."""
        if self.unit in SIZES:
            return pd.Series(places.astype("M8[us]"))
        days = _pattern(stamps)[0](places) if self.unit == "M" else np.busday_offset(EPOCH, places)
        first = stamps.to_numpy("M8[us]")[0]
        return pd.Series(days.astype("M8[us]") + (first - first.astype("M8[D]")))


def inferred_step(stamps: pd.Series) -> tuple[Step, np.ndarray]:
    """Return the step that most rows have, and which rows do not fit (`[rows]` of bool).

    Fixed steps, business days and months are tried in this order; months must also follow one pattern of days.
    """
    fixed = _commonest(stamps.to_numpy("M8[us]").astype(np.int64))
    tried = [Step.of(fixed), *[Step(1, "B")] * (fixed == SIZES["D"])]
    tried += [Step(_commonest(Step(1, "M").places(stamps)), "M")]
    step = min(tried, key=lambda step: step.odd(stamps).sum())
    return step, step.odd(stamps) | (_pattern(stamps)[1] if step.unit == "M" else False)


def _commonest(places: np.ndarray) -> int:
    """Return the commonest step forward on an axis, 1 where none leads forward."""
    strides = np.diff(places)
    lengths, counts = np.unique(strides[strides > 0], return_counts=True)
    return int(lengths[counts.argmax()]) if len(lengths) else 1


def _pattern(stamps: pd.Series) -> tuple[Dates, np.ndarray]:
    """Return the day of a month that most stamps fall on, as a function of months, and which stamps do not."""
    months, days = Step(1, "M").places(stamps), stamps.to_numpy("M8[D]")
    commonest, latest = int(stamps.dt.day.mode()[0]), int(stamps.dt.day.max())

    def start(months: np.ndarray) -> np.ndarray:
        return months.astype("M8[M]").astype("M8[D]")

    def same(day: int) -> Dates:
        return lambda months: np.minimum(start(months) + (day - 1), start(months + 1) - 1)

    dates: list[Dates] = [
        same(latest),  # the last day, too
        same(commonest),
        lambda months: np.busday_offset(start(months), 0, roll="forward"),
        lambda months: np.busday_offset(start(months + 1), -1, roll="forward"),
    ]
    odd = [pattern(months) != days for pattern in dates]
    best = min(range(len(dates)), key=lambda number: odd[number].sum())
    return dates[best], odd[best]
