"""Many records at once: what is remembered of them is never more than their files say."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.core import reading, verified
from bench.core.base import BenchError, digest
from bench.core.card import DatasetCard
from bench.core.reading import Recorded, UnusableRecord
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.perf.grids import invented
from bench.plan.suite import Filters, load_suite, plan
from tests.builders import SEEDS, make_spec, record, waves

PLANNED = [
    *plan(load_suite("quick"), Filters(seeds=SEEDS, backbone="gpt2")),
    *plan(load_suite("layers"), Filters(seeds=(2021,), datasets=("ILI",), horizons=(24,), backbone="gpt2")),
    *plan(load_suite("zero_shot"), Filters(seeds=(2021,), horizons=(96,), models=("dlinear",))),
]


def made(number: int, spec: RunSpec) -> RunResult:
    """A record of this run; one that only probes or is tested elsewhere has no sample, some others have failed."""
    return record(spec) if spec.task.probe or spec.task.test_on else invented(spec, number)


def aged(content: dict[str, Any]) -> dict[str, Any]:
    """The record as an early version wrote it: without samples, probes and the errors of each channel."""
    early = {name: each for name, each in content.items() if name not in ("sample", "layers", "kept", "traceback")}
    for tested in early["evaluations"]:
        del tested["channels"], tested["further"]
    return early


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A directory of records, all of them worth remembering and old enough for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verified, "WORTH", 1)
    monkeypatch.setattr(reading, "WORTH", 1)
    monkeypatch.setattr(verified, "SETTLED", -1)
    store = Store(tmp_path / "results")
    for number, spec in enumerate(PLANNED[:-3]):  # the last three have none
        path = store.put(made(number, spec))
        if number % 4 == 0 and not spec.task.probe:
            path.write_text(json.dumps(aged(json.loads(path.read_text()))))
    return store


def read(store: Store) -> list[RunResult | UnusableRecord | None]:
    return list(store.several(PLANNED))


def base(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache" / verified.CACHE).iterdir()
    return path


def agree(found: RunResult, whole: RunResult) -> None:
    """In brief or not, every part is that of the file."""
    for name in RunResult.model_fields:
        if name != "evaluations":
            assert getattr(found, name) == getattr(whole, name), name
    assert (found.epochs, found.epoch_s) == (whole.epochs, whole.epoch_s)
    assert len(found.evaluations) == len(whole.evaluations)
    for own, theirs in zip(found.evaluations, whole.evaluations, strict=True):
        assert own.further == theirs.further and [own.mse, own.mae] == [theirs.mse, theirs.mae]
        assert found.channels_on(own.dataset) == whole.channels_on(own.dataset)


def test_a_remembered_record_is_that_of_its_file_in_every_part(store: Store) -> None:
    first, second = read(store), read(store)
    assert sum(isinstance(each, Recorded) for each in second) == len(PLANNED) - 3
    assert second[-3:] == [None] * 3
    assert any(each.sample for each in second if isinstance(each, RunResult))
    assert any(each.layers for each in second if isinstance(each, RunResult))
    for spec, *both in zip(PLANNED, first, second, strict=True):
        for each in both:
            whole = store.get(spec)
            assert isinstance(each, RunResult) == isinstance(whole, RunResult)
            if isinstance(each, RunResult) and whole:
                agree(each, whole)
                assert each.spec.key == spec.key


def test_all_records_of_a_directory_are_remembered_too(store: Store) -> None:
    before = list(store.everything())
    for own in (before, list(store.everything())):
        keys = [each.spec.key for each in own if isinstance(each, RunResult)]
        assert sorted(keys) == sorted(spec.key for spec in PLANNED[:-3])
    read(store)
    for each in store.everything():
        assert isinstance(each, Recorded)
        whole = store.get(each.spec)
        assert whole
        agree(each, whole)


def damaged(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


def forged(path: Path) -> None:
    path.write_text(path.read_text().replace('"mse": 0', '"mse": 9', 1))


def forged_in_its_old_time(path: Path) -> None:
    times = path.stat()
    forged(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced_by_a_link(path: Path) -> None:
    path.symlink_to(path.rename(path.parents[4] / "elsewhere.json"))  # out of the results directory


@pytest.mark.parametrize("change", [damaged, forged, forged_in_its_old_time, replaced_by_a_link])
def test_a_record_that_changed_is_verified_anew(change: Callable[[Path], None], store: Store) -> None:
    read(store)
    read(store)
    time.sleep(0.02)  # a tick of the file system's clock
    change(store.root / PLANNED[1].path)
    found = read(store)
    assert isinstance(found[1], UnusableRecord)
    assert all(isinstance(each, Recorded) for each in (found[0], *found[2:-3]))
    with pytest.raises(UnusableRecord) as refusal:
        store.get(PLANNED[1])
    assert str(found[1]) == str(refusal.value)
    (again,) = [each for each in store.everything() if isinstance(each, UnusableRecord)]
    assert again.path == found[1].path


def test_a_record_that_is_gone_or_new_is_missing_or_there(store: Store, tmp_path: Path) -> None:
    read(store)
    read(store)
    (store.root / PLANNED[0].path).unlink()
    store.put(record(PLANNED[-1]))
    found = read(store)
    assert found[0] is None and isinstance(found[-1], RunResult)
    with sqlite3.connect(base(tmp_path)) as opened:
        names = {name for (name,) in opened.execute("SELECT name FROM record")}
    assert PLANNED[0].path.name not in names and PLANNED[-1].path.name in names


def test_a_file_that_was_just_written_is_not_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "SETTLED", 60)
    assert not any(isinstance(each, Recorded) for each in [*read(store), *read(store)])


def test_few_records_leave_nothing_in_the_cache(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "WORTH", len(PLANNED))
    read(store)
    read(store)
    assert not (tmp_path / "cache").exists()


def other_code(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "_code", lambda: "other")


def other_cards(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = verified.cards()
    one, *_rest = known
    monkeypatch.setattr(verified, "cards", lambda: known | {one: known[one].model_copy(update={"title": "Another"})})


def rubbish(path: Path, _: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"rubbish" * 1000)


def a_folder(path: Path, _: pytest.MonkeyPatch) -> None:
    path.unlink()
    path.mkdir()


def forged_text(path: Path, _: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(path) as opened:
        opened.execute("UPDATE record SET text = '{}'")


@pytest.mark.parametrize("change", [other_code, other_cards, rubbish, a_folder, forged_text])
def test_whatever_is_wrong_with_the_cache_records_are_verified_anew(
    change: Callable[[Path, pytest.MonkeyPatch], None], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(store)
    assert all(isinstance(each, Recorded) for each in read(store)[:-3])
    counted = []
    verify = RunResult.fault.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(RunResult, "fault", property(lambda self: counted.append(1) or verify(self)))
    change(base(tmp_path), monkeypatch)
    for each, whole in zip(read(store), first, strict=True):
        if isinstance(each, RunResult) and isinstance(whole, RunResult):
            agree(each, whole)
    assert len(counted) == len(PLANNED) - 3


def test_a_large_part_of_a_record_that_changed_is_never_another_records(store: Store) -> None:
    read(store)
    found = next(each for each in read(store) if isinstance(each, RunResult) and each.sample)
    path = store.root / found.spec.path
    path.write_text(path.read_text().replace("0.9", "0.8"))
    with pytest.raises(BenchError, match=r"cannot be read again: it changed\. Do: start the command again"):
        _ = found.sample
    path.unlink()
    with pytest.raises(BenchError, match=r"cannot be read again: .*No such file"):
        _ = found.sample


@pytest.fixture
def locked(store: Store, tmp_path: Path) -> Iterator[Store]:
    read(store)
    with sqlite3.connect(base(tmp_path), isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield store


def test_a_cache_that_another_process_holds_is_done_without(locked: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, timeout=0.01))
    assert sum(isinstance(each, RunResult) for each in read(locked)) == len(PLANNED) - 3


def test_a_key_is_the_digest_of_all_fields_whatever_way_a_run_was_made(
    make_card: Callable[..., DatasetCard],
) -> None:
    for spec in [*PLANNED, make_spec(make_card(waves(260, 3)))]:
        for seed in (0, 7, 2**32 - 1):
            copied, changed = spec.model_copy(update={"seed": seed}), spec.with_seed(seed)
            whole = RunSpec.model_validate(changed.model_dump())
            assert changed == copied == whole
            assert changed.key == copied.key == whole.key == digest(changed.model_dump(mode="json"))
            assert changed.cell == spec.cell and str(changed.path) == str(copied.path)
    assert len({spec.cell for spec in PLANNED}) < len(PLANNED)
