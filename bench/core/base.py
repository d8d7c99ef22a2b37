"""The base of every package: the base error, strict parsing, names, digests. No torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from bench.core.system import ROOT as ROOT
from models.errors import BenchError as BenchError
from models.errors import UnknownName as UnknownName
from models.errors import nearest as nearest

Option = bool | int | float | str | None
Positive = Annotated[int, Field(gt=0, le=10**9)]
Size = Annotated[int, Field(gt=0, le=10**6)]
"""A count that a run holds in memory or waits for: windows of a batch, rows of a window, epochs."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
MODEL_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*(:[A-Za-z_]\w*)?")


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Parsed = TypeVar("Parsed", bound=Frozen)


def parse(kind: type[Parsed], values: object, place: str, remedy: str = "correct it") -> Parsed:
    """Validate `values` (JSON if they are text; then no type is converted) as `kind`.

    Raises BenchError with `place`, unless it is empty, and the first error.
    """
    at = f"{place}: " if place else ""
    try:
        return kind.model_validate_json(values, strict=True) if isinstance(values, str) else kind.model_validate(values)
    except ValidationError as error:
        do = f". Do: {remedy}" if remedy else ""
        raise BenchError(f"{at}{first_cause(error, kind.model_fields, values)}{do}") from None
    except BenchError as error:  # a name that is in no table
        raise BenchError(f"{at}{error}") from None


def first_cause(error: ValidationError, keys: Iterable[str], values: object) -> str:
    """Return the first error in `values` (JSON if they are text) as `field: cause`; `keys`: those of the whole."""
    # 1. Take the first error, but an unknown key before all others: it may be a missing key, misspelt.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    missing = first["type"] == "missing"
    field = ".".join(_steps(first["loc"], values, missing)) or "the whole of it"
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        return f"no key {field!r}; {nearest(field, list(keys))}"
    # 2. Say what the field holds instead.
    got = "" if missing or isinstance(first["input"], dict) else f", got {str(first['input'])[:60]!r}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message[:1].lower()}{message[1:]}{got}"


def _steps(loc: tuple[int | str, ...], values: object, missing: bool) -> Iterator[str]:
    """Yield the keys and positions that lead to a place in `values`; pydantic's path also has names of types.

    The last step of the path to a missing key leads nowhere.
    """
    if isinstance(values, str):
        values = from_json(values) if loc else None
    for number, step in enumerate(loc, 1):
        try:
            values = values[step]  # type: ignore[index]
        except (TypeError, LookupError):
            if not (missing and number == len(loc)):
                continue
        yield str(step)


def canonical(kind: str, name: str, known: Iterable[str], place: str = "") -> str:
    """Return the one of `known` that `name` spells in any case. Raises UnknownName if there is none."""
    by_folded = {each.casefold(): each for each in known}
    if name.casefold() not in by_folded:
        raise UnknownName(kind, name, list(by_folded.values()), place)
    return by_folded[name.casefold()]


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `value` (sorted keys, no blanks)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def require_regular(path: Path, largest: float = math.inf) -> None:
    """Raise OSError for what is no regular file, which may block, and for a file of more than `largest` bytes."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a regular file")
    if status.st_size > largest:
        raise OSError(f"it is larger than {int(largest) >> 20} MiB")


def read_regular(path: Path, largest: float = math.inf) -> bytes:
    """Return the content of a regular file of at most `largest` bytes. Raises OSError."""
    require_regular(path, largest)
    return path.read_bytes()


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file of at most 1 MiB. Raises BenchError."""
    try:
        text = read_regular(path, 1 << 20).decode()
        if any(line.partition("=")[0].count(".") > 100 for line in text.splitlines()):
            raise RecursionError  # a table a thousand levels deep takes tomllib minutes
        return tomllib.loads(text)
    except RecursionError:
        raise BenchError(f"{path}: not valid TOML: it is nested too deeply. Do: correct it") from None
    except (OSError, ValueError) as error:
        cause = "not valid TOML" if isinstance(error, tomllib.TOMLDecodeError) else "cannot be read"
        raise BenchError(f"{path}: {cause}: {error}. Do: correct it, or check the path") from None
