"""Choose the language model of a suite's runs, by one rule for every verb. No torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.plan.suite import Filters, Suite, planned
from models import MODELS
from models.errors import BenchError
from models.llm_files import BACKBONES, find, locate


def choose(suite: Suite, filters: Filters, store: Store) -> tuple[Filters, str]:
    """Return the filters with their language model, and a line that says which one and why.

    That of --backbone. Without it: the suite's own if runs with it are done or its weights are here; else the one with
    the most runs that are done; else a pretrained one whose weights are here; else the suite's own. The line is empty
    with --backbone, and where no model of these runs reads one.
    """
    if filters.backbone:
        return filters, ""
    own = suite.backbone
    if not any(True for _ in _readers(suite, filters, own)):
        return filters.model_copy(update={"backbone": own}), ""
    name, why = own, "the suite's own"
    if not (any(_done(_readers(suite, filters, own), store)) or _is_here(own)):
        counts = {other: recorded(suite, filters, store, other) for other in usable(suite)}
        here = [other for other in counts if BACKBONES[other].pretrained and _is_here(other)]
        if any(counts.values()):
            name = max(counts, key=counts.__getitem__)
            why = f"{counts[name]} runs are recorded with it, none with the suite's own, {own}"
        elif here:
            name, why = here[0], f"its weights are here, those of the suite's own, {own}, are not"
    line = f"language model: {BACKBONES[name].title} (--backbone {name}): {why}"
    return filters.model_copy(update={"backbone": name}), line


def usable(suite: Suite) -> list[str]:
    """Return the language models that this suite can use, its own first."""
    others = [name for name, each in BACKBONES.items() if each.pretrained or not suite.variant]
    return list(dict.fromkeys([suite.backbone, *others]))


def recorded(suite: Suite, filters: Filters, store: Store, name: str) -> int:
    """Return how many runs that read this language model are done."""
    specs = {spec.key: spec for spec in _readers(suite, filters, name)}
    return sum(_done(specs.values(), store))


def _done(specs: Iterable[RunSpec], store: Store) -> Iterator[bool]:
    """Yield of each run whether it is done."""
    for found in store.several(specs):
        yield isinstance(found, RunResult) and found.status == "done"


def _readers(suite: Suite, filters: Filters, name: str) -> Iterator[RunSpec]:
    """Yield the planned runs that read this language model; models that read none are not planned, to save time."""
    names = filters.models or suite.models
    models = tuple(model for model in names if model not in MODELS or MODELS[model].uses_backbone)
    runs = planned(suite, filters.model_copy(update={"backbone": name, "models": models})) if models else ()
    yield from (entry.spec for entry in runs if entry.spec.backbone)


def _is_here(name: str) -> bool:
    """Return whether the weights can be read here: not without their files, nor without the packages that read them."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")  # in notebooks, of the Hugging Face client's bars
            locate(find(name))
    except (BenchError, ModuleNotFoundError):  # an environment that only prints reports has no Hugging Face client
        return False
    return True
