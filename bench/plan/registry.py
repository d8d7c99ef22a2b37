"""Name -> model, its options and its code. Planning and reporting import no torch: models are loaded by `load`."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError

from bench.core import base
from bench.core.base import MODEL_NAME, BenchError, Option, UnknownName
from bench.core.card import canonical_card
from bench.plan.own_code import raised_at
from models import MODELS, Library, library_of
from models.llm_files import BACKBONES


def canonical(name: str) -> str:
    """Return the registered name that `name` spells in any case; a library's or a user's `module:Class` unchanged."""
    if ":" not in name:
        return base.canonical("model", name, MODELS)
    if not MODEL_NAME.fullmatch(name):
        raise BenchError(f"model {name!r}: no name of a class. Do: write a model of your own as module:Class")
    return name


ModelName = Annotated[str, AfterValidator(canonical)]
DatasetName = Annotated[str, AfterValidator(lambda name: canonical_card(name).name)]
BackboneName = Annotated[str, AfterValidator(lambda name: base.canonical("backbone", name, BACKBONES))]
"""A field of these types takes a name in any case and holds it as registered; it raises UnknownName for others."""
_adapter = lru_cache(TypeAdapter[Any])  # building one takes 10 ms, and a plan resolves options a thousand times


def title(name: str) -> str:
    """Return the title of a model in tables. A library's network says whose it is: others have the same names."""
    library = library_of(name)
    if library is None:
        return MODELS[name].title if name in MODELS else name
    return f"{_network(name, library)} ({name.partition(':')[0]})"


def printed(name: str) -> str | None:
    """Return a model's name in papers' tables; None if papers print no errors of it."""
    if library := library_of(name):
        return _network(name, library)
    return MODELS[name].printed if name in MODELS else None


def _network(name: str, library: Library) -> str:
    """Return the name of a library's network as people write it."""
    return name.partition(":")[2].removesuffix(library.suffix)


def has_seen(name: str, dataset: str) -> bool:
    """Tell whether the model was pretrained on this data set: an error there is no zero-shot result."""
    return name in MODELS and dataset in MODELS[name].pretrained_on


@lru_cache
def _names(options: type) -> list[str]:
    """Return the names of a model's options, sorted."""
    return sorted(field.name for field in dataclasses.fields(options))


def resolve_options(name: str, given: dict[str, Option], place: str) -> dict[str, Option]:
    """Return the model's options with defaults filled in. Raises BenchError for unknown names and wrong types.

    Options of a library's or a user's own model are returned unchanged: its code is part of the key, and planning does
    not run it.
    """
    if name not in MODELS:
        return dict(given)
    kind = MODELS[name].options
    names = _names(kind)
    if unknown := [option for option in given if option not in names]:
        raise UnknownName(f"option of {name}", unknown[0], names, place)
    try:
        resolved: dict[str, Option] = dict(vars(_adapter(kind).validate_python(given)))
    except ValidationError as error:
        raise BenchError(f"{place}: option {name}.{base.first_cause(error, names, given)}. Do: correct it") from None
    _check_blocks(resolved, f"{place}: model {name}")
    return resolved


def _check_blocks(options: dict[str, Option], place: str) -> None:
    """Refuse blocks and taps that the backbone does not have."""
    if "backbone" not in options:
        return
    name, blocks = str(options["backbone"]), int(options["blocks"] or 0)
    if name not in BACKBONES:
        raise UnknownName("backbone", name, list(BACKBONES), place)
    most = BACKBONES[name].blocks
    if not 1 <= blocks <= most:
        raise BenchError(f"{place}: option blocks is {blocks}; {name} has 1 to {most}. Do: correct it")
    for tap in ("local_tap", "global_tap"):
        if not 0 <= (at := int(options.get(tap) or 0)) <= blocks:
            raise BenchError(f"{place}: option {tap} is {at}; with {blocks} blocks it is 0 to {blocks}. Do: correct it")


def load(name: str) -> type:
    """Return the model's class; this imports torch, and runs the files of a user's own model."""
    if library := library_of(name):
        return _adapted(name, library)
    module, _, attribute = (MODELS[name].target if name in MODELS else name).partition(":")
    if name not in MODELS:
        sys.dont_write_bytecode = True  # a file that is edited twice in a second could be taken for its compiled copy
    try:
        imported = importlib.import_module(module)
    except BaseException as error:
        if name in MODELS and (isinstance(error, BenchError) or not isinstance(error, Exception)):
            raise  # the package that it comes from is not installed; Ctrl-C
        cause = f"importing {module} failed: {type(error).__name__}: {error}{raised_at(error)}"
        raise BenchError(f"model {name}: {cause}. Do: mend it, or install what it needs") from error
    loaded = getattr(imported, attribute, None)
    if not isinstance(loaded, type):
        raise BenchError(f"model {name}: module {module} has no class {attribute}. Do: name one that it has")
    if not issubclass(loaded, importlib.import_module("torch.nn").Module):
        raise BenchError(f"model {name}: {attribute} is no torch.nn.Module. Do: derive it from that")
    return loaded


def _adapted(name: str, library: Library) -> type:
    """Return a library's network as a class that is built and called as any model's."""
    try:
        adapted: type = importlib.import_module(library.adapter).adapted(name.partition(":")[2])
    except ImportError as error:
        needed = error.name or library.package.name
        raise BenchError(f"model {name}: it needs {needed} ({error}). Do: pip install {needed}") from error
    return adapted


def make_options(name: str, model_class: type, options: dict[str, Option]) -> Any:
    """Return a model's options as its registered dataclass, as the class's own `Options`, or as a dict."""
    kind = MODELS[name].options if name in MODELS else getattr(model_class, "Options", dict)
    try:
        return kind(**options)
    except BenchError:
        raise
    except Exception as error:  # whatever a user's own Options raises
        what = "" if isinstance(error, TypeError) else f"{type(error).__name__}: "
        cause = f"{what}{error}{raised_at(error)}"
        raise BenchError(f"model {name}: {cause}. Do: set what its Options declares") from error
