"""Cards and data files: what is as its card says is read exactly, everything else is refused in one useful line."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from bench.core import card as card_module
from bench.core.base import BenchError, parse
from bench.core.card import CARDS, DatasetCard, cards
from bench.data.series import DataError, file_of, load_series

WriteCard = Callable[..., DatasetCard]

NAMES = ["ECL", "EPF", "ETTh1", "ETTh2", "ETTm1", "ETTm2", "Exchange", "ILI", "Traffic", "Weather"]

INTACT = """\
date,load,price
2020-01-01 00:00:00,1.5,-10
2020-01-01 01:00:00,2.5,-20
2020-01-01 02:00:00,3.5,-30
2020-01-01 03:00:00,4.5,-40
2020-01-01 04:00:00,5.5,-50
2020-01-01 05:00:00,6.5,-60
"""
VALUES = np.array([[1.5, -10], [2.5, -20], [3.5, -30], [4.5, -40], [5.5, -50], [6.5, -60]])

LONG = """\
unique_id,ds,y,wind,weekday
south,2020-01-01 00:00:00,1,10,3
south,2020-01-01 01:00:00,2,20,3
south,2020-01-01 02:00:00,3,30,3
north,2020-01-01 00:00:00,-1,-10,3
north,2020-01-01 01:00:00,-2,-20,3
north,2020-01-01 02:00:00,-3,-30,3
"""
LONG_CHANNELS = ("south:y", "north:y", "south:wind")
LONG_VALUES = np.array([[1, -1, 10], [2, -2, 20], [3, -3, 30]])
LONG_CARD = {"stamp": "ds", "rows": 3, "channels": LONG_CHANNELS}

TOY = {
    "name": "Toy",
    "title": "A toy",
    "about": "Six hours of two channels",
    "license": "none needed",
    "sha256": ["0" * 64],
    "stamp": "date",
    "step": "1h",
    "rows": 6,
    "channels": ["load", "price"],
    "season": 24,
    "split": [0.5, 0.25, 0.25],
    "context": 1,
    "horizons": [1],
    "source": {"path": "folder/toy.csv"},
}


@pytest.fixture
def write_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteCard:
    """Writes a data file below a BENCH_DATA of the test's own, and makes the card that describes it."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))

    def make(content: str | bytes, **changes: object) -> DatasetCard:
        exact = content.encode() if isinstance(content, str) else content
        path = tmp_path / "folder" / "toy.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(exact)
        return card_with(**{"sha256": [hashlib.sha256(exact).hexdigest()], **changes})

    return make


def card_with(**changes: object) -> DatasetCard:
    return parse(DatasetCard, {**TOY, **changes}, "toy.toml")


def refusal(card: DatasetCard) -> str:
    with pytest.raises(DataError) as caught:
        load_series(card)
    return str(caught.value)


def swapped(old: str, new: str) -> str:
    assert INTACT.count(old) == 1
    return INTACT.replace(old, new)


UNSORTED = swapped("2020-01-01 03:00:00,4.5,-40\n", "").replace(
    "2020-01-01 02:00:00", "2020-01-01 03:00:00,4.5,-40\n2020-01-01 02:00:00"
)
JUNK = np.random.default_rng(0).bytes(20_000)

DAMAGES = {
    "another hash": (
        INTACT,
        {"sha256": ["ab" * 32]},
        ["SHA-256", hashlib.sha256(INTACT.encode()).hexdigest()[:8], "abababab", "under another name"],
    ),
    "no stamp column": (swapped("date,", "when,"), {}, ["no column 'date'", "when", "load"]),
    "no such channel": (swapped(",price", ",cost"), {}, ["no column 'price'"]),
    "too few channels": (INTACT, {"channels": 3}, ["2 channels", "its card says 3"]),
    "too many channels": (INTACT, {"channels": 1}, ["2 channels", "its card says 1"]),
    "too few rows": (INTACT, {"rows": 7}, ["6 rows", "its card says 7"]),
    "too many rows": (INTACT, {"rows": 5}, ["6 rows", "its card says 5"]),
    "a missing value": (swapped("3.5,-30", "3.5,"), {}, ["1 value", "'price'", "2020-01-01 02:00:00", "mend the file"]),
    "nan": (swapped("3.5", "nan"), {}, ["1 value", "'load'", "2020-01-01 02:00:00", "mend the file"]),
    "infinity": (swapped("-40", "inf"), {}, ["infinite", "'price'", "2020-01-01 03:00:00", "mend the file"]),
    "minus infinity": (swapped("-40", "-inf"), {}, ["infinite", "'price'", "2020-01-01 03:00:00", "mend the file"]),
    "text among numbers": (swapped("-40", "closed"), {}, ["no numbers", "closed", "'price'"]),
    "unsorted stamps": (UNSORTED, {}, ["not in order", "row 5", "2020-01-01 02:00:00", "mend the file"]),
    "a stamp twice": (
        swapped("2020-01-01 03:00:00", "2020-01-01 02:00:00"),
        {},
        ["2 steps that are not 1h", "duplicate", "its card says 0", "2020-01-01 02:00:00"],
    ),
    "a gap": (
        swapped("2020-01-01 05:00:00", "2020-01-01 06:00:00"),
        {},
        ["1 steps that are not 1h", "gap", "its card says 0", "2020-01-01 06:00:00"],
    ),
    "fewer irregular steps than told": (INTACT, {"irregular_steps": 1}, ["0 steps that are not 1h", "its card says 1"]),
    "stamps that are no dates": (
        re.sub(r"2020-01-01 0(\d):00:00", r"row number \1", INTACT),
        {},
        ["column 'date'", "no time stamps", "row number"],
    ),
    "stamps that only count": (re.sub(r"2020-01-01 0(\d):00:00", r"\1", INTACT), {}, ["steps that are not 1h"]),
    "an empty cell among the stamps": (swapped("2020-01-01 03:00:00", ""), {}, ["no time stamps", "row 5"]),
    "an empty file": (b"", {}, ["not a CSV table"]),
    "a header alone": ("date,load,price\n", {}, ["0 rows", "its card says 6"]),
    "binary junk": (JUNK, {}, ["Toy"]),
    "a compressed file": (gzip.compress(INTACT.encode(), mtime=0), {}, ["Toy"]),
    "zeros": (bytes(1000), {}, ["Toy"]),
    "a stamp twice for one series": (
        LONG + "north,2020-01-01 02:00:00,-4,-40,3\n",
        LONG_CARD,
        ["ds and unique_id", "duplicate"],
    ),
    "a series that lacks a stamp": (
        LONG.replace("north,2020-01-01 01:00:00,-2,-20,3\n", ""),
        LONG_CARD,
        ["1 values that are missing", "'north:y'", "2020-01-01 01:00:00"],
    ),
    "no such series": (LONG, {**LONG_CARD, "channels": ("west:y",)}, ["no column 'west:y'"]),
}
REMEDY = re.compile(
    r"\. Do: .*\b(run|fetch|delete|sort|fill|cut|correct|check|compare|edit|mend|give|rename|set|remove|put|see|write)"
    r"\b",
    re.S,
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_with_the_data_set_the_file_and_what_is_wrong(
    write_card: WriteCard, damage: str
) -> None:
    content, changes, words = DAMAGES[damage]
    card = write_card(content, **changes)
    message = refusal(card)
    assert message.startswith("Toy: ")
    assert str(file_of(card)) in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_refusal_says_what_to_do(write_card: WriteCard, damage: str) -> None:
    content, changes, _ = DAMAGES[damage]
    assert REMEDY.search(refusal(write_card(content, **changes)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_refusal_is_one_short_line_and_comes_without_warnings(write_card: WriteCard, damage: str) -> None:
    content, changes, _ = DAMAGES[damage]
    card = write_card(content, **changes)
    message = " ".join(refusal(card).replace(str(file_of(card)), "").split())
    assert len(message) < 400
    assert message.isprintable()


@pytest.mark.parametrize("seed", range(20))
def test_no_junk_ends_in_a_traceback(write_card: WriteCard, seed: int) -> None:
    random = np.random.default_rng(seed)
    tail = random.bytes(5000) if seed % 2 else bytes(random.choice(list(b',"\r\n\x00;1a'), 5000).tolist())
    refusal(write_card(b"date,load,price\n" * (seed % 4 > 1) + tail))


def test_an_intact_file_is_read_in_its_own_units(write_card: WriteCard) -> None:
    card = write_card(INTACT)
    series = load_series(card)
    assert series.card == card
    assert series.values.dtype == np.float64
    np.testing.assert_array_equal(series.values, VALUES)
    assert series.sha256 == hashlib.sha256(INTACT.encode()).hexdigest()


def test_channels_come_in_the_order_of_the_card_whatever_the_order_of_the_file(write_card: WriteCard) -> None:
    card = write_card(INTACT, channels=["price", "load"])
    np.testing.assert_array_equal(load_series(card).values, VALUES[:, ::-1])


def test_a_number_of_channels_takes_every_column_but_the_stamps(write_card: WriteCard) -> None:
    np.testing.assert_array_equal(load_series(write_card(INTACT, channels=2)).values, VALUES)


def test_an_absent_file_names_the_place_and_both_ways_to_bring_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    absent = f"Toy: no file {tmp_path / 'folder' / 'toy.csv'}. Do: "
    message = refusal(card_with(source={**TOY["source"], "repo": "someone/data"}))
    assert message.startswith(f"{absent}run 'python -m bench fetch --suite quick --datasets Toy', or set BENCH_DATA ")
    assert refusal(card_with()).startswith(f"{absent}put the card's file there, or set BENCH_DATA "), (
        "nothing brings it"
    )


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    (tmp_path / "folder" / "toy.csv").mkdir(parents=True)
    assert f"Toy: cannot read {tmp_path / 'folder' / 'toy.csv'}" in refusal(card_with())


def test_a_package_that_is_not_installed_is_named_with_the_way_to_install_it() -> None:
    message = refusal(card_with(source={"path": "toy.csv", "package": "no_such_package_here"}))
    assert message.startswith("Toy: ")
    assert "'no_such_package_here'" in message
    assert "run_all.sh" in message


def test_without_bench_data_files_are_looked_for_in_the_cache_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_DATA", raising=False)
    assert file_of(card_with()) == CARDS / "cache" / "folder" / "toy.csv"


def test_a_copy_with_other_line_ends_is_read_where_the_card_lists_its_hash(write_card: WriteCard) -> None:
    copy = INTACT.replace("\n", "\r\n").encode()
    listed = [hashlib.sha256(INTACT.encode()).hexdigest(), hashlib.sha256(copy).hexdigest()]
    series = load_series(write_card(copy, sha256=listed))
    np.testing.assert_array_equal(series.values, VALUES)
    assert series.sha256 == listed[1]
    assert "SHA-256" in refusal(write_card(copy, sha256=listed[:1]))


def test_irregular_steps_are_read_where_the_card_counts_them(write_card: WriteCard) -> None:
    """As Weather: one stamp twice, and the gap beside it."""
    content = swapped("2020-01-01 03:00:00", "2020-01-01 02:00:00")
    np.testing.assert_array_equal(load_series(write_card(content, irregular_steps=2)).values, VALUES)
    assert "its card says 1" in refusal(write_card(content, irregular_steps=1))


def test_the_long_layout_is_laid_out_by_stamp_and_series(write_card: WriteCard) -> None:
    np.testing.assert_array_equal(load_series(write_card(LONG, **LONG_CARD)).values, LONG_VALUES)


def test_the_long_layout_may_list_its_rows_in_any_order(write_card: WriteCard) -> None:
    header, *rows = LONG.splitlines(keepends=True)
    card = write_card(header + "".join(rows[::2] + rows[1::2]), **LONG_CARD)
    np.testing.assert_array_equal(load_series(card).values, LONG_VALUES)


@pytest.mark.parametrize("path", ["../toy.csv", "folder/../../toy.csv", "/etc/toy.csv", "..", "", "a\\..\\toy.csv"])
def test_a_card_cannot_point_out_of_the_data_directory(path: str) -> None:
    with pytest.raises(BenchError, match=r"^toy\.toml: source\.path: must be a relative path without '\.\.'"):
        card_with(source={"path": path})


@pytest.mark.parametrize(
    "split",
    [[0.7, 0.1, 0.3], [0.7, 0.2], [4, 2, 1], [3, 0, 3], [-1, 1, 1], [1.5, 1.5, 1.5], [0, 0.5, 0.5]],
    ids=str,
)
def test_a_split_that_does_not_fit_the_rows_is_refused(split: list[float]) -> None:
    with pytest.raises(BenchError, match=r"^toy\.toml: .*split"):
        card_with(split=split)


@pytest.mark.parametrize("name", ["", "../Toy", "a/b", "a b", "1st", "-x", "Toy\n", "Tóy", ".Toy", "Toy.csv"])
def test_a_name_that_could_not_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(BenchError, match=r"^toy\.toml: name: must be letters, digits, '_' or '-'"):
        card_with(name=name)


def test_an_unknown_key_of_a_card_is_answered_with_the_nearest() -> None:
    with pytest.raises(BenchError, match=r"^toy\.toml: no key 'chanels'; nearest: channels"):
        card_with(chanels=2)


def test_an_unknown_key_of_a_source_is_named() -> None:
    with pytest.raises(BenchError, match=r"^toy\.toml: .*revison"):
        card_with(source={"path": "toy.csv", "revison": "main"})


@pytest.mark.parametrize("key", [key for key in TOY if key != "source"])
def test_a_key_that_a_card_lacks_is_named(key: str) -> None:
    with pytest.raises(BenchError, match=rf"^toy\.toml: {key}: field required"):
        parse(DatasetCard, {name: value for name, value in TOY.items() if name != key}, "toy.toml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", []),
        ("sha256", ["AB" * 32]),
        ("sha256", ["ab" * 31]),
        ("step", "1 fortnight"),
        ("step", ""),
        ("step", "0h"),
        ("rows", 0),
        ("rows", "many"),
        ("channels", 0),
        ("channels", []),
        ("channels", ["load", "load"]),
        ("irregular_steps", -1),
        ("horizons", []),
        ("horizons", [0]),
        ("context", 0),
        ("season", 0),
    ],
    ids=str,
)
def test_a_value_that_means_nothing_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(BenchError, match=rf"^toy\.toml: {key}"):
        card_with(**{key: value})


def test_a_card_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        card_with().rows = 7


def test_parts_follow_each_other_and_val_takes_the_rounding() -> None:
    assert card_with(rows=966, split=[0.7, 0.1, 0.2]).bounds() == {
        "train": (0, 676),
        "val": (676, 773),
        "test": (773, 966),
    }
    assert card_with(rows=20, split=[10, 4, 5]).bounds() == {"train": (0, 10), "val": (10, 14), "test": (14, 19)}


CHANGED = {
    "name": "Other", "about": "Other", "sha256": ["1" * 64], "stamp": "when", "step": "2h", "rows": 7,
    "channels": ["price", "load"], "season": 12, "split": [3, 1, 1], "irregular_steps": 1,
}  # fmt: skip
KEPT = {
    "title": "Other",
    "license": "MIT",
    "notes": "Other",
    "repaired": "3 rows filled with the row before",
    "context": 2,
    "horizons": [2],
    "source": {"path": "b.csv"},
}


@pytest.mark.parametrize("key", CHANGED)
def test_a_change_that_can_change_a_number_makes_another_card(key: str) -> None:
    assert card_with(**{key: CHANGED[key]}).digest != card_with().digest


@pytest.mark.parametrize("key", KEPT)
def test_a_change_that_changes_no_number_keeps_the_results(key: str) -> None:
    assert card_with(**{key: KEPT[key]}).digest == card_with().digest


def test_the_ten_cards_parse_and_are_called_as_their_files() -> None:
    assert list(cards.__wrapped__()) == NAMES
    assert sorted(path.stem for path in CARDS.glob("*.toml")) == NAMES
    for name in NAMES:
        assert tomllib.loads((CARDS / f"{name}.toml").read_text())["name"] == name


def test_a_card_in_a_file_of_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (CARDS / "ILI.toml").read_text()
    (tmp_path / "Flu.toml").write_text(text)
    monkeypatch.setattr(card_module, "CARDS", tmp_path)
    with pytest.raises(BenchError, match=r"Flu\.toml: name is 'ILI'\. Do: call the file ILI\.toml"):
        cards.__wrapped__()


@pytest.mark.parametrize("name", ["ECL", "Traffic"])
def test_files_as_wide_as_the_widest_data_sets_are_read(write_card: WriteCard, name: str) -> None:
    rows, own = 500, cards()[name]
    values = np.random.default_rng(0).integers(0, 5000, (rows, own.width)) / 8
    columns = [*map(str, range(own.width - 1)), "OT"]
    table = pd.DataFrame(values, columns=columns)
    table.insert(0, own.stamp, pd.date_range("2016-07-01 02:00:00", periods=rows, freq=own.step))
    card = write_card(
        table.to_csv(index=False),
        **own.model_dump(include={"name", "stamp", "step", "irregular_steps", "channels", "season", "split"}),
        rows=rows,
    )
    np.testing.assert_array_equal(load_series(card).values, values)


def test_epf_is_the_file_of_its_package_with_prices_first() -> None:
    card = cards()["EPF"]
    values = load_series(card).values
    raw = pd.read_csv(file_of(card))
    assert values.shape == (16080, 4) == (card.rows, card.width)
    for column, (series, name) in enumerate([("FR", "y"), ("BE", "y"), ("FR", "gen_forecast"), ("FR", "system_load")]):
        own = raw[raw.unique_id == series].sort_values("ds")
        np.testing.assert_array_equal(values[:, column], own[name].to_numpy(dtype=float))


def real_data(name: str) -> pytest.MarkDecorator:
    folder = os.environ.get("BENCH_DATA")
    if not folder:
        return pytest.mark.skipif(True, reason="BENCH_DATA is not set")
    path = Path(folder) / cards()[name].source.path
    return pytest.mark.skipif(not path.is_file(), reason=f"no file {path}")


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=real_data(name)) for name in NAMES if cards()[name].source.package is None]
)
def test_a_real_file_is_as_its_card_says(name: str) -> None:
    card = cards()[name]
    assert load_series(card).values.shape == (card.rows, card.width)
