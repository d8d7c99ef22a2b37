"""Many records at once: what is remembered of them is never more than their files say."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
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
    """The record as an early version wrote it: without samples, probes, the errors of each channel and later fields."""
    early = {name: each for name, each in content.items() if name not in ("sample", "layers", "kept", "traceback")}
    for part, name in (("where", "sharing"), ("where", "weights_sha256"), ("spec", "code")):
        del early[part][name]
    del early["spec"]["task"]["probe"]
    for tested in early["evaluations"]:
        del tested["channels"], tested["further"]
    return early


KEYS = [spec.key for spec in PLANNED]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A directory of records, all of them worth remembering and old enough for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(reading, "WORTH", 1)
    monkeypatch.setattr(reading, "WHOLE", 1)
    monkeypatch.setattr(verified, "SETTLED", -1)
    store = Store(tmp_path / "results")
    for number, spec in enumerate(PLANNED[:-3]):  # the last three have none
        path = store.put(made(number, spec))
        if number % 4 == 0 and not spec.task.probe:
            path.write_text(json.dumps(aged(json.loads(path.read_text()))))
    return store


def read(store: Store) -> list[RunResult | UnusableRecord | None]:
    return list(store.several(PLANNED))


def remembered(tmp_path: Path) -> list[Path]:
    """The files of the cache."""
    return sorted((tmp_path / "cache" / verified.CACHE).iterdir())


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


def behind_a_link(path: Path) -> None:
    path.parent.symlink_to(path.parent.rename(path.parents[4] / "elsewhere"))


@pytest.mark.parametrize("change", [damaged, forged, forged_in_its_old_time, replaced_by_a_link, behind_a_link])
def test_a_record_that_changed_is_verified_anew(change: Callable[[Path], None], store: Store) -> None:
    read(store)
    assert all(isinstance(each, Recorded) for each in read(store)[:-3])
    time.sleep(0.02)  # a tick of the file system's clock
    path = store.root / PLANNED[1].path
    change(path)
    for spec, found in zip(PLANNED[:-3], read(store), strict=False):
        if spec.path.parent == PLANNED[1].path.parent and (spec == PLANNED[1] or change is behind_a_link):
            assert isinstance(found, UnusableRecord)
            with pytest.raises(UnusableRecord) as refusal:
                store.get(spec)
            assert str(found) == str(refusal.value)
        else:
            assert isinstance(found, Recorded)
    again = [each.path for each in store.everything() if isinstance(each, UnusableRecord)]
    assert path in again


def test_a_loop_of_links_and_a_folder_that_cannot_be_searched_are_refused_as_one_record_is(store: Store) -> None:
    read(store)
    folder = (store.root / PLANNED[1].path).parent
    folder.rename(folder.with_name("aside"))
    folder.symlink_to(folder.name)
    (found,) = store.several([PLANNED[1]])
    assert isinstance(found, UnusableRecord) and "cannot be read" in found.reason
    folder.unlink()
    folder.with_name("aside").rename(folder)
    if os.getuid():
        folder.chmod(0o444)
        (found,) = store.several([PLANNED[1]])
        assert isinstance(found, UnusableRecord) and "Permission denied" in found.reason


def test_a_record_that_is_gone_or_new_is_missing_or_there(store: Store, tmp_path: Path) -> None:
    read(store)
    first, other = PLANNED[0], PLANNED[0].with_seed(SEEDS[1])
    (store.root / first.path).unlink()
    os.utime(store.root / other.path)
    store.put(record(PLANNED[-1]))
    found = read(store)
    assert found[0] is None and isinstance(found[-1], RunResult)
    texts = "".join(path.read_text() for path in remembered(tmp_path))
    assert first.path.name not in texts and other.path.name in texts and PLANNED[-1].path.name in texts


def test_a_file_that_was_just_written_is_not_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "SETTLED", 60)
    assert not any(isinstance(each, Recorded) for each in [*read(store), *read(store)])


def test_few_records_leave_nothing_in_the_cache(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WORTH", len(PLANNED))
    read(store)
    read(store)
    assert not (tmp_path / "cache").exists()


def test_without_a_folder_of_the_users_nothing_is_remembered(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    for _ in range(2):
        assert sum(isinstance(each, RunResult) for each in read(store)) == len(PLANNED) - 3
    assert not (tmp_path / "cache").exists()


def test_what_was_remembered_long_ago_is_removed(store: Store, tmp_path: Path) -> None:
    read(store)
    old, *others = remembered(tmp_path)
    os.utime(old, (0, 0))
    store.put(record(PLANNED[-1]))
    read(store)
    assert old not in remembered(tmp_path) or old.stat().st_mtime > 0
    assert {*others} <= {*remembered(tmp_path)}


def other_code(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "CODE", "other")


def other_cards(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = verified.cards()
    one, *_rest = known
    monkeypatch.setattr(verified, "cards", lambda: known | {one: known[one].model_copy(update={"title": "Another"})})


def rubbish(path: Path, _: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"rubbish" * 1000)


def a_folder(path: Path, _: pytest.MonkeyPatch) -> None:
    path.unlink()
    path.mkdir()


def forged_curve(path: Path, _: pytest.MonkeyPatch) -> None:
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    path.write_text("".join("\t".join([*line[:4], "[{]", line[5]]) + "\n" for line in lines))


def test_a_curve_that_is_remembered_wrongly_is_read_from_the_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(store)
    for path in remembered(tmp_path):
        forged_curve(path, monkeypatch)
    for each, whole in zip(read(store)[:-3], first, strict=False):
        assert isinstance(each, Recorded) and isinstance(whole, RunResult)
        agree(each, whole)


def unreadable(path: Path, _: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"\xff\x00\n\t\t\n")


def another_run(path: Path, _: pytest.MonkeyPatch) -> None:
    path.write_text(path.read_text().replace(f"\t{KEYS[0][:4]}", "\t0000"))


def forged_text(path: Path, _: pytest.MonkeyPatch) -> None:
    lines = [line.rpartition("\t")[0] + "\t{}" for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("change", [other_code, other_cards, rubbish, a_folder, unreadable, another_run, forged_text])
def test_whatever_is_wrong_with_the_cache_records_are_verified_anew(
    change: Callable[[Path, pytest.MonkeyPatch], None], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(store)
    assert all(isinstance(each, Recorded) for each in read(store)[:-3])
    counted = []
    verify = RunResult.fault.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(RunResult, "fault", property(lambda self: counted.append(1) or verify(self)))
    for path in remembered(tmp_path):
        change(path, monkeypatch)
    for each, whole in zip(read(store), first, strict=True):
        if isinstance(each, RunResult) and isinstance(whole, RunResult):
            agree(each, whole)
    assert len(counted) == (1 if change is another_run else len(PLANNED) - 3)


def test_a_cache_that_cannot_be_written_or_read_is_done_without(store: Store, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    for _ in range(2):
        assert sum(isinstance(each, RunResult) for each in read(store)) == len(PLANNED) - 3


def test_a_large_part_is_read_from_a_file_that_still_holds_the_record(store: Store) -> None:
    read(store)
    found = next(each for each in read(store) if isinstance(each, Recorded) and each.sample)
    path, sample = store.root / found.spec.path, found.sample
    path.chmod(0o600)
    os.utime(path)
    assert found.sample == sample
    with pytest.raises(TypeError, match="in brief"):
        store.put(found)
    path.write_text(path.read_text().replace("2026-01-01", "2026-01-02"))
    with pytest.raises(BenchError, match=r"cannot be read again: it was replaced\. Do: start the command again"):
        _ = found.sample
    path.write_text("{}")
    with pytest.raises(BenchError, match="cannot be read again"):
        _ = found.sample
    path.unlink()
    with pytest.raises(BenchError, match=r"cannot be read again: .*No such file"):
        _ = found.sample


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
