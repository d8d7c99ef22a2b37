"""add-dataset: a user's CSV becomes a card that loads, number by number, or is refused in one line, nothing left."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench.__main__ import main
from bench.core import card as card_module
from bench.core.base import BenchError, parse
from bench.core.card import DatasetCard
from bench.data.add_dataset import add_dataset
from bench.data.csv_file import read_table
from bench.data.problems import Given, Problems
from bench.data.series import file_of, load_series
from bench.overview import next_commands
from bench.train.windows import split_windows, standardized

ROWS = 300
START = datetime(2020, 1, 30, 22)
VALUES = np.stack([np.sin(np.arange(ROWS)) * 1e3 / 7, 0.1 + np.arange(ROWS) ** 2 / 3e5], axis=1)
Place = Callable[..., Path]
Line = list[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Cards and data directories of the test's own; writes a file to be added beside them."""
    (tmp_path / "cards").mkdir()
    monkeypatch.setattr(card_module, "CARDS", tmp_path / "cards")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    card_module.cards.cache_clear()

    def write(content: str | bytes, name: str = "My load.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
        return path

    yield write
    card_module.cards.cache_clear()


def hours(rows: int = ROWS, step: timedelta = timedelta(hours=1), form: str = "%Y-%m-%d %H:%M:%S") -> list[str]:
    return [(START + row * step).strftime(form) for row in range(rows)]


def table(stamps: list[str] | None = None, names: Line | None = None, delimiter: str = ",", mark: str = ".") -> str:
    """The two channels of VALUES below a header, every number with all of its digits."""
    stamps = hours() if stamps is None else stamps
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names or ["date", "load", "wind"])
    for stamp, row in zip(stamps, VALUES.tolist(), strict=False):
        writer.writerow([stamp, *(repr(value).replace(".", mark) for value in row)])
    return text.getvalue()


def added(file: Path, decided: Given = Given()) -> tuple[str, DatasetCard]:  # noqa: B008  (frozen)
    """What was printed, and the card as the harness then finds it."""
    before = set(card_module.cards())
    text, card = add_dataset(file, decided)
    text = "\n".join([text, *next_commands(card)])
    (name,) = set(card_module.cards()) - before
    return text, card_module.cards()[name]


def refusal(file: Path, decided: Given = Given()) -> str:  # noqa: B008  (frozen)
    """The one line of a refusal, once it is sure that nothing was left behind."""
    before = left(file.parent)
    with pytest.raises(BenchError) as caught:
        add_dataset(file, decided)
    assert left(file.parent) == before
    return str(caught.value)


def left(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


PLAIN = table()
READ = {
    "commas": (PLAIN, "utf-8", ["utf-8, delimiter ','", "'date', ISO", "no time zone given"]),
    "semicolons and decimal commas": (table(delimiter=";", mark=","), "utf-8", ["';'", "decimals   commas"]),
    "semicolons and decimal points": (table(delimiter=";"), "utf-8", ["delimiter ';'"]),
    "tabs": (table(delimiter="\t"), "utf-8", ["delimiter '\\t'"]),
    "pipes": (table(delimiter="|"), "utf-8", ["delimiter '|'"]),
    "a mark before UTF-8": (PLAIN, "utf-8-sig", ["utf-8-sig"]),
    "UTF-16": (table(names=["date", "load", "wind"]), "utf-16", ["utf-16"]),
    "UTF-16, the other end first": ("\ufeff" + PLAIN, "utf-16-be", ["utf-16"]),
    "carriage returns": (PLAIN.replace("\n", "\r\n"), "utf-8", []),
    "old carriage returns": (PLAIN.replace("\n", "\r"), "utf-8", []),
    "doubled carriage returns": (PLAIN.replace("\n", "\r\r\n"), "utf-8", []),
    "blanks and empty lines": (PLAIN.replace(",", " , ").replace("\n", "\n\n"), "utf-8", []),
    "quotes after blanks": (re.sub(r",([^,\n]+)", r', "\1"', PLAIN), "utf-8", []),
    "everything quoted": (re.sub(r"[^,\n]+", r'"\g<0>"', PLAIN), "utf-8", []),
    "a delimiter at the end of each line": (PLAIN.replace("\n", ",\n"), "utf-8", ["left out"]),
    "the letter T": (table(hours(form="%Y-%m-%dT%H:%M")), "utf-8", []),
    "UTC by Z": (table(hours(form="%Y-%m-%dT%H:%M:%SZ")), "utf-8", ["converted to UTC"]),
    "fractions of a second": (table(hours(form="%Y-%m-%d %H:%M:%S.%f")), "utf-8", []),
    "slashes, year first": (table(hours(form="%Y/%m/%d %H:%M")), "utf-8", ["ISO"]),
    "day first": (table(hours(form="%d.%m.%Y %H:%M:%S")), "utf-8", ["day first"]),
    "month first": (table(hours(form="%m/%d/%Y %H:%M")), "utf-8", ["month first"]),
    "epoch seconds": (
        table([str(int((START - datetime(1970, 1, 1)).total_seconds()) + 3600 * row) for row in range(ROWS)]),
        "utf-8",
        ["epoch seconds; in UTC"],
    ),
    "epoch milliseconds": (
        table([f"{int((START - datetime(1970, 1, 1)).total_seconds() + 3600 * row)}000.0" for row in range(ROWS)]),
        "utf-8",
        ["epoch milliseconds; in UTC"],
    ),
    "stamps without a name": (table(names=["", "load", "wind"]), "utf-8", ["column 'Unnamed: 0'"]),
    "stamps under any name": (table(names=["Beginn", "load", "wind"]), "utf-8", ["column 'Beginn'"]),
    "a nameless column that counts": (
        "".join(f"{row or ''},{line}\n" for row, line in enumerate(PLAIN.splitlines())),
        "utf-8",
        ["left out   columns that count the rows"],
    ),
    "stamps in the last column": (
        "".join(",".join([*line.split(",")[1:], line.split(",")[0]]) + "\n" for line in PLAIN.splitlines()),
        "utf-8",
        ["column 'date'"],
    ),
}


@pytest.mark.parametrize("case", READ)
def test_a_file_is_read_to_the_last_digit_however_it_is_written(place: Place, case: str) -> None:
    content, encoding, words = READ[case]
    text, card = added(place(content, encoding=encoding))
    for word in words:
        assert word in text
    lines = file_of(card).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "date,load,wind"
    assert [line.split(",")[0] for line in lines[1:]] == hours()
    np.testing.assert_array_equal([[float(cell) for cell in line.split(",")[1:]] for line in lines[1:]], VALUES)


def test_a_card_holds_what_was_inferred_and_loads_and_gives_windows(place: Place) -> None:
    text, card = added(place(PLAIN))
    assert (card.name, card.title, card.step, card.rows, card.channels) == (
        "My_load", "My_load (your own data)", "1h", ROWS, ("load", "wind"),
    )  # fmt: skip
    assert (card.season, card.split, card.context, card.horizons) == (24, (0.7, 0.1, 0.2), 36, (24,))
    assert card.source.path == "own/My_load.csv"
    assert "unknown" in card.license
    assert "My load.csv" in card.notes
    series = load_series(card)
    np.testing.assert_allclose(series.values, VALUES, rtol=1e-15)
    parts = split_windows(card, standardized(series, torch.device("cpu")), card.context, 24)
    assert {name: len(part) for name, part in parts.items()} == {"train": 210 - 36 - 24 + 1, "val": 7, "test": 37}
    for promised in (str(card_module.CARDS / "My_load.toml"), str(file_of(card)), "train 210, val 30, test 60 rows"):
        assert promised in text


def test_the_last_lines_are_the_commands_to_type_next(place: Place) -> None:
    stamps = hours(3000)
    rows = "".join(f"{stamp},{row % 24},{row % 7}\n" for row, stamp in enumerate(stamps))
    text, card = added(place("date,a,b\n" + rows))
    assert (card.context, card.horizons) == (96, (96, 192))
    assert text.splitlines()[-2:] == [
        "python -m bench run --suite quick --datasets My_load --models dlinear",
        "python -m bench.report --suite quick --table main --datasets My_load --models dlinear",
    ]


def test_horizons_that_are_given_are_the_cards_once_each(place: Place) -> None:
    _, card = added(place(PLAIN), Given(horizons=(5, 12, 5)))
    assert card.horizons == (5, 12)


@pytest.mark.parametrize("name", ["timestamp", "Date/Time", "Beginn"])
def test_numbers_that_could_be_counted_seconds_are_no_stamps_where_others_are(place: Place, name: str) -> None:
    rows = "".join(f"{1_500_000_000 + row},{stamp}\n" for row, stamp in enumerate(hours()))
    _, card = added(place(f"people,{name}\n{rows}"))
    assert (card.channels, card.step) == (("people",), "1h")


def test_a_column_called_like_stamps_goes_before_one_that_reads_like_them(place: Place) -> None:
    rows = "".join(f"2019-05-01,{stamp},{row}\n" for row, stamp in enumerate(hours()))
    assert "'built' (as '2019-05-01')" in refusal(place(f"built,time,load\n{rows}"))


def test_what_is_given_goes_before_what_is_inferred(place: Place) -> None:
    content = PLAIN.replace("date,load", "date,time").replace("2020-", "2019-")
    decided = Given("Mine", "date", "60min", 12, (0.6, 0.2, 0.2), (8, 4), 'Two "channels"\n of mine')
    _, card = added(place(content), decided)
    assert (card.name, card.step, card.season, card.split) == ("Mine", "1h", 12, (0.6, 0.2, 0.2))
    assert (card.context, card.horizons, card.about) == (36, (8, 4), 'Two "channels" of mine')
    assert card.channels == ("time", "wind")


def test_stamps_with_offsets_become_utc_even_where_the_offset_changes(place: Place) -> None:
    """A European spring: 01:00+01:00 is followed by 03:00+02:00."""
    first = datetime(2020, 3, 28)
    local = [first + timedelta(hours=row + 1 + (row >= 25)) for row in range(ROWS)]
    stamps = [f"{stamp:%Y-%m-%dT%H:%M:%S}{'+02:00' if row >= 25 else '+0100'}" for row, stamp in enumerate(local)]
    text, card = added(place(table(stamps)))
    lines = file_of(card).read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == [f"{first + timedelta(hours=row)}" for row in range(ROWS)]
    assert "converted to UTC" in text


def test_windows_1252_is_read_where_a_file_is_no_utf_8(place: Place) -> None:
    text, card = added(place(table(names=["date", "Größe", "°C"]), encoding="cp1252"))
    assert card.channels == ("Größe", "°C")
    assert "cp1252" in text


@pytest.mark.parametrize(
    ("minutes", "step", "season"),
    [(15, "15min", 96), (10, "10min", 144), (30, "30min", 48), (60, "1h", 24), (1440, "1D", 7), (10080, "7D", 52)],
)
def test_step_and_season_follow_from_the_stamps(place: Place, minutes: int, step: str, season: int) -> None:
    _, card = added(place(table(hours(step=timedelta(minutes=minutes)))))
    assert (card.step, card.season) == (step, season)


@pytest.mark.parametrize(
    ("season", "said"),
    [
        (36, "36 rows (as given)"),
        (52, "longer than the look-back: seasonal naive reads that far back, up to horizon 30"),
        (185, "longer than the look-back: seasonal naive reads that far back, up to horizon 25"),
        (190, "longer than the look-back: seasonal naive repeats the last value, as the rows hold no window"),
    ],
)
def test_a_season_longer_than_the_look_back_is_said_with_what_reads_it(place: Place, season: int, said: str) -> None:
    """300 rows: 210 to train on, 30 to validate."""
    text, card = added(place(PLAIN), Given(season=season, horizons=(24, 30)))
    assert (card.context, card.horizons) == (36, (24, 30))
    (line,) = (line for line in text.splitlines() if line.startswith("season "))
    assert said in line and ("longer" in line) == (season > 36)


@pytest.mark.parametrize(("period", "season"), [(8, 8), (56, 56)])
def test_a_season_without_a_convention_is_the_period_that_shows(place: Place, period: int, season: int) -> None:
    """Rows every three hours: a day is 8 of them, a week 56; the trend is far larger than either wave."""
    wave = np.where(np.arange(900) % period < period / 2, 1.0, -1.0)
    rows = zip(hours(900, timedelta(hours=3)), wave + np.arange(900), strict=True)
    text, card = added(place("date,a\n" + "".join(f"{stamp},{value}\n" for stamp, value in rows)))
    assert card.step == "3h"
    assert card.season == season
    assert "correlates" in text


def test_a_week_that_is_no_whole_number_of_rows_is_no_season(place: Place) -> None:
    """Rows every other day that swing every fourth: a week is three and a half of them."""
    rows = zip(hours(900, timedelta(days=2)), np.arange(900) % 4 // 2, strict=True)
    _, card = added(place("date,a\n" + "".join(f"{stamp},{value}\n" for stamp, value in rows)))
    assert card.season == 1


def test_noise_has_no_season(place: Place) -> None:
    noise = np.random.default_rng(0).normal(size=900)
    rows = zip(hours(900, timedelta(hours=3)), noise, strict=True)
    _, card = added(place("date,a\n" + "".join(f"{stamp},{value}\n" for stamp, value in rows)))
    assert card.season == 1


@pytest.mark.parametrize(
    ("rows", "context", "horizons"),
    [(10_000, 96, (96, 192, 336, 720)), (1920, 96, (96, 192)), (1900, 36, (24, 36, 48, 60)), (400, 36, (24, 36))],
)
def test_horizons_are_those_that_the_parts_can_hold(
    place: Place, rows: int, context: int, horizons: tuple[int, ...]
) -> None:
    content = "date,a\n" + "".join(f"{stamp},{row}\n" for row, stamp in enumerate(hours(rows)))
    _, card = added(place(content))
    assert (card.context, card.horizons) == (context, horizons)
    for horizon in card.horizons:
        split_windows(card, torch.zeros(rows, 1), context, horizon)


def test_names_that_are_there_twice_never_become_a_third_ones(place: Place) -> None:
    with pytest.raises(BenchError, match="2 columns called 'x'"):
        added(place("date,x,x,x (2),x (3)\n" + "".join(f"{stamp},1,2,3,4\n" for stamp in hours())))


def test_rows_longer_than_a_cell_may_be_are_cut_at_their_commas() -> None:
    row = ",".join(["0.12345678901234567"] * 7000)
    problems = Problems()
    table, delimiter = read_table(f"{','.join(map(str, range(7000)))}x\n{row}\n{row}\n".encode(), problems, {})
    assert (table.shape, delimiter, problems.found) == ((2, 7000), ",", [])


def test_a_proposed_command_has_every_digit_of_a_split() -> None:
    words = Given(split=(0.6666667, 0.16666665, 0.16666665)).command(Path("a.csv"), {"fill": "previous"})
    assert "--split 0.6666667 0.16666665 0.16666665 --fill previous" in words
    assert "--split 1234567 " in Given(split=(1234567.0, 1.0, 1.0)).command(Path("a.csv"), {})


def test_the_same_data_under_another_name_are_said(place: Place) -> None:
    text, _ = added(place(PLAIN), Given(name="one"))
    again, _ = added(place(PLAIN), Given(name="two"))
    assert "the same " not in text
    assert re.search(r"^the same +data as 'one': tables count each", again, re.MULTILINE)


def test_constant_channels_are_told_from_those_that_rest_over_the_train_part(place: Place) -> None:
    rows = "".join(f"{stamp},{row},0.1,{int(row > 280)}\n" for row, stamp in enumerate(hours()))
    text, _ = added(place("date,moves,dead,late\n" + rows))
    assert re.search(r"^warning +constant throughout: 'dead'$", text, re.MULTILINE)
    assert re.search(r"^caution +constant over the train part.*: 'late'$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("load.csv", "load"),
        ("2020 – Last.csv", "data_2020_Last"),
        ("..;rm -rf~.csv", "rm_-rf"),
        ("ünï 漢字.csv", "uni"),
        ("a" * 80, "a" * 60),
    ],
)
def test_a_name_is_made_from_the_files_own(place: Place, file: str, name: str) -> None:
    _, card = added(place(PLAIN, file))
    assert card.name == name


def test_the_same_content_again_is_there_already_and_changes_nothing(place: Place) -> None:
    file = place(PLAIN)
    _, card = added(file)
    toml = card_module.CARDS / "My_load.toml"
    toml.write_text(toml.read_text().replace("unknown: yours to say", "MIT"))
    card_module.cards.cache_clear()
    before = left(file.parent)
    assert "there already" in add_dataset(file, Given())[0]
    assert (
        "there already" in add_dataset(place(table(delimiter="\t"), "other.csv"), Given(name="MY_LOAD", season=24))[0]
    )
    (file.parent / "other.csv").unlink()
    assert left(file.parent) == before
    file_of(card).unlink()
    assert "there already" in add_dataset(file, Given())[0]
    assert left(file.parent) == before, "a copy that was deleted is put back"


def test_a_name_that_is_taken_is_refused(place: Place) -> None:
    added(place(PLAIN))
    changed = place(PLAIN.replace("2020-", "2019-"), "MY load.csv")
    assert "My_load holds other data. Do: choose another --name" in refusal(changed)
    assert "is there as My_load with season 24. Do: edit" in refusal(place(PLAIN), Given(season=7))
    assert load_series(card_module.cards()["My_load"]).values.shape == (ROWS, 2)


def test_another_file_in_the_place_of_the_copy_is_not_overwritten(place: Place, tmp_path: Path) -> None:
    (tmp_path / "data" / "own").mkdir(parents=True)
    (tmp_path / "data" / "own" / "My_load.csv").write_text("precious")
    assert "holds other data. Do: delete it" in refusal(place(PLAIN))


def with_row(row: int, line: str) -> str:
    """PLAIN with another line in the place of this one, counted as editors do."""
    lines = PLAIN.splitlines(keepends=True)
    lines[row - 1] = line
    return "".join(lines)


def without_rows(first: int, last: int) -> str:
    lines = PLAIN.splitlines(keepends=True)
    return "".join(lines[: first - 1] + lines[last:])


REFUSED: dict[str, tuple[str | bytes, Given, list[str]]] = {
    "nothing": (b"", Given(), ["has 0 rows"]),
    "blanks": (" \n\n", Given(), ["has 0 rows"]),
    "only names": ("date,load\n", Given(), ["has 1 rows"]),
    "one row": (PLAIN[:70].rsplit("\n", 1)[0], Given(), ["a single row"]),
    "a packed file": (gzip.compress(PLAIN.encode()), Given(), ["no text file", "export it as CSV"]),
    "UTF-16 cut in a character": (b"\xff\xfe1", Given(), ["no text file"]),
    "no names": (PLAIN.split("\n", 1)[1], Given(), ["no names in its first row"]),
    "no names and stamps that count": ("1577836800,1\n1577840400,2\n", Given(), ["no names in its first row"]),
    "one column": ("date\n" + "\n".join(hours()), Given(), ["no column of numbers besides its stamps"]),
    "no stamps": ("a,b\n" + "1,2\n" * 300, Given(), ["no column of stamps", "2020-12-31 23:00:00"]),
    "no such stamp column": (PLAIN, Given(stamp="dat"), ["no column 'dat' for --stamp; nearest: date"]),
    "another column for stamps": (PLAIN, Given(stamp="load"), ["line 2, column 'load'", "no time stamp"]),
    "an unreadable stamp": (with_row(9, "noon,1,2\n"), Given(), ["line 9, column 'date': 'noon'", "--stamp"]),
    "a first stamp in words": (with_row(2, "noon,1,2\n"), Given(), ["line 2, column 'date': 'noon'", "--stamp"]),
    "a day that does not exist": (with_row(9, "2020-02-30,1,2\n"), Given(), ["line 9", "'2020-02-30'"]),
    "no stamp": (with_row(9, ",1,2\n"), Given(), ["line 9, column 'date': ''"]),
    "stamps in two orders": (with_row(9, "31.01.2020 05:00,1,2\n"), Given(), ["line 9", "not written like"]),
    "day or month first": (
        table(hours(step=timedelta(seconds=1), form="01.02.2020 %H:%M:%S")),
        Given(),
        ["line 2, column 'date': '01.02.2020 22:00:00'", "day or month first"],
    ),
    "some stamps with a time zone": (
        with_row(9, "2020-01-31 05:00:00+00:00,1,2\n"),
        Given(),
        ["line 9", "+00:00", "time zone", "all in UTC"],
    ),
    "a stamp twice": (
        with_row(9, PLAIN.splitlines()[7] + "\n"),
        Given(),
        ["line 9", "twice", "04:00:00", "keep one", "UTC"],
    ),
    "out of order": (
        with_row(9, PLAIN.splitlines()[5] + "\n"),
        Given(),
        ["line 9", "out of order", "sort the rows", "clocks"],
    ),
    "a gap": (
        without_rows(9, 10),
        Given(),
        ["line 9: 2020-01-31 07:00:00 is 3 h after the row before, step 1 h (1 gap, 2 rows missing)", "clocks"],
    ),
    "another step": (PLAIN, Given(step="2h"), ["line 3", "is 1 h after the row before, not 2 h", "--step 1h"]),
    "a step of a fortnight's name": (PLAIN, Given(step="fortnight"), ["--step 'fortnight'", "15min"]),
    "an empty cell": (with_row(9, "2020-01-31 05:00:00,1,\n"), Given(), ["line 9, column 'wind': ''", "missing"]),
    "text": (with_row(9, "2020-01-31 05:00:00,closed,2\n"), Given(), ["line 9, column 'load': 'closed'"]),
    "NaN": (with_row(9, "2020-01-31 05:00:00,NaN,2\n"), Given(), ["line 9, column 'load': 'NaN'"]),
    "infinity": (with_row(9, "2020-01-31 05:00:00,-inf,2\n"), Given(), ["line 9, column 'load': '-inf'"]),
    "too many digits": (with_row(9, "2020-01-31 05:00:00,1e999,2\n"), Given(), ["line 9, column 'load': '1e999'"]),
    "too large a number": (with_row(9, "2020-01-31 05:00:00,1e300,2\n"), Given(), ["'load'", "too large"]),
    "marks between thousands": (
        with_row(9, '2020-01-31 05:00:00,"1,234.5",2\n'),
        Given(),
        ["line 9, column 'load': '1,234.5'", "thousands"],
    ),
    "decimal points among commas": (
        table(delimiter=";", mark=",").replace("2020-01-31 05:00:00;", "2020-01-31 05:00:00;1.5;2,5\n#", 1),
        Given(),
        ["line 10", "cells"],
    ),
    "points where commas are decimal": (
        re.sub("(05:00:00;[^,]*),", r"\1.", table(delimiter=";", mark=","), count=1),
        Given(),
        ["line 9, column 'load'", "thousands"],
    ),
    "an underscore in a number": (
        with_row(9, "2020-01-31 05:00:00,1_0,2\n"),
        Given(),
        ["line 9, column 'load': '1_0'"],
    ),
    "a missing cell": (with_row(9, "2020-01-31 05:00:00,1\n"), Given(), ["line 9: 2 cells", "has 3"]),
    "a cell too many": (with_row(9, "2020-01-31 05:00:00,1,2,3\n"), Given(), ["line 9: 4 cells", "has 3"]),
    "an open quote": (with_row(9, '"2020-01-31 05:00:00,1,2\n'), Given(), ["line 301: 1 cells"]),
    "an endless cell": (PLAIN + '"' + "9" * 200_000, Given(), ["field larger", "quote"]),
    "two columns of one name": (table(names=["date", "load", " load"]), Given(), ["2 columns called 'load'", "rename"]),
    "a channel without a name": (
        table(names=["date", "load", ""]),
        Given(),
        ["no name for its column 3", "--drop 'Unnamed: 2'"],
    ),
    "Nixtla's layout": (table(names=["ds", "unique_id", "y"]), Given(), ["'unique_id'", "Nixtla"]),
    "date besides the stamps": (table(names=["ds", "date", "y"]), Given(stamp="ds"), ["'date'", "rename"]),
    "nothing moves": ("date,a,b\n" + "".join(f"{stamp},0.1,2\n" for stamp in hours()), Given(), ["ever changes"]),
    "too few rows": (
        table(hours(200)),
        Given(),
        ["train 140, val 20, test 40", "look-back 36 and horizon 24", "--horizons (at most 20)"],
    ),
    "too few rows for any horizon": (table(hours(9)), Given(), ["train 6, val 2, test 1", "Do: add rows"]),
    "too few rows for this split": (table(hours(50)), Given(), ["train 35", "or take --horizons 4 --split 42 4 4"]),
    "a horizon that does not fit": (PLAIN, Given(horizons=(24, 31)), ["horizon 31", "(at most 30)"]),
    "a horizon of nothing": (PLAIN, Given(horizons=(0,)), ["horizons", "greater than 0"]),
    "shares that sum to more": (PLAIN, Given(split=(0.7, 0.2, 0.2)), ["three shares that sum to 1"]),
    "more rows than there are": (PLAIN, Given(split=(200, 100, 100)), ["row counts within 300 rows"]),
    "no season": (PLAIN, Given(season=0), ["season", "greater than 0"]),
    "a path for a name": (PLAIN, Given(name="../../etc"), ["'../../etc'", "--name"]),
    "too long a name": (PLAIN, Given(name="a" * 61), ["at most 60"]),
    "half a character about it": (PLAIN, Given(about="\ud800"), ["--about", "no valid text"]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line_and_nothing_is_left(place: Place, case: str) -> None:
    content, decided, words = REFUSED[case]
    file = place(content)
    message = refusal(file, decided)
    assert message.startswith(f"{file}: ")
    assert message.isprintable()
    assert len(message.replace(str(file), "")) < 500
    for word in words:
        assert word in message


def test_a_file_that_is_not_there_is_named(place: Place, tmp_path: Path) -> None:
    assert re.match(rf"{tmp_path}/none\.csv: No such file", refusal(tmp_path / "none.csv"))
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "cards", tmp_path / "pipe.csv"):
        assert "it is not a regular file" in refusal(path)


def test_a_name_of_nothing_but_signs_asks_for_one(place: Place) -> None:
    assert "--name" in refusal(place(PLAIN, "数据.csv"))


@pytest.mark.parametrize("target", ["own", "cards"])
def test_a_failure_to_write_leaves_neither_copy_nor_card(
    place: Place, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """The disk is full, or the folder read-only, when the copy or, last, the card is put in its place."""
    replace = Path.replace

    def refuse(self: Path, to: Path) -> Path:
        if to.parent.name == target:
            raise OSError(28, "No space left on device", str(to))
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", refuse)
    assert "No space left on device" in refusal(place(PLAIN))


def test_a_copy_that_was_there_before_stays_when_the_card_cannot_be_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = place(PLAIN)
    added(file)
    (card_module.CARDS / "My_load.toml").unlink()
    card_module.cards.cache_clear()
    monkeypatch.setattr(Path, "replace", lambda self, to: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    assert "Read-only file system" in refusal(file)
    assert (file.parent / "data" / "own" / "My_load.csv").is_file()


def test_the_card_is_put_in_place_last(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: moved.append(to.suffix) or replace(self, to))
    added(place(PLAIN))
    assert moved == [".csv", ".toml"]


hostile = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    [
        '"',
        '""',
        "a\\",
        "'",
        "\x7f",
        "a\nb",
        "a\rb",
        "\u2028",
        "[source]",
        "x = 1",
        "#",
        "{}",
        "%s",
        "NA",
        "1",
        "=1+1",
        "é",
    ]
)
FUZZ = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def fresh(folder: Path) -> None:
    """Whatever the last example left is gone."""
    for path in (*folder.glob("cards/*"), *folder.glob("data/own/*")):
        path.unlink()
    card_module.cards.cache_clear()


@FUZZ
@example(names=[";;"])  # more of it than of the delimiter
@given(names=st.lists(hostile, min_size=1, max_size=4))
def test_hostile_names_of_channels_reach_the_card_as_they_are(place: Place, tmp_path: Path, names: list[str]) -> None:
    fresh(tmp_path)
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(["date", *names])
    writer.writerows([stamp, *[row % 5] * len(names)] for row, stamp in enumerate(hours(250)))
    file = place(text.getvalue())
    kept = [name.replace("\r\n", "\n").replace("\r", "\n").strip() for name in names]
    if len({"date", "unique_id", "", *kept}) < len(kept) + 3 or any(name.startswith("Unnamed") for name in kept):
        refusal(file)
        return
    _, card = added(file)
    assert list(card.channels) == kept
    assert parse(DatasetCard, tomllib.loads((card_module.CARDS / "My_load.toml").read_bytes().decode()), "card") == card
    assert load_series(card).values.shape == (250, len(names))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Bytes of any kind, or a good file with pieces cut out, repeated or put in."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.binary(max_size=200))
    short = table(hours(60, timedelta(hours=draw(st.sampled_from([1, 24])))), delimiter=draw(st.sampled_from(",;\t|")))
    content = short.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        cut = draw(st.sampled_from([0, 1, 2, 20]))
        piece = draw(
            st.sampled_from(
                [b"", b"0", b"-", b",", b";", b'"', b"\n", b"\r", b"\t", b"e", b"+01:00", b"Z", b"\xff", b"9" * 30]
            )
            | st.binary(max_size=6)
        )
        content = content[:at] + piece + content[at + cut :]
    return content


@FUZZ
@given(content=damaged(), horizons=st.sampled_from([None, (4,)]))
def test_whatever_a_file_holds_it_becomes_a_card_that_loads_or_one_line(
    place: Place, tmp_path: Path, content: bytes, horizons: tuple[int, ...] | None
) -> None:
    fresh(tmp_path)
    file = place(content)
    try:
        add_dataset(file, Given(horizons=horizons))
    except BenchError as error:
        assert str(error).isprintable()
        assert str(error).startswith(f"{file}: ")
        assert not [*tmp_path.glob("cards/*"), *tmp_path.glob("data/own/*")]
    else:
        (card,) = card_module.cards().values()
        assert len(load_series(card).values) == card.rows


def rows_of(stamps: Sequence[object], head: str = "date,a,b", more: Callable[[int], str] = lambda row: "") -> str:
    """Two channels that move, below `head`; `more` is the end of each line."""
    lines = [f"{stamp},{row % 7}.5,{row % 5}{more(row)}" for row, stamp in enumerate(stamps)]
    return "\n".join([head, *lines, ""])


def test_the_weeks_of_a_year_are_joined_from_two_columns(place: Place) -> None:
    weeks = days("2000-01-03", ROWS, "7D", "%G,%V")
    file = place(rows_of(weeks, "year,week,a,b"))
    words = command_of(refusal(file))
    assert words[-3:] == ["--stamp", "year", "week"]
    _, card = added(file, Given(stamp=["year", "week"]))
    assert (card.step, card.season, card.rows) == ("7D", 52, ROWS)
    assert load_series(card).values[:2].tolist() == [[0.5, 0], [1.5, 1]]
    missing = [week for week in weeks if week != "2004,53"]
    assert "1 gap, 1 row missing" in refusal(place(rows_of(missing, "year,week,a,b")), Given(stamp=["year", "week"]))


def test_a_week_that_its_year_does_not_have_is_no_stamp(place: Place) -> None:
    weeks = [f"{2001 + row // 53}-W{row % 53 + 1:02d}" for row in range(ROWS)]
    assert "'2001-W53' is no time stamp" in refusal(place(rows_of(weeks)))


def days(first: str, rows: int, frequency: str, form: str = "%Y-%m-%d") -> list[str]:
    return list(pd.date_range(first, periods=rows, freq=frequency, unit="s").strftime(form))


CALENDAR = {
    "month start": (days("1940-01-01", ROWS, "MS"), "1M", 12, "1940-02-01"),
    "month end": (days("1940-01-31", ROWS, "ME"), "1M", 12, "1940-02-29"),
    "months without days": (days("1940-01-01", ROWS, "MS", "%Y-%m"), "1M", 12, "1940-02-01"),
    "months as Eurostat writes them": (days("1940-01-01", ROWS, "MS", "%YM%m"), "1M", 12, "1940-02-01"),
    "months without signs": (days("1940-01-01", ROWS, "MS", "%Y%m"), "1M", 12, "1940-02-01"),
    "days without signs": (days("1940-01-01", ROWS, "D", "%Y%m%d"), "1D", 7, "1940-01-02"),
    "quarters by date": (days("1800-01-01", ROWS, "QS"), "3M", 4, "1800-04-01"),
    "quarters by name": ([f"{1900 + row // 4}Q{row % 4 + 1}" for row in range(ROWS)], "3M", 4, "1900-04-01"),
    "quarters with a hyphen": ([f"{1900 + row // 4}-Q{row % 4 + 1}" for row in range(ROWS)], "3M", 4, "1900-04-01"),
    "quarters with a blank": ([f"{1900 + row // 4} Q{row % 4 + 1}" for row in range(ROWS)], "3M", 4, "1900-04-01"),
    "half-years": ([f"{1800 + row // 2}H{row % 2 + 1}" for row in range(ROWS)], "6M", 2, "1800-07-01"),
    "years alone": ([str(1000 + row) for row in range(ROWS)], "12M", 1, "1001-01-01"),
    "months by name": (days("1940-01-01", ROWS, "MS", "%b-%Y"), "1M", 12, "1940-02-01"),
    "months by full name": (days("1940-01-01", ROWS, "MS", "%B %Y"), "1M", 12, "1940-02-01"),
    "months by name behind the year": (days("1940-01-01", ROWS, "MS", "%Y %b"), "1M", 12, "1940-02-01"),
    "days and months by name": (days("1940-01-01", ROWS, "D", "%d-%b-%Y"), "1D", 7, "1940-01-02"),
    "hours of such days": (days("1940-01-01", ROWS, "h", "%d-%B-%Y %H:%M"), "1h", 24, "1940-01-01 01:00:00"),
    "days behind the month by name": (days("1940-01-01", ROWS, "D", "%b %d %Y"), "1D", 7, "1940-01-02"),
    "days of years of two digits": (days("1999-12-31", ROWS, "D", "%d-%b-%y"), "1D", 7, "2000-01-01"),
    "months of years of two digits": (days("1990-01-01", ROWS, "MS", "%b-%y"), "1M", 12, "1990-02-01"),
    "weeks": (days("2000-01-03", ROWS, "7D", "%G-W%V"), "7D", 52, "2000-01-10"),
    "weeks without a hyphen": (days("2000-01-03", ROWS, "7D", "%GW%V"), "7D", 52, "2000-01-10"),
    "business days": (days("2010-01-01", ROWS, "B"), "1B", 5, "2010-01-04"),
    "the years 2250 to 2262": (days("2250-01-01", ROWS, "14D"), "14D", 26, "2250-01-15"),
    "the year 2300 by the hour": (days("2300-01-01", ROWS, "h", "%Y-%m-%d %H:%M"), "1h", 24, "2300-01-01 01:00:00"),
}


@pytest.mark.parametrize("case", CALENDAR)
def test_calendar_steps_are_steps(place: Place, case: str) -> None:
    stamps, step, season, second = CALENDAR[case]
    text, card = added(place(rows_of(stamps)), Given(season=26 if season == 26 else None))
    assert (card.step, card.season, card.rows) == (step, season, ROWS)
    assert card.irregular_steps == 0
    assert file_of(card).read_text().splitlines()[2].startswith(second)
    series = load_series(card)
    assert np.abs(series.calendar).max() <= 0.5
    assert "--suite quick" in text


def test_a_channel_called_year_beside_stamps_is_a_channel(place: Place) -> None:
    _, card = added(place(rows_of(hours(), "date,a,year")))
    assert card.channels == ("a", "year")
    stamps = hours()
    text = "year,date,a\n" + "".join(f"{2020 + row % 2},{stamp},{row % 7}\n" for row, stamp in enumerate(stamps))
    _, card = added(place(text, "other.csv"))
    assert card.channels == ("year", "a")


@pytest.mark.parametrize(("frequency", "step", "season"), [("20ms", "20ms", 50), ("250us", "250us", 4000)])
def test_steps_below_a_second_keep_their_digits_and_may_have_a_season_of_a_second(
    place: Place, frequency: str, step: str, season: int
) -> None:
    rows = max(400, 3 * season)
    stamps = pd.date_range("2020-01-01", periods=rows, freq=frequency)
    wave = np.sin(np.arange(rows) * 2 * np.pi / season)
    _, card = added(place("date,a\n" + "".join(f"{s.isoformat()},{v}\n" for s, v in zip(stamps, wave, strict=True))))
    assert (card.step, card.season) == (step, season)
    assert file_of(card).read_text().splitlines()[2].startswith(f"{stamps[1]:%Y-%m-%d %H:%M:%S.%f},")


def test_steps_by_their_names_in_pandas(place: Place) -> None:
    _, card = added(place(rows_of(days("1940-01-31", ROWS, "ME"))), Given(step="ME"))
    assert card.step == "1M"


def test_months_on_days_without_a_pattern_need_to_be_told(place: Place) -> None:
    stamps = [f"{1980 + row // 12}-{row % 12 + 1:02d}-{15 + (row == 100) * 3}" for row in range(ROWS)]
    file = place(rows_of(stamps))
    message = refusal(file)
    assert "line 102: 1988-05-18 is on another day of the month than most (--step 1M accepts" in message
    assert command_of(message) == [str(file), "--step", "1M"]
    _, card = added(file, Given(step="1M"))
    assert card.step == "1M"


def command_of(message: str) -> list[str]:
    """The words of the command that a refusal proposes, behind `add-dataset`."""
    command = re.split(r" \(or |; by hand: | \(local time", message.partition("python -m bench add-dataset ")[2])[0]
    return shlex.split(command)


def test_holidays_that_are_missing_from_business_days_are_gaps_by_name(place: Place) -> None:
    stamps = [day for day in days("2010-01-01", ROWS, "B") if day[5:] not in ("04-02", "05-31", "07-05")]
    message = refusal(place(rows_of(stamps)))
    assert "2010-04-02 (Friday) is missing, step 1 business day (3 gaps, 3 rows missing" in message
    assert "2010-05-31 (Monday) and 2010-07-05 (Monday)" in message
    _, card = added(place(rows_of(stamps)), Given(fill="previous"))
    assert (card.step, card.rows, card.repaired) == ("1B", ROWS, "3 rows filled with the row before")


HOLES = [stamp for row, stamp in enumerate(hours(ROWS + 3)) if row not in (100, 101, 200)]
SPOILT = "date,a,b,flag,site\n" + "".join(
    f"{stamp},{'' if row == 20 else row % 7},{row % 5},{row % 3 == 0},north\n" for row, stamp in enumerate(HOLES)
)


def test_all_problems_come_in_one_answer_and_its_command_solves_them(place: Place) -> None:
    file = place(SPOILT)
    message = refusal(file)
    for words in (
        "3 problems: (1) has columns that are not numbers: 'flag' (true/false), 'site' (as 'north')",
        "(2) line 22, column 'a': '' is missing",
        "line 102: 2020-02-04 04:00:00 is 3 h after the row before, step 1 h (2 gaps, 3 rows missing; next: line 200)",
    ):
        assert words in message
    assert command_of(message) == [str(file), "--drop", "flag", "site", "--fill", "previous"]
    _, card = added(file, Given(drop=["flag", "site"], fill="previous"))
    assert (card.rows, card.channels) == (ROWS + 3, ("a", "b"))


@pytest.mark.parametrize(
    ("fill", "cell", "row", "how"),
    [
        ("previous", 5, [1, 4], "with the row before"),
        ("linear", 3, [2 - 1 / 3, 4 / 3 + 4 / 3], "on a straight line between their neighbours"),
    ],
)
def test_rows_and_cells_are_filled_and_the_card_says_how_many(
    place: Place, fill: str, cell: float, row: list[float], how: str
) -> None:
    text, card = added(place(SPOILT), Given(channels=["a", "b"], fill=fill))
    values = load_series(card).values
    assert card.repaired == f"3 rows and 1 cell filled {how}"
    assert card.repaired in text
    assert values[20].tolist() == [5 if fill == "previous" else (5 + 0) / 2, 0]
    between = values[99:103]
    assert between[0].tolist() == [1, 4]
    assert between[3].tolist() == [2, 0]
    expected = between[0] if fill == "previous" else between[0] + (between[3] - between[0]) / 3
    np.testing.assert_allclose(between[1], expected)
    assert card.digest == card.model_copy(update={"repaired": ""}).digest


def test_nothing_is_filled_before_the_first_value_nor_drawn_beyond_the_last(place: Place) -> None:
    content = rows_of(hours()).replace(f"{hours()[0]},0.5,", f"{hours()[0]},,")
    content = content.replace(f"{hours()[-1]},{(ROWS - 1) % 7}.5,", f"{hours()[-1]},,")
    for fill in (None, "previous", "linear"):
        message = refusal(place(content), Given(fill=fill))
        assert "column 'a' begins with" in message
        assert "--drop" not in message and "cut the rows before" in message
    content = content.replace(f"{hours()[0]},,", f"{hours()[0]},1,")
    assert "column 'a' ends with 1 missing cells" in (message := refusal(place(content), Given(fill="linear")))
    assert "--fill previous" in message
    _, card = added(place(content), Given(fill="previous"))
    assert card.repaired == "1 cell filled with the row before"


def test_more_rows_than_there_are_are_not_filled(place: Place) -> None:
    content = rows_of([*hours(), "2030-01-01 00:00:00"])
    message = refusal(place(content), Given(fill="linear"))
    assert re.search(r"1 gap, 8\d{4} rows missing\), more rows than there are\. Do: cut the file", message)
    assert "--fill" not in message


def test_columns_are_dropped_or_kept_by_name_and_a_true_false_column_becomes_numbers(place: Place) -> None:
    content = rows_of(hours(), "date,a,b,flag,site", lambda row: f",{['False', 'TRUE'][row % 2]},north")
    _, card = added(place(content, "first.csv"), Given(drop=["flag", "site"]))
    assert card.channels == ("a", "b")
    _, card = added(place(content, "second.csv"), Given(channels=["flag", "a"]))
    assert card.channels == ("flag", "a")
    assert load_series(card).values[:3].tolist() == [[0, 0.5], [1, 1.5], [0, 2.5]]
    assert "no column 'flg' for --drop; nearest: flag" in refusal(place(content), Given(drop=["flg"]))
    assert "no column 'c' for --channels" in refusal(place(content), Given(channels=["c"]))
    assert command_of(refusal(place(content), Given(channels=["a", "site"])))[1:] == ["--channels", "a"]


def long_table(order: str = "id", ids: Line = ["a", "b"], head: str = "unique_id,ds,y") -> list[str]:  # noqa: B006
    """A row for each series and hour; series number n has n, n + 1, ..."""
    cells = [(name, row, stamp, number + row) for number, name in enumerate(ids) for row, stamp in enumerate(hours())]
    if order == "stamp":
        cells.sort(key=lambda cell: cell[1])
    return [head, *(f"{name},{stamp},{value}" for name, _, stamp, value in cells)]


@pytest.mark.parametrize("order", ["id", "stamp"])
@pytest.mark.parametrize(
    ("ids", "head"),
    [
        (["a", "b"], "unique_id,ds,y"),
        (["1", "2", "3"], "item_id,timestamp,target"),
        (["north", "south"], "site,date,load"),
    ],
)
def test_a_long_table_is_recognised_in_any_order_and_laid_out_by_option(
    place: Place, order: str, ids: Line, head: str
) -> None:
    file = place("\n".join(long_table(order, ids, head)))
    message = refusal(file)
    assert f"a row for each of {len(ids)} values of column {head.split(',')[0]!r}" in message
    assert not re.search(r"out of order|twice", message)
    assert command_of(message) == [str(file), "--long"]
    _, card = added(file, Given(long=True))
    assert (card.channels, card.rows) == (tuple(ids), ROWS)
    assert load_series(card).values[:2].tolist() == [[*range(len(ids))], [*range(1, len(ids) + 1)]]


def test_a_long_table_of_several_columns_has_channels_by_series_and_column(place: Place) -> None:
    lines = long_table(head="unique_id,ds,y,wind,site")
    content = "\n".join([lines[0], *(f"{line},{row % 3},north" for row, line in enumerate(lines[1:]))])
    assert command_of(refusal(place(content)))[1:] == ["--long", "--drop", "site"]
    _, card = added(place(content), Given(long=True, drop=["site"]))
    assert card.channels == ("a:y", "b:y", "a:wind", "b:wind")
    _, card = added(place(content, "second.csv"), Given(long=True, channels=["b:y", "a:y"]))
    assert card.channels == ("b:y", "a:y")
    assert load_series(card).values[0].tolist() == [1, 0]


def test_series_of_unequal_length_are_named_and_gaps_within_one_can_be_filled(place: Place) -> None:
    lines = long_table(ids=["a", "b", "c"])
    del lines[1 + 2 * ROWS : 11 + 2 * ROWS]  # c begins ten hours later
    del lines[1 + ROWS + 5]
    file = place("\n".join(lines))
    message = refusal(file, Given(long=True))
    assert "series 'c': begins 2020-01-31 08:00:00 while the others run from 2020-01-30 22:00:00" in message
    assert f"series 'b': 1 of {ROWS} stamps are missing" in message
    assert command_of(message)[1:] == ["--long", "--drop", "c", "--fill", "previous"]
    _, card = added(file, Given(long=True, drop=["c"], fill="previous"))
    assert (card.channels, card.repaired) == (("a", "b"), "1 cell filled with the row before")
    assert load_series(card).values[5].tolist() == [5, 5]


def test_a_stamp_that_a_series_has_twice_is_named(place: Place) -> None:
    lines = long_table()
    message = refusal(place("\n".join([*lines, lines[9]])), Given(long=True))
    assert f"line {2 * ROWS + 2}: 2020-01-31 06:00:00 of 'a' is there twice" in message


def test_long_without_a_column_of_series_is_refused(place: Place) -> None:
    assert "no column that names series for --long" in refusal(place(PLAIN), Given(long=True))


@pytest.mark.parametrize(
    ("head", "day", "clock"),
    [
        ("Date,a,b,Time", "%d/%m/%Y", "%H.%M.%S"),
        ("Date,a,b,Time", "%Y-%m-%d", "%H:%M"),
        ("dteday,a,b,hr", "%Y-%m-%d", "%H"),
        ("date,a,b,clock", "%Y-%m-%d", "%I:%M %p"),
    ],
)
def test_a_time_of_day_in_a_column_of_its_own_is_joined_by_option(
    place: Place, head: str, day: str, clock: str
) -> None:
    moments = [START + timedelta(hours=row) for row in range(ROWS)]
    content = rows_of([each.strftime(day) for each in moments], head, lambda row: "," + moments[row].strftime(clock))
    file = place(content)
    columns = [head.split(",")[0], head.split(",")[-1]]
    message = refusal(file)
    assert f"is there twice; keep one, or join the time of day to it from column {columns[1]!r}" in message
    assert command_of(message) == [str(file), "--stamp", *columns]
    _, card = added(file, Given(stamp=columns))
    assert (card.step, card.channels) == ("1h", ("a", "b"))
    assert [line.split(",")[0] for line in file_of(card).read_text().splitlines()[1:]] == hours()


def test_a_year_and_its_month_are_joined_too(place: Place) -> None:
    content = rows_of([1980 + row // 12 for row in range(ROWS)], "year,a,b,month", lambda row: f",{row % 12 + 1}")
    assert command_of(refusal(place(content)))[1:] == ["--stamp", "year", "month"]
    _, card = added(place(content), Given(stamp=["year", "month"]))
    assert (card.step, card.channels) == ("1M", ("a", "b"))


def test_a_second_column_of_stamps_that_holds_no_times_is_refused(place: Place) -> None:
    assert "line 2, column 'load': '0.0' is no time of day" in refusal(place(PLAIN), Given(stamp=["date", "load"]))


IN_ORDER = {
    "newest first": (hours()[::-1], ["line 3: 2020-02-12 08:00:00 is out of order: the file is newest first", "sort"]),
    "newest first, by months": (days("1940-01-01", ROWS, "MS")[::-1], ["line 3: 1964-11-01 is out of order", "sort"]),
    "one stamp throughout": (hours()[:1] * ROWS, ["line 3: 2020-01-30 22:00:00 is there twice", "all rows have this"]),
    "hours stamped by day": (
        hours(form="%Y-%m-%d"),
        ["line 3: 2020-01-30 is there twice", "up to 24 times", "write the whole stamp"],
    ),
}


@pytest.mark.parametrize("case", IN_ORDER)
def test_problems_of_order_are_said_in_words_and_first(place: Place, case: str) -> None:
    stamps, words = IN_ORDER[case]
    message = refusal(place(rows_of(stamps, "date,a,b,site", lambda row: ",north")))
    assert message.index(words[0]) < message.index("columns that are not numbers")
    for word in words:
        assert word in message


def test_whole_numbers_that_lose_digits_are_told(place: Place) -> None:
    text, _ = added(place(rows_of(hours(), "date,a,b,id", lambda row: f",{2**53 + 1 + row}")))
    assert re.search(r"^rounded +whole numbers above 2\^53.*: 'id'$", text, re.MULTILINE)
    text, _ = added(place(rows_of(hours(), "date,a,b,id", lambda row: f",{2**60 + 4096 * row}"), "exact.csv"))
    assert "rounded" not in text


def test_comments_above_the_header_are_left_out_and_other_lines_refused(place: Place) -> None:
    text, card = added(place('# it\'s "mine"; made, by me\n# in 2020\n' + PLAIN))
    assert card.channels == ("load", "wind")
    assert "2 lines above the header that begin with '#', left out" in text
    _, card = added(place("# made by me\n# " + PLAIN, "header.csv"))
    assert card.channels == ("load", "wind")
    assert "2 lines above the header, which is line 3" in refusal(place("Station 5\nin MW\n" + PLAIN))
    assert "1 line above the header" in refusal(place("Station 5, north\n" + PLAIN.replace(",", ";")))
    assert "no names in its first row" in refusal(place("# load, wind, mine\n" + PLAIN.partition("\n")[2]))


def test_a_step_below_or_above_the_files_own_is_answered_with_its_own(place: Place) -> None:
    assert "--step 1B" in refusal(place(rows_of(days("2010-01-01", ROWS, "B"))), Given(step="1D"))
    assert "--step 1D" in refusal(place(rows_of(days("2010-01-01", ROWS, "D"))), Given(step="B"))


def test_the_command_line_takes_all_options(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    file = place("\n".join(long_table(ids=["a", "b", "c"])))
    assert main(["add-dataset", str(file), "--long", "--drop", "c", "--fill", "linear", "--step", "h"]) == 0
    assert "python -m bench run --suite quick --datasets My_load" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["add-dataset", str(file), "--long", "--drop", "c", "--channels", "a"])
    assert "not allowed with" in capsys.readouterr().err
    other = place(rows_of(hours(form="%Y-%m-%d"), "day,a,b,hour", lambda row: f",{(22 + row) % 24}"), "other.csv")
    assert main(["add-dataset", str(other), "--stamp", "day", "hour", "--name", "Hours"]) == 0
    assert card_module.cards()["Hours"].step == "1h"
