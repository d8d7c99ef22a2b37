"""add-dataset by its command line: doubtful numbers are refused, proposed commands work, filled values are right."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from bench.core import card as card_module
from bench.data.series import file_of
from tests.builders import in_process

ROWS = 300
HOURS = pd.date_range("2020-01-01", periods=ROWS, freq="h")
DAYS = pd.date_range("2019-12-30", periods=ROWS, freq="D")
DAY_OF_HOURS = [f"{DAYS[row // 24]:%Y-%m-%d}" for row in range(ROWS)]
MONTHS = pd.date_range("1950-01-01", periods=ROWS, freq="MS")
QUARTERS = pd.date_range("1950-01-01", periods=ROWS, freq="QS")
GROUPED = [f"{998 + row:,}" for row in range(ROWS)]
POINTS = [f"{0.5 + row / 100:.4f}" for row in range(ROWS)]
WAVE = [f"{row % 7}.5" for row in range(ROWS)]
Column = Sequence[object]


class Answer(NamedTuple):
    """What the command line said: its exit code, the one line of a refusal, and what was stored."""

    code: int
    message: str
    stored: pd.DataFrame | None

    @property
    def command(self) -> list[str]:
        """The words of the command that a refusal proposes, behind `add-dataset`; none if the user is to mend it."""
        found = self.message.partition("python -m bench add-dataset ")[2]
        return shlex.split(re.split(r" \(or |; by hand: | \(local time|\n", found)[0])


Add = Callable[..., Answer]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Add]:
    """Writes a file, and runs `add-dataset` on it with these words, or with those of a proposed command."""
    (tmp_path / "cards").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(card_module, "CARDS", tmp_path / "cards")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))

    def run(content: str | None, *words: str, name: str = "mine.csv") -> Answer:
        if content is not None:
            Path(name).write_text(content)
        card_module.cards.cache_clear()
        code = in_process("add-dataset", *(words if content is None else [name, *words]))
        message = capsys.readouterr().err
        assert code in (0, 2)
        assert len(message.splitlines()) == (code == 2)
        cards = list(card_module.cards().values())
        assert bool(cards) == (code == 0)
        stored = pd.read_csv(file_of(cards[0]), index_col="date", parse_dates=True) if cards else None
        return Answer(code, message, stored)

    yield run
    card_module.cards.cache_clear()


def file(columns: dict[str, Column], delimiter: str = ",") -> str:
    return pd.DataFrame(columns).to_csv(index=False, sep=delimiter)


def german(cells: Sequence[str]) -> list[str]:
    return [cell.translate(str.maketrans(",.", ".,")) for cell in cells]


# A. The sign before decimals.

DOUBTFUL = {
    "thousands or decimals, and nothing tells": [GROUPED],
    "the same beside whole numbers": [GROUPED, [str(row % 9) for row in range(ROWS)]],
    "the same beside numbers of five digits": [GROUPED, [str(10_000 + 3 * row) for row in range(ROWS)]],
    "the same beside a number of five digits in its column": [[*GROUPED[2:], "12345", "23456"]],
    "a decimal in a column of text": [GROUPED, ["0,5", *["a note"] * (ROWS - 1)]],
    "decimals in half of a column of text": [GROUPED, ["0,5", "x"] * (ROWS // 2)],
    "always three digits behind": [[f"{1 + row % 7},{100 + row}" for row in range(ROWS)]],
    "decimal points in one column and commas in another": [POINTS, german(POINTS)],
    "decimal points among commas in one column": [[*POINTS[:200], *german(POINTS[200:])]],
    "marks for millions, and decimal commas": [[f"{1_234_567 + row:,}" for row in range(ROWS)], german(POINTS)],
}


@pytest.mark.parametrize("delimiter", ";\t|")
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("case", DOUBTFUL)
def test_numbers_that_may_mean_two_things_are_refused_whatever_is_dropped(
    add: Add, case: str, mirror: bool, delimiter: str
) -> None:
    columns = {f"v{place}": german(cells) if mirror else cells for place, cells in enumerate(DOUBTFUL[case])}
    content = file({"date": HOURS, "calm": [row % 5 for row in range(ROWS)], **columns}, delimiter)
    for words in ([], ["--drop", "v0"], ["--channels", "calm"], ["--drop", "calm"]):
        answer = add(content, *words)
        assert (answer.code, answer.command) == (2, [])


@pytest.mark.parametrize("mirror", [False, True])
def test_thousands_that_another_column_proves_are_refused_and_its_own_decimals_stay(add: Add, mirror: bool) -> None:
    """The point of one column tells what the commas of the other are, also once either is dropped; or mirrored."""
    grouped, points = (german(cells) if mirror else cells for cells in (GROUPED, POINTS))
    content = file({"date": HOURS, "v1": grouped, "v2": points}, ";")
    answer = add(content)
    assert "remove units and marks" in answer.message
    assert add(content, "--drop", "v2").command == []
    stored = add(None, *answer.command).stored
    assert stored is not None
    assert stored.columns.tolist() == ["v2"]
    assert stored["v2"].tolist() == [float(cell) for cell in POINTS]


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    "proof",
    ["0,385", "12,5", "-,5", "1234,500", "1,5e3", "1.234,5", "1.234.567"],
)
def test_one_cell_that_can_be_read_in_one_way_tells_how_all_are(add: Add, proof: str, mirror: bool) -> None:
    """Each is no number with marks between thousands."""
    cells = ["1,000", "1,001", "2,500"] * 100
    if proof in ("1.234,5", "1.234.567"):
        columns = {"v": cells, "other": [proof, *["7"] * (ROWS - 1)], "more": [row % 5 for row in range(ROWS)]}
    else:
        columns = {"v": [proof, *cells[1:]], "more": [row % 5 for row in range(ROWS)]}
    if mirror:
        columns = {name: german([str(cell) for cell in column]) for name, column in columns.items()}
    answer = add(file({"date": HOURS, **columns}, ";"))
    if "other" in columns:  # its one cell has marks between thousands
        assert answer.code == 2
        answer = add(None, "mine.csv", "--drop", "other")
    assert answer.stored is not None
    assert answer.stored["v"].tolist()[1:4] == [1.001, 2.5, 1.0]


@pytest.mark.parametrize("note", ["1,000", "0.5", "1.234,5", "12,5"])
def test_a_cell_of_a_column_of_text_neither_proves_nor_casts_doubt(add: Add, note: str) -> None:
    """The numbers have decimal commas, by proof in their own column, which has missing cells too."""
    cells = ["NA"] * 200 + [f"{row},5" for row in range(100)]
    columns = {"date": HOURS, "y": [*cells[200:], *["7"] * 200], "z": cells, "note": [note, *["x"] * (ROWS - 1)]}
    answer = add(file(columns, ";"), "--channels", "y")
    assert answer.stored is not None
    assert answer.stored["y"].tolist()[:3] == [0.5, 1.5, 2.5]


def test_a_point_is_decimal_between_commas_whatever_follows_it(add: Add) -> None:
    answer = add(file({"date": HOURS, "v": german(GROUPED)}))
    assert answer.stored is not None
    assert answer.stored["v"].tolist()[:4] == [998, 999, 1, 1.001]


# B. Dates in several columns.

MONTH_NAMES = [f"{month:%B}" for month in MONTHS]
PARTS: dict[str, tuple[dict[str, Column], pd.DatetimeIndex]] = {
    "Q1": ({"year": QUARTERS.year, "quarter": [f"Q{each}" for each in QUARTERS.quarter]}, QUARTERS),
    "Q1 under any name, first": ({"t": [f"Q{each}" for each in QUARTERS.quarter], "Year": QUARTERS.year}, QUARTERS),
    "quarters 1 to 4": ({"year": QUARTERS.year, "Qtr": QUARTERS.quarter}, QUARTERS),
    "periods 1 to 4": ({"year": QUARTERS.year, "period": QUARTERS.quarter}, QUARTERS),
    "periods 1 to 12": ({"year": MONTHS.year, "period": MONTHS.month}, MONTHS),
    "Jan": ({"year": MONTHS.year, "month": [name[:3] for name in MONTH_NAMES]}, MONTHS),
    "JANUARY under any name": ({"year": MONTHS.year, "x": [name.upper() for name in MONTH_NAMES]}, MONTHS),
    "M01": ({"year": MONTHS.year, "period": [f"M{each:02d}" for each in MONTHS.month]}, MONTHS),
    "months 1 to 12": ({"year": MONTHS.year, "month": MONTHS.month}, MONTHS),
    "day": ({"year": DAYS.year, "month": DAYS.month, "day": DAYS.day}, DAYS),
    "day, the other way round": ({"Day": DAYS.day, "Mon": [f"{day:%b}" for day in DAYS], "Year": DAYS.year}, DAYS),
    "hour": ({"year": HOURS.year, "month": HOURS.month, "day": HOURS.day, "hour": HOURS.hour}, HOURS),
    "MO, DY, HR": ({"YEAR": HOURS.year, "MO": HOURS.month, "DY": HOURS.day, "HR": HOURS.hour}, HOURS),
    "days without signs": ({"YYYYMMDD": [f"{hour:%Y%m%d}" for hour in HOURS], "HH": HOURS.hour}, HOURS),
}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("case", PARTS)
def test_a_date_in_several_columns_is_joined_by_the_proposed_command(add: Add, case: str, whole: bool) -> None:
    """A channel of few whole numbers beside it is not taken for the names of series."""
    columns, stamps = PARTS[case]
    answer = add(file({**columns, "a": [row % 5 for row in range(ROWS)] if whole else WAVE}))
    assert set(answer.command[2:]) == set(columns)
    stored = add(None, *answer.command).stored
    assert stored is not None
    assert stored.index.tolist() == stamps.tolist()
    assert stored.columns.tolist() == ["a"]


@pytest.mark.parametrize("name", ["HE", "Hour", "hour_ending", "Hour Ending", "time"])
@pytest.mark.parametrize("form", ["{}", "{:02d}:00", "{:02d}00", "{}00"])
def test_the_hour_24_is_the_next_midnight(add: Add, name: str, form: str) -> None:
    clock = [form.format(row % 24 + 1) for row in range(ROWS)]
    answer = add(file({"date": DAY_OF_HOURS, name: clock, "a": WAVE}))
    assert answer.command == ["mine.csv", "--stamp", "date", name]
    stored = add(None, *answer.command).stored
    assert stored is not None
    assert stored.index.tolist() == pd.date_range("2019-12-30 01:00", periods=ROWS, freq="h").tolist()


@pytest.mark.parametrize("minutes", [15, 20, 30, 60])
@pytest.mark.parametrize(("name", "asked"), [("time", False), ("t", True)])
def test_a_clock_without_signs_may_lack_its_zeros(add: Add, minutes: int, name: str, asked: bool) -> None:
    """Then 5 is five minutes past midnight and 1205 as many past noon."""
    stamps = pd.date_range("2020-01-01 00:05", periods=ROWS, freq=f"{minutes}min")
    content = file({"date": stamps.date, name: stamps.hour * 100 + stamps.minute, "a": WAVE})
    answer = add(content, *["--stamp", "date", name] * asked)
    stored = answer.stored if asked else add(None, *answer.command).stored
    assert stored is not None
    assert stored.index.tolist() == stamps.tolist()


@pytest.mark.parametrize("clock", ["24:30", "25", "24 pm", "2430", "1260", "24000"])
def test_no_other_time_follows_the_hour_24(add: Add, clock: str) -> None:
    answer = add(file({"date": [*DAY_OF_HOURS[:-1], "2020-01-11"], "t": [*[f"{h}:00" for h in HOURS.hour[:-1]], clock],
                       "a": WAVE}), "--stamp", "date", "t")  # fmt: skip
    assert answer.code == 2
    assert "line 301" in answer.message


def test_a_long_layout_whose_dates_lie_in_several_columns_is_laid_out_at_once(add: Add) -> None:
    columns = {"year": HOURS.year, "month": HOURS.month, "day": HOURS.day, "hour": HOURS.hour}
    twice = {name: np.repeat(column, 2) for name, column in columns.items()}
    content = file({**twice, "station": ["x", "y"] * ROWS, "a": [row % 11 for row in range(2 * ROWS)]})
    stored = add(None, *add(content).command).stored
    assert stored is not None
    assert stored.index.tolist() == HOURS.tolist()
    assert stored["y"].tolist() == [(2 * row + 1) % 11 for row in range(ROWS)]


def test_columns_that_complete_nothing_are_not_proposed(add: Add) -> None:
    answer = add(file({"year": [1990 + row // 52 for row in range(ROWS)], "week": [row % 52 for row in range(ROWS)],
                       "a": WAVE}))  # fmt: skip
    assert (answer.code, answer.command) == (2, [])


HALVES = pd.date_range("2020-01-01 12:00", periods=3000, freq="30min")
WEEKS = pd.DataFrame([(year, week) for year in range(2010, 2018) for week in range(1, 53 + (year % 5 == 0))])
DIVIDED: dict[str, dict[str, Column]] = {
    "week of the year": {"year": WEEKS[0], "week": WEEKS[1]},
    "week of the year under any name": {"year": WEEKS[0], "semana": WEEKS[1]},
    "day of the year": {"year": DAYS.year, "doy": DAYS.day_of_year},
    "day of the year under any name": {"year": DAYS.year, "jour": DAYS.day_of_year},
    "half hours": {"date": HALVES.date, "part": HALVES.hour * 2 + HALVES.minute // 30 + 1},
    "half hours of a market": {"date": HALVES.date, "Settlement Period": HALVES.hour * 2 + HALVES.minute // 30 + 1},
    "quarters of an hour": {"date": np.repeat(HALVES.date, 2), "part": [row % 96 + 1 for row in range(48, 6048)]},
    "hours from 0, one of them lost to the clock": {
        "date": np.delete(HALVES.date[::2], 500), "part": np.delete(HALVES.hour[::2], 500),
    },
}  # fmt: skip


@pytest.mark.parametrize("case", DIVIDED)
def test_parts_of_a_stamp_are_neither_the_names_of_series_nor_rows_to_be_deleted(add: Add, case: str) -> None:
    table = pd.DataFrame(DIVIDED[case])
    answer = add(table.assign(y=np.arange(len(table)) * 37 % 101).to_csv(index=False))
    assert (answer.code, answer.command) == (2, [])
    assert "write the whole stamp in one column (another column" in answer.message
    assert "keep one" not in answer.message and "--long" not in answer.message


def test_few_repeated_stamps_are_rows_to_be_deleted(add: Add) -> None:
    answer = add(file({"date": [*HOURS[:-3], *HOURS[-4:-1]], "a": WAVE}))
    assert "keep one row of each stamp" in answer.message


def test_as_many_series_as_half_hours_are_laid_out_where_it_is_asked_for(add: Add) -> None:
    for long in (False, True):
        dates, shops = np.repeat(DAYS, 48), [row % 48 + 1 for row in range(48 * ROWS)]
        data = pd.DataFrame({"date": dates, "filiale" if long else "store": shops, "y": np.arange(48 * ROWS) % 11})
        answer = add(data.to_csv(index=False), *["--long"] * long)
        stored = answer.stored if long else add(None, *answer.command).stored
        assert stored is not None
        assert stored.columns.tolist() == [str(shop + 1) for shop in range(48)]
        Path("cards/mine.toml").unlink()
        Path("data/own/mine.csv").unlink()


# C. Proposed commands work.


@pytest.mark.parametrize(
    "names",
    [["-flag"], ["-1a", "site"], ["--channels", "-"], ["-x=1", "--drop=b"], ["x\ny"], ["\u2028", "a\tb"],
     ["it's", '"'], ["x\\u000ay"]],
)  # fmt: skip
def test_a_proposed_command_drops_columns_of_any_name(add: Add, names: list[str]) -> None:
    answer = add(file({"date": HOURS, "a": WAVE, **dict.fromkeys(names, ["word"] * ROWS)}))
    stored = add(None, *answer.command).stored
    assert stored is not None
    assert stored.columns.tolist() == ["a"]


def test_a_proposed_command_names_stamps_channels_and_files_of_any_name(add: Add) -> None:
    clock = [f"{hour:%H:%M}" for hour in HOURS]
    content = file({"-d": DAY_OF_HOURS, "t\nu": clock, "-x": WAVE, "-site": ["north"] * ROWS})
    Path("-my.csv").write_text(content)
    answer = add(None, "./-my.csv", "--channels=-x", "--channels=-site", "--about=-")
    stored = add(None, *answer.command).stored
    assert stored is not None
    assert stored.columns.tolist() == ["-x"]


def test_a_proposed_command_drops_series_of_any_name(add: Add) -> None:
    names = ["-a", "b\nc", "d"]
    columns = {"id": np.repeat(names, ROWS), "date": [*HOURS] * 3, "y": np.arange(3 * ROWS) % 7}
    content = file({name: column[: 2 * ROWS + 200] for name, column in columns.items()})
    answer = add(content, "--long")
    stored = add(None, *answer.command).stored
    assert stored is not None
    assert stored.columns.tolist() == ["-a", "b\nc"]
    stored = add(content, "--long", "--drop=-a", "--drop=d", "--name", "Other")
    assert stored.code == 0


@pytest.mark.parametrize("units", ["{},degC,mm", "UTC,[m3/s],%", "{},degC,mm\n{},mean,sum"])
@pytest.mark.parametrize("name", ["date", "Beginn"])
def test_rows_of_units_below_the_names_are_named_and_nothing_else_is(add: Add, units: str, name: str) -> None:
    head, rest = file({name: HOURS, "a": WAVE, "b": WAVE[::-1]}).split("\n", 1)
    answer = add("\n".join([head, units.replace("{}", ""), rest]))
    assert (answer.code, answer.command) == (2, [])
    assert "line 2" in answer.message and "problems" not in answer.message
    assert add("\n".join([head, rest])).code == 0


ID_COLUMNS = {
    "text": ({"shop": ["s", "t"], "item": ["i", "j", "k"]}, ["s/i", "s/j", "s/k", "t/i", "t/j", "t/k"]),
    "a usual name and text": ({"unique_id": ["s", "t"], "variable": ["v", "w"]}, ["s/v", "s/w", "t/v", "t/w"]),
    "whole numbers": ({"shop": ["1", "2"], "article": ["7", "8"]}, ["1/7", "1/8", "2/7", "2/8"]),
    "one column of whole numbers": ({"filiale": ["1", "2", "3"]}, ["1", "2", "3"]),
    "one column of text beside another": ({"country": ["x"], "site": ["s", "t"]}, ["s", "t"]),
}


@pytest.mark.parametrize("case", ID_COLUMNS)
def test_series_may_be_named_by_several_columns_or_by_whole_numbers(add: Add, case: str) -> None:
    names, series = ID_COLUMNS[case]
    index = pd.MultiIndex.from_product([*names.values(), HOURS], names=[*names, "date"])
    data = index.to_frame(index=False).assign(sales=np.arange(len(index)) % 11, price=0.5)
    data["price"] += data.index % 4
    answer = add(data.to_csv(index=False))
    assert answer.command[:2] == ["mine.csv", "--long"]
    stored = add(None, *answer.command).stored
    assert stored is not None
    assert stored.columns.tolist() == [f"{name}:{column}" for column in ("sales", "price") for name in series]
    for place, name in enumerate(series):
        expected = (np.arange(ROWS) + place * ROWS) % 11
        assert stored[f"{name}:sales"].tolist() == expected.tolist()


@pytest.mark.parametrize("form", ["{}%", "${}", "€ {}", "{}.2 kWh", "{} °C", "1,00{}", "1 00{}", "1'00{}"])
@pytest.mark.parametrize("delimiter", ",;")
def test_units_and_marks_are_to_be_removed_or_their_column_dropped(add: Add, form: str, delimiter: str) -> None:
    cells = [form.format(row % 7) for row in range(ROWS)]
    answer = add(file({"date": HOURS, "a": cells, "b": WAVE}, delimiter))
    assert "remove units and marks" in answer.message
    stored = add(None, *answer.command).stored
    assert stored is not None
    assert stored["b"].tolist() == [float(cell) for cell in WAVE]


def test_all_columns_are_never_proposed_to_be_dropped(add: Add) -> None:
    answer = add(file({"date": HOURS, "a": ["3%"] * ROWS, "b": ["north"] * ROWS}))
    assert (answer.code, answer.command) == (2, [])


@pytest.mark.parametrize(("missing", "proposed"), [(1, False), (150, False), (151, True), (299, True)])
@pytest.mark.parametrize("long", [False, True])
def test_a_column_that_begins_late_is_to_be_dropped_only_if_most_of_it_is_missing(
    add: Add, missing: int, proposed: bool, long: bool
) -> None:
    data = pd.DataFrame({"date": HOURS, "load": [*["NA"] * missing, *WAVE[missing:]], "b": WAVE})
    if long:
        data = pd.concat([data.assign(site="north"), data.assign(site="south", load=WAVE)])
    answer = add(data.to_csv(index=False))
    assert "cut the rows before" in answer.message
    assert [word for word in answer.command if "load" in word] == ["north:load" if long else "load"] * proposed
    stored = add(None, *answer.command).stored
    if proposed:
        assert stored is not None
        assert stored.columns.tolist() == (["south:load", "north:b", "south:b"] if long else ["b"])
    else:
        assert stored is None


def test_columns_that_all_begin_late_are_not_to_be_dropped(add: Add) -> None:
    cells = [*[""] * 201, *WAVE[201:]]
    answer = add(file({"date": HOURS, "a": cells, "b": cells}))
    assert "--drop" not in answer.message and "cut the rows before" in answer.message


@pytest.mark.parametrize("first", [0, 1, -7, 10_000])
@pytest.mark.parametrize("name", ["No", "id", "index", ""])
def test_a_column_that_counts_the_rows_is_left_out_unless_it_is_asked_for(add: Add, first: int, name: str) -> None:
    count = [first + row for row in range(ROWS)]
    wave = [row % 7 for row in range(ROWS)]
    stored = add(file({name: count, "date": HOURS, "a": wave})).stored
    assert stored is not None
    assert stored.columns.tolist() == ["a"]
    Path("cards/mine.toml").unlink()
    Path("data/own/mine.csv").unlink()
    if name:
        stored = add(None, "mine.csv", "--channels", name, "a").stored
        assert stored is not None
        assert stored[name].tolist() == count


def test_a_counter_of_all_rows_of_a_long_layout_is_left_out(add: Add) -> None:
    data = pd.MultiIndex.from_product([HOURS, ["s", "t"]], names=["date", "site"]).to_frame(index=False)
    answer = add(data.assign(id=range(2 * ROWS), y=np.arange(2 * ROWS) % 7).to_csv(index=False))
    stored = add(None, *answer.command).stored
    assert stored is not None
    assert stored.columns.tolist() == ["s", "t"]


@pytest.mark.parametrize("change", [0.5, 1, -1])
def test_what_does_not_count_every_row_is_a_channel(add: Add, change: float) -> None:
    count = np.arange(ROWS) + np.where(np.arange(ROWS) < 200, 0, change)
    stored = add(file({"date": HOURS, "a": WAVE, "n": count})).stored
    assert stored is not None
    assert stored.columns.tolist() == ["a", "n"]


def test_a_counter_is_a_channel_only_where_it_is_the_only_column(add: Add) -> None:
    """Beside a column that is to be mended it is none: nobody wants it in the place of that column."""
    answer = add(file({"date": HOURS, "n": range(ROWS), "load": [f"{row % 7}%" for row in range(ROWS)]}))
    assert (answer.code, answer.command) == (2, [])
    assert "count the rows" in answer.message and "remove units and marks" in answer.message
    stored = add(file({"date": HOURS, "n": range(ROWS)})).stored
    assert stored is not None
    assert stored["n"].tolist() == [*range(ROWS)]


# D. Reasons are true.


def test_local_midnights_whose_offset_changes_are_said_to_be(add: Add) -> None:
    for frequency in ("D", "MS"):
        local = pd.date_range("2020-01-01", periods=ROWS, freq=frequency, tz="Europe/Berlin")
        answer = add(file({"date": [stamp.isoformat() for stamp in local], "a": WAVE}))
        assert answer.code == 2
        assert "offsets" in answer.message and "23 h" not in answer.message
        assert (
            add(file({"date": [f"{stamp:%Y-%m-%d}" for stamp in local], "a": WAVE}), name=f"{frequency}.csv").code == 0
        )
        for path in Path().glob("*/*.toml"):
            path.unlink()


def test_steps_below_a_microsecond_are_not_said_to_be_there_twice(add: Add) -> None:
    stamps = pd.date_range("2020-01-01", periods=ROWS, freq="500ns")
    answer = add(file({"date": [stamp.isoformat() for stamp in stamps], "a": WAVE}))
    assert answer.code == 2
    assert "twice" not in answer.message and "microsecond" in answer.message


@pytest.mark.parametrize(("step", "clocks"), [("100us", False), ("1s", False), ("15min", True), ("1h", True)])
def test_clock_changes_are_named_for_a_gap_that_they_could_make(add: Add, step: str, clocks: bool) -> None:
    stamps = pd.date_range("2020-01-01", periods=ROWS + 2, freq=step).delete([50, 51])
    answer = add(file({"date": [stamp.isoformat() for stamp in stamps], "a": WAVE}))
    assert answer.command[1:] == ["--fill", "previous"]
    assert ("clocks change" in answer.message) == clocks


@pytest.mark.parametrize("days", [(1, 15), (1, 16), (1, 11, 21), (1, 6, 11, 16, 21, 26)])
def test_several_days_of_each_month_are_a_step_that_is_not_supported(add: Add, days: tuple[int, ...]) -> None:
    stamps = [day for day in pd.date_range("1990-01-01", periods=365 * 20) if day.day in days][:ROWS]
    content = file({"date": stamps, "a": WAVE})
    for words in ([], ["--step", "15D"], ["--fill", "linear"]):
        answer = add(content, *words)
        assert "not supported" in answer.message or answer.command[1:3] == ["--step", "14D"]
    assert "delete their rows" not in answer.message


@pytest.mark.parametrize("first", [900, 9698])
def test_years_out_of_range_are_answered_with_the_range(add: Add, first: int) -> None:
    answer = add(file({"date": [f"{first + row:04d}-01-01" for row in range(ROWS)], "a": WAVE}))
    assert answer.code == 2
    assert "years 1000 to 2999" in answer.message
    for year in (1000, 2999 - ROWS + 1):
        assert add(file({"date": [f"{year + row}-01-01" for row in range(ROWS)], "a": WAVE})).code == 0
        Path("cards/mine.toml").unlink()
        Path("data/own/mine.csv").unlink()


# E. What --fill fills.


@pytest.mark.parametrize("fill", ["previous", "linear"])
@pytest.mark.parametrize("frequency", ["h", "D", "MS", "B"])
@pytest.mark.parametrize("long", [False, True])
def test_filled_values_are_those_computed_from_the_cells_by_hand(
    add: Add, fill: str, frequency: str, long: bool
) -> None:
    """Rows and cells are lost at random; each is filled by row, not by time, from the cells that are left."""
    random = np.random.default_rng(7)
    stamps = pd.date_range("2020-01-01", periods=ROWS, freq=frequency)
    cells = np.round(random.normal(size=(ROWS, 2)), 3)
    known = random.random((ROWS, 2)) > 0.1
    rows = random.random(ROWS) > 0.05
    known[[0, -1]] = rows[[0, -1]] = True
    expected = np.empty_like(cells)
    for channel in range(2):
        left = np.flatnonzero(known[:, channel] & rows)
        for row in range(ROWS):
            before, after = left[left <= row][-1], left[left >= row][0]
            first, last = cells[before, channel], cells[after, channel]
            share = 0 if before == after or fill == "previous" else (row - before) / (after - before)
            expected[row, channel] = first + share * (last - first)
    data = pd.DataFrame(np.where(known, cells, np.nan), columns=["a", "b"]).assign(date=stamps)[rows]
    if long:  # a series lacks the rows of its missing cells
        data = data.melt("date", ["a", "b"], "unique_id", "y").dropna()
    answer = add(data.to_csv(index=False), "--fill", fill, *["--long"] * long)
    assert answer.stored is not None
    assert answer.stored.index.tolist() == stamps.tolist()
    np.testing.assert_allclose(answer.stored[["a", "b"]].to_numpy(), expected, rtol=1e-12, atol=1e-12)
