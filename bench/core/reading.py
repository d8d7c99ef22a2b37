"""Read records of a results directory: one of them whole, or thousands of them in brief. No torch.

Every record is verified before anything of it is used. `bench.core.verified` remembers what was verified by the stamps
of the files, so that thousands of records are not verified anew for every table.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from bench.core.base import BenchError, parse, read_regular
from bench.core.card import cards
from bench.core.record import Epoch, Layer, RunResult, Sample, Where
from bench.core.spec import PROTOCOL, RunSpec
from bench.core.verified import Brief, Verified, has_settled
from models import MODELS
from models.llm_files import BACKBONES

LARGEST = 32 << 20
"""Most bytes of a record."""
WHOLE = 1000
"""Most records not verified before that are returned whole, with their large parts at hand."""
WORTH = 1000
"""Least records verified anew that are worth remembering; fewer are verified in a moment."""
LARGE: dict[str, TypeAdapter[Any]] = {
    "layers": TypeAdapter(tuple[Layer, ...]),
    "sample": TypeAdapter(Sample | None),
    "curve": TypeAdapter(tuple[Epoch, ...]),
}
"""Parts that make up most of a record, besides the errors of each channel; few tables need them."""


class UnusableRecord(BenchError):
    """A record that exists but is damaged, or belongs to another run, protocol, data or weights."""

    def __init__(self, path: Path, reason: str) -> None:
        """`reason` may end in a remedy of its own, after `. Do: `."""
        self.path, (self.reason, _, remedy) = path, reason.partition(". Do: ")
        super().__init__(f"{path}: {self.reason}. Do: {remedy or 'move it away and run again'}")


def summary_of(unusable: Sequence[UnusableRecord]) -> str:
    """Return a line on records that cannot be used."""
    return f"{len(unusable)} recorded runs cannot be used; the first: {unusable[0]}"


_NAMES: dict[type, set[str]] = {}


class Recorded(RunResult):
    """A verified record in brief, to be read from: its curve is parsed, its large parts are read, when asked for.

    Nothing writes it: pydantic's dumps of it lack those parts, and `Store.put` refuses it.
    """

    spec: Any = None
    _path: str
    _curve: str

    @classmethod
    def of(cls, brief: Brief, spec: RunSpec | None, path: str) -> Recorded:
        """Return the record at `path` of which this is remembered; `spec`: its run, if that is at hand.

        Raises ValidationError if what is remembered is damaged (a damaged curve is read from the file instead).
        """
        found = cls.model_validate_json(brief.text, strict=True)
        found.__dict__["spec"] = spec or RunSpec.model_validate_json(brief.spec, strict=True)
        found.spec.__dict__.setdefault("key", brief.key)
        found._path, found._curve = path, brief.curve
        for name in LARGE:
            del found.__dict__[name]  # so that `__getattr__` is asked for it
        for each in found.evaluations:
            del each.__dict__["channels"]
        further = [each.further for each in found.evaluations if each.further]
        scaled = [each for own in further for each in (own.standardised, own.original)]
        for part in filter(None, (found, found.where, found.cost, *found.evaluations, *further, *scaled)):
            # Of the names of a model's fields each has a set of its own, a third of what a record in brief takes.
            names = _NAMES.setdefault(type(part), part.__pydantic_fields_set__)
            object.__setattr__(part, "__pydantic_fields_set__", names)
        return found

    def channels_on(self, dataset: str) -> tuple[tuple[float, float], ...]:
        tested = next(each for each in self._in_file()["evaluations"] if each["dataset"] == dataset)
        return tuple((mse, mae) for mse, mae in tested.get("channels", ()))  # an old record has none

    def __getattr__(self, name: str) -> Any:
        if name == "curve":
            with suppress(ValidationError):
                return LARGE[name].validate_json(self._curve)
        if name in LARGE:
            return LARGE[name].validate_python(self._in_file().get(name, RunResult.model_fields[name].default))
        return super().__getattr__(name)  # type: ignore[misc]  # pydantic hides it from type checkers

    def _in_file(self) -> Any:
        """Return the JSON of its file, if that still holds this record. Raises BenchError if not."""
        try:
            content = from_json(read_regular(Path(self._path), LARGEST))
            spec, where = RunSpec.model_validate(content["spec"]), Where.model_validate(content["where"])
            if spec == self.spec and where == self.where:
                return content
            cause = "it was replaced"
        except (OSError, ValueError, LookupError, TypeError) as error:
            cause = str(error)
        raise BenchError(f"{self._path}: cannot be read again: {cause}. Do: start the command again")


class Folder(NamedTuple):
    """A folder of records, as it was when it was listed."""

    files: dict[str, os.DirEntry[str]]
    verified: dict[str, Brief]
    """File name -> what is remembered of the record."""
    new: dict[str, Brief]
    """The same of those that were verified since."""


class Reader:
    """Reads many records of one directory, of each folder those that lie there when it is first asked for. A context.

    The first `WHOLE` records that were not verified before are returned whole, all others in brief.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._real = root, os.path.realpath(root)
        self._verified = Verified(root)
        self._folders: dict[str, Folder | None] = {}
        self._new = 0

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._new < WORTH:
            return
        self._verified.tidy()
        for name, listed in self._folders.items():
            if listed and listed.new:
                self._verified.add(name, listed.new, listed.files)

    def get(self, spec: RunSpec) -> RunResult | UnusableRecord | None:
        """Return the record of this spec; None if it is missing; why it cannot be used."""
        return self._checked(spec.place, lambda found: foreign(found, spec), spec)

    def at(self, path: Path, digests: dict[str, str]) -> RunResult | UnusableRecord | None:
        """Return the record at this path, which was checked against its own path and today's cards (name -> digest)."""
        place = path.relative_to(self.root).as_posix()
        return self._checked(place, lambda found: stray(found, place, digests))

    def _checked(
        self, place: str, reason_of: Callable[[RunResult], str | None], spec: RunSpec | None = None
    ) -> RunResult | UnusableRecord | None:
        """Return what lies at a place, unless it was verified before only if `reason_of` gives no reason against it."""
        folder, _, name = place.rpartition("/")
        found = self._found(folder, name, spec)
        if not isinstance(found, RunResult) or isinstance(found, Recorded):
            return found
        reason = reason_of(found)
        return UnusableRecord(self.root / place, reason) if reason else self._remembered(folder, name, found)

    def _found(self, folder: str, name: str, spec: RunSpec | None = None) -> RunResult | UnusableRecord | None:
        """Return what lies there: in brief if it is remembered as verified, else whole and not verified yet."""
        if folder not in self._folders:
            self._folders[folder] = self._listed(folder)
        listed, plain = self._folders[folder], False
        if listed:
            entry = listed.files.get(name)
            if entry is None:
                return None
            with suppress(OSError, ValidationError):  # it is gone, or what is remembered is damaged: see what it is
                status = entry.stat(follow_symlinks=False)  # before it is read: what is written later has another stamp
                plain, brief = stat.S_ISREG(status.st_mode), listed.verified.pop(name, None)
                same = brief and plain and brief.stamp == self._verified.stamp(status)
                if brief and same and (spec is None or spec.key == brief.key):
                    return Recorded.of(brief, spec, f"{self._real}/{folder}/{name}")
        try:
            return read_record(self.root / folder / name, self.root, plain)
        except UnusableRecord as error:
            return error

    def _listed(self, folder: str) -> Folder | None:
        """List a folder; None if a record in it needs a closer look: a link leads there, or it cannot be listed."""
        place = os.path.join(self._real, folder)  # noqa: PTH118  (as realpath spells it)
        try:
            if os.path.realpath(place) != place:
                return None
            with os.scandir(place) as entries:
                return Folder({entry.name: entry for entry in entries}, self._verified.of(folder), {})
        except FileNotFoundError:
            return Folder({}, {}, {})
        except OSError:
            return None

    def _remembered(self, folder: str, name: str, result: RunResult) -> RunResult:
        """Remember a sound record; return it, in brief if many were."""
        listed = self._folders[folder]
        if not listed:
            return result
        try:
            status = listed.files[name].stat(follow_symlinks=False)  # kept since before it was read
        except OSError:
            return result
        if not (stat.S_ISREG(status.st_mode) and has_settled(status)):
            return result
        apart: Any = {**dict.fromkeys(("spec", *LARGE), True), "evaluations": {"__all__": {"channels"}}}
        brief = Brief(
            stamp=self._verified.stamp(status),
            key=result.spec.key,
            spec=result.spec.model_dump_json(),
            curve=LARGE["curve"].dump_json(result.curve).decode(),
            text=result.model_dump_json(exclude=apart),
        )
        listed.new[name] = brief
        self._new += 1
        return result if self._new <= WHOLE else Recorded.of(brief, result.spec, f"{self._real}/{folder}/{name}")


def read_record(path: Path, root: Path, plain: bool = False) -> RunResult | None:
    """Read a record below a results directory; None if there is none. `plain`: no link lies on the way to it.

    Raises UnusableRecord for what is no record: never blocks, never follows a link out of the directory. Raises
    BenchError if the directory itself cannot be read.
    """
    try:
        if not plain:
            path.lstat()  # a missing record is found out a hundred times as fast as by the next line
            found = os.path.realpath(path, strict=True)
            if not found.startswith(os.path.realpath(root).rstrip(os.sep) + os.sep):
                raise BenchError("is a link out of the results directory")
        return parse(RunResult, read_regular(path if plain else Path(found), LARGEST).decode(), str(path), remedy="")
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        if not os.access(root, os.R_OK | os.X_OK) or not root.is_dir():
            cause = f"cannot be read: {error}"
            raise BenchError(f"results directory {root}: {cause}. Do: choose another --results") from None
        raise UnusableRecord(path, f"cannot be read: {error}") from None
    except (UnicodeDecodeError, BenchError) as error:
        raise UnusableRecord(path, str(error).removeprefix(f"{path}: ")) from None


def foreign(result: RunResult, spec: RunSpec) -> str | None:
    """Return why a record does not belong to this spec; None if it does."""
    if result.spec.protocol != spec.protocol:
        return f"is a record of protocol {result.spec.protocol}; this is protocol {spec.protocol}"
    if result.spec != spec:
        return "holds the record of another run"
    if fault := result.fault:
        return fault
    for name, found in result.where.data_sha256.items():
        if found not in (card := cards()[name]).sha256:
            return f"its data of {name} have SHA-256 {found[:8]!r}, the card says {card.sha256[0][:8]!r}"
    own = MODELS[spec.model].weights if spec.model in MODELS else None
    for what, read, weights in (
        (spec.backbone, result.where.backbone_sha256, BACKBONES.get(spec.backbone or "")),
        (spec.model, result.where.weights_sha256, own),
    ):
        if (result.status == "done" or read) and read != (weights and weights.sha256):  # a lost process did not tell
            return f"its weights of {what} are other ones"
    return None


def stray(result: RunResult, place: str, digests: dict[str, str]) -> str | None:
    """Return why a record that lies at this place cannot be used; None if it can.

    `digests`: of today's cards, by name.
    """
    spec = result.spec
    if spec.protocol != PROTOCOL:
        return f"is a record of protocol {spec.protocol}; this is protocol {PROTOCOL}"
    if place != str(spec.path):
        return f"holds the record of another run, {spec.path}"
    for name, digest in spec.task.cards.items():
        if digests.get(name) != digest:
            none = f"no card of {name} here. Do: bring datasets/{name}.toml from where it ran"
            return f"the card of {name} has changed since it was made" if name in digests else none
    return foreign(result, spec)
