"""A data set card: the file, and the split, context and horizons that the papers use. No torch."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from bench.core.base import NAME, BenchError, Frozen, Positive, Sha256, Size, canonical, digest, parse, read_toml
from bench.core.system import HOME, SHIPPED_CARDS
from models.options import Shape


def longest_horizon(card: DatasetCard, context: int) -> int:
    """Return the longest horizon (in steps) for which every split holds a window."""
    train, val, test = (last - first for first, last in card.bounds().values())
    return min(train - context, val, test)


class Source(Frozen):
    """The place of a data set's file: below the data directory, or inside an installed Python package."""

    path: str
    package: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    repo: str | None = None
    revision: str = "main"

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.parts:
            raise ValueError("must be a relative path without '..'")
        return path


class DatasetCard(Frozen):
    """One data set: its file, and the split, context and horizons that the papers use. Read from TOML."""

    name: str
    title: str
    about: str
    """One sentence, for people and for prompts."""
    license: str
    sha256: Annotated[tuple[Sha256, ...], Field(min_length=1)]
    """Accepted hashes of the file; several if versions with the same numbers circulate."""
    stamp: str
    step: Annotated[str, Field(pattern=r"^([1-9][0-9]{0,6}(us|ms|s|min|h|D)|[1-9][0-9]{0,3}M|1B)$")]
    """Time between rows: a fixed time, months (M), or one business day (1B); bench.data.steps reads it."""
    irregular_steps: Annotated[int, Field(ge=0)] = 0
    """Number of steps in the authors' own file that differ from `step` (duplicate stamps and gaps)."""
    rows: Positive
    channels: Positive | Annotated[tuple[str, ...], Field(min_length=1)]
    """Column names in order; only their number if circulating copies damage the names."""
    season: Size
    split: tuple[float, float, float]
    """Train, val and test in rows, or as shares of the rows that sum to 1 (val takes the rounding)."""
    context: Size
    horizons: Annotated[tuple[Size, ...], Field(min_length=1)]
    notes: str = ""
    repaired: str = ""
    """What was filled in the file when the card was made; every caption says it. The values are pinned by `sha256`."""
    source: Source

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("must be letters, digits, '_' or '-', beginning with a letter")
        return name

    @field_validator("channels")
    @classmethod
    def _each_once(cls, channels: int | tuple[str, ...]) -> int | tuple[str, ...]:
        if isinstance(channels, tuple) and len(set(channels)) < len(channels):
            raise ValueError("must name each column once")
        return channels

    @model_validator(mode="after")
    def _split_fits(self) -> DatasetCard:
        shares = abs(sum(self.split) - 1) < 1e-9
        whole = all(part == int(part) for part in self.split) and sum(self.split) <= self.rows
        if min(self.split) <= 0 or not (shares or whole):
            raise ValueError(f"split must be three row counts within {self.rows} rows, or three shares that sum to 1")
        return self

    @property
    def width(self) -> int:
        """The number of channels."""
        return self.channels if isinstance(self.channels, int) else len(self.channels)

    def bounds(self) -> dict[str, tuple[int, int]]:
        """Return split -> (first row, one past the last row): `{"train": (0, a), "val": (a, b), "test": (b, c)}`."""
        train, val, test = self.split
        if abs(train + val + test - 1) < 1e-9:
            train, test = int(self.rows * train), int(self.rows * test)
            val = self.rows - train - test
        edges = accumulate((int(train), int(val), int(test)), initial=0)
        return dict(zip(("train", "val", "test"), pairwise(edges), strict=True))

    def windows(self, part: str, context: int, horizon: int, fraction: float = 1.0) -> int:
        """Count the windows of a split, at least 0; windows of val and test may look back into the split before.

        `fraction` keeps the earliest share of the training windows.
        """
        first, last = self.bounds()[part]
        if part != "train":
            return max(0, last - first - horizon + 1)
        return max(0, int((last - first - context - horizon + 1) * fraction))

    def holds(self, context: int, horizon: int, fraction: float = 1.0) -> bool:
        """Return whether every split holds a window."""
        return all(self.windows(part, context, horizon, fraction) for part in self.bounds())

    def shape(self, context: int, horizon: int) -> Shape:
        """Return the shape that a forecaster on this data set is built for."""
        return Shape(context, horizon, self.width, self.season, self.about)

    @property
    def digest(self) -> str:
        """Twelve hex digits over the fields that can change a number; part of every task on this data set."""
        harmless = {"title", "license", "notes", "repaired", "source", "context", "horizons"}
        return digest(self.model_dump(mode="json", exclude=harmless))[:12]


CARDS = HOME / "datasets"


def card_path(name: str) -> Path:
    """Return the path where a card of this name is read or written in the checkout or the current directory."""
    return CARDS / f"{name}.toml"


@lru_cache
def cards() -> dict[str, DatasetCard]:
    """Return every data set card by name; one of the user's own replaces a shipped card of the same name."""
    found = {}
    for path in (*sorted(SHIPPED_CARDS.glob("*.toml")), *sorted(CARDS.glob("*.toml"))):
        card = parse(DatasetCard, read_toml(path), str(path))
        if card.name != path.stem:
            raise BenchError(f"{path}: name is {card.name!r}. Do: call the file {card.name}.toml")
        found[card.name] = card
    return found


def canonical_card(name: str) -> DatasetCard:
    """Return the card whose name `name` spells in any case. Raises UnknownName if there is none."""
    return cards()[canonical("data set", name, cards())]
