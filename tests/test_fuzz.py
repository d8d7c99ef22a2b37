"""Damaged records, cards, suites, bundles and CSV files: each command answers or refuses in one line, within seconds.

100 examples of each kind, which its files share; `pytest -m nightly tests/test_fuzz.py` takes 2,000 of each file.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.core import card as card_module
from bench.core.card import SHIPPED_CARDS, cards
from bench.core.store import Store
from bench.data.bundle import MANIFEST, make_bundle
from bench.plan.settings import SUITES
from bench.plan.suite import Filters, entries, load_suite
from tests.builders import in_process, record, waves

SECONDS = 5.0
"""Most seconds that a command may take over a damaged file."""
PIECES = (
    "", "0", "-1", "1e400", "nan", "inf", "true", '""', "[]", "{}", "[[[", '"\\u0000"', "'../../x'", "9" * 20, ",", ";",
    '["os:system"]', "\ufeff", "\x00", "=", "\n", "# ", '"é\u2028"', "[override.all]\n", "1979-05-27", "0.5", "'''",
    "\x1b[31m", "9" * 5000, "[" * 3000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 3, 1e308, -1e-300, 2**63, 10**400, "", "x", "\x1b[2J", "../../x", "\ud800", "9" * 4000, [], [[]],
    {}, {"a": 1}, [0.1], ["ILI"], "2021",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, text: str) -> bytes:
    """Return a text with a few pieces replaced; JSON may have a few values replaced instead; or any bytes."""
    kind = draw(
        st.sampled_from(["pieces", "values", "bytes"] if text.startswith("{") else ["pieces", "lines", "bytes"])
    )
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "values":
        content = json.loads(text)
        for _ in range(draw(st.integers(1, 3))):
            holder, key = draw(st.sampled_from(list(places(content))))
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        return json.dumps(content).encode()
    for _ in range(draw(st.integers(1, 4))):
        at, length, piece = draw(st.integers(0, len(text))), draw(st.integers(0, 12)), draw(st.sampled_from(PIECES))
        if kind == "lines":  # what follows the sign of equality
            at = text.find("=", at) + 1
            length = len(text[at:].partition("\n")[0])
        text = text[:at] + piece + text[at + length :]
    return text.encode("utf-8", "surrogatepass")


def places(content: Any) -> Any:
    """Yield every container in JSON with each of its keys."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items):
        yield content, key
        yield from places(value)


Try = Callable[..., None]
Fuzz = Callable[..., None]


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Try:
    """Return a function that runs a command, and fails unless it answers or refuses in one line, in time."""

    def run(*words: object) -> None:
        began = time.monotonic()
        code = in_process(*words)
        assert time.monotonic() - began < SECONDS
        out, complaint = capsys.readouterr()
        assert code in (0, 1, 2)
        assert "Traceback" not in complaint
        assert all(each in "\n\t" or each.isprintable() or each == "\u00a0" for each in out + complaint)
        if code == 2:
            assert len(complaint.splitlines()) == 1 and len(complaint) > 20, complaint

    return run


@pytest.fixture(params=[100, pytest.param(2000, marks=pytest.mark.nightly)])
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Return a function that calls another with many damaged forms of a text, one of `files` of its kind."""

    def run(text: str, check: Callable[[bytes], None], files: int = 1) -> None:
        examples = request.param // files if request.param == 100 else request.param
        settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))(
            given(damaged(text))(check)
        )()

    return run


ONE = Filters(datasets=("ILI",), horizons=(24,), seeds=(2021,), models=("dlinear",))


def test_a_damaged_record(fuzz: Fuzz, answer: Try, tmp_path: Path) -> None:
    (entry,) = entries(load_suite("paper"), ONE)
    store = Store(tmp_path / "results")
    path = store.put(record(entry.spec))
    words = ["--suite", "paper", *ONE.words.split(), "--results", store.root]

    def check(content: bytes) -> None:
        path.write_bytes(content)
        answer("plan", *words)
        answer("show", *words)
        answer("report", "--table", "main", *words)

    fuzz(path.read_text(), check)


FUZZED = ("quick", "ablation", "zero_shot", "losses", "tune")


@pytest.mark.parametrize("name", FUZZED)
def test_a_damaged_suite(name: str, fuzz: Fuzz, answer: Try, tmp_path: Path) -> None:
    path = tmp_path / "damaged.toml"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        answer("plan", "--suite", path, "--results", tmp_path / "results")

    fuzz((SUITES / f"{name}.toml").read_text(), check, len(FUZZED))


@pytest.fixture
def own_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's own cards, beside those of the project."""
    (tmp_path / "cards").mkdir()
    monkeypatch.setattr(
        card_module, "SHIPPED_CARDS", card_module.CARDS if not SHIPPED_CARDS.is_dir() else SHIPPED_CARDS
    )
    monkeypatch.setattr(card_module, "CARDS", tmp_path / "cards")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    cards.cache_clear()
    return tmp_path / "cards"


@pytest.fixture(autouse=True)
def cards_anew() -> Any:
    yield
    cards.cache_clear()


@pytest.mark.parametrize("name", ["ETTh1", "EPF"])
def test_a_damaged_card(name: str, fuzz: Fuzz, answer: Try, own_cards: Path, tmp_path: Path) -> None:
    words = ["--suite", "quick", "--datasets", name, "--models", "dlinear", "--results", tmp_path / "results"]

    def check(content: bytes) -> None:
        (own_cards / f"{name}.toml").write_bytes(content)
        cards.cache_clear()
        answer("plan", *words)
        answer("report", "--table", "main", *words)

    fuzz((card_module.SHIPPED_CARDS / f"{name}.toml").read_text(), check, files=2)


def test_a_damaged_csv_file(fuzz: Fuzz, answer: Try, own_cards: Path, tmp_path: Path) -> None:
    rows = [
        f"2020-03-{1 + row // 24:02d} {row % 24:02d}:00:00,{a:.3f},{b:.3f}" for row, (a, b) in enumerate(waves(700, 2))
    ]
    file = tmp_path / "my.csv"

    def check(content: bytes) -> None:
        for path in (*own_cards.glob("*"), *tmp_path.glob("data/own/*")):
            path.unlink()
        cards.cache_clear()
        file.write_bytes(content)
        answer("add-dataset", file)
        if not list(own_cards.glob("*")):
            assert not list(tmp_path.glob("data/own/*")), "nothing is left of a file that is refused"

    fuzz("\n".join(["date,a,b", *rows]), check)


def test_a_damaged_bundle(fuzz: Fuzz, answer: Try, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run itself is done already: what is read of the bundle is its manifest."""
    filters = Filters(datasets=("EPF",), horizons=(24,), seeds=(2021,), models=("repeat_last",))
    (entry,) = entries(load_suite("quick"), filters)
    store = Store(tmp_path / "results")
    store.put(record(entry.spec))
    make_bundle([entry.spec], tmp_path / "bundle")
    words = ["--suite", "quick", *filters.words.split(), "--results", store.root, "--offline", tmp_path / "bundle"]
    for name in ("BENCH_BUNDLE", "BENCH_DATA", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # put back at the end

    def check(content: bytes) -> None:
        for name in ("BENCH_BUNDLE", "BENCH_DATA", "HF_HUB_OFFLINE"):
            os.environ.pop(name, None)
        (tmp_path / "bundle" / MANIFEST).write_bytes(content)
        answer("run", *words)

    fuzz((tmp_path / "bundle" / MANIFEST).read_text(), check)
