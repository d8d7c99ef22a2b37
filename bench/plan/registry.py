"""Name -> model. Names are resolved lazily, so that planning and reporting import no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.core.base import MODEL_NAME, BenchError, Option, UnknownName
from models import MODELS
from models.llm_files import BACKBONES


def canonical(name: str) -> str:
    """The registered name that `name` spells in any case, or a user's `module:Class` as it is."""
    if ":" in name:
        if not MODEL_NAME.fullmatch(name):
            raise BenchError(f"model {name!r}: a model of your own is written module:Class")
        return name
    by_folded = {known.casefold(): known for known in MODELS}
    if name.casefold() not in by_folded:
        raise UnknownName("model", name, list(MODELS))
    return by_folded[name.casefold()]


def title(name: str) -> str:
    """What tables call the model."""
    return MODELS[name].title if name in MODELS else name


def uses_backbone(name: str) -> bool:
    return name in MODELS and MODELS[name].uses_backbone


def resolve_options(name: str, given: dict[str, Option], place: str) -> dict[str, Option]:
    """The model's options with defaults filled in; unknown names and wrong types are refused.

    Those of a user's own model are passed as given: its file is part of the key, and planning does not run it.
    """
    if name not in MODELS:
        return dict(given)
    kind = MODELS[name].options
    known = {field.name for field in dataclasses.fields(kind)}
    for option in given:
        if option not in known:
            raise UnknownName(f"option of {name}", option, sorted(known), place)
    try:
        resolved: dict[str, Option] = dataclasses.asdict(_adapter(kind).validate_python(given))
    except ValidationError as error:
        first = error.errors()[0]
        raise BenchError(f"{place}: option {name}.{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None
    _check_blocks(resolved, f"{place}: model {name}")
    return resolved


@lru_cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """Building one takes ten milliseconds, and a plan resolves options a thousand times."""
    return TypeAdapter(kind)


def _check_blocks(options: dict[str, Option], place: str) -> None:
    """Blocks and taps must exist in the backbone."""
    if "backbone" not in options:
        return
    name, blocks = str(options["backbone"]), int(options["blocks"] or 0)
    if name not in BACKBONES:
        raise UnknownName("backbone", name, list(BACKBONES), place)
    if not 1 <= blocks <= BACKBONES[name].blocks:
        raise BenchError(f"{place}: option blocks is {blocks}; {name} has 1 to {BACKBONES[name].blocks}")
    for tap in ("local_tap", "global_tap"):
        if tap in options and not 0 <= int(options[tap] or 0) <= blocks:
            raise BenchError(f"{place}: option {tap} is {options[tap]}; with {blocks} blocks it is 0 to {blocks}")


def code_digest(name: str) -> str | None:
    """SHA-256 of the file of a user's own model; None for the registry's.

    Finds the file without running it (but Python runs the packages that it lies in).
    """
    if name in MODELS:
        return None
    module = name.partition(":")[0]
    if "" not in sys.path:
        sys.path.insert(0, "")  # the directory the command is run in, also for installed entry points
    try:
        found = importlib.util.find_spec(module)
    except ImportError:
        found = None
    except (Exception, SystemExit) as error:
        raise BenchError(
            f"model {name}: importing what {module} lies in failed: {type(error).__name__}: {error}"
        ) from error
    if found is None or not found.has_location or not found.origin:
        raise BenchError(f"model {name}: no module {module!r} that is a file in {Path.cwd()} or on PYTHONPATH")
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()


def load(name: str) -> type:
    """The model's class; this imports torch, and runs the file of a user's own model."""
    module, _, attribute = (MODELS[name].target if name in MODELS else name).partition(":")
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise BenchError(f"model {name}: importing {module} failed: {type(error).__name__}: {error}") from error
    loaded = getattr(imported, attribute, None)
    if not isinstance(loaded, type):
        raise BenchError(f"model {name}: module {module} has no class {attribute}")
    if not issubclass(loaded, importlib.import_module("torch.nn").Module):
        raise BenchError(f"model {name}: {attribute} is no torch.nn.Module; derive it from that")
    return loaded


def make_options(name: str, model_class: type, options: dict[str, Option]) -> Any:
    """The options object a model is built with: its registered dataclass, or the class's own `Options`, or the dict."""
    kind = MODELS[name].options if name in MODELS else getattr(model_class, "Options", dict)
    try:
        return kind(**options)
    except TypeError as error:
        raise BenchError(f"model {name}: {error}; it takes what its Options declares") from None
