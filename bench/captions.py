"""What the numbers of a table have in common, in sentences: look-back, seeds, language model, device. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench import registry
from bench.spec import RunResult, RunSpec
from models.pretrained import BACKBONES


def shown(lead: str, specs: Sequence[RunSpec], averaged: bool = True) -> str:
    """What is shown, at which look-back, averaged over which seeds or for each of them; from the planned runs."""
    return f"{lead}; look-back {_look_back(specs)}; {_seeds(specs, averaged)}."


def made(about: str, specs: Sequence[RunSpec], done: Iterable[RunResult]) -> str:
    """With which language model, on which device; what the suite says of itself."""
    sentences = [*_backbones(specs), about, *_where(done)]
    return " ".join(sentence.rstrip() for sentence in sentences if sentence)


def _look_back(specs: Sequence[RunSpec]) -> str:
    """The usual one, and in brackets those of other data sets."""
    by_context: dict[int, list[str]] = {}
    for spec in specs:
        names = by_context.setdefault(spec.task.context, [])
        if spec.task.dataset not in names:
            names.append(spec.task.dataset)
    usual = max(by_context, key=lambda context: len(by_context[context]))
    others = [f"{', '.join(names)} {context}" for context, names in by_context.items() if context != usual]
    return f"{usual} ({'; '.join(others)})" if others else str(usual)


def _seeds(specs: Sequence[RunSpec], averaged: bool) -> str:
    seeds = sorted({spec.seed for spec in specs})
    several = f"{'mean over ' if averaged else ''}seeds {', '.join(map(str, seeds))}"
    return several if len(seeds) > 1 else f"one seed ({seeds[0]})"


def _backbones(specs: Sequence[RunSpec]) -> list[str]:
    """Which language model stands behind which column, with blocks and taps."""
    by_backbone: dict[str, list[str]] = {}
    for spec in specs:
        if "backbone" in spec.options and spec.options["reader"] == "blocks":
            detail = f"{registry.title(spec.model)} {spec.options['blocks']} blocks"
            if "local_tap" in spec.options:
                detail += f", taps {spec.options['local_tap']} and {spec.options['global_tap']}"
            details = by_backbone.setdefault(str(spec.options["backbone"]), [])
            if detail not in details:
                details.append(detail)
    return [
        f"Language model: {BACKBONES[name].title}, pretrained ({'; '.join(details)})."
        if BACKBONES[name].pretrained
        else f"Language model: {BACKBONES[name].title}, NOT pretrained ({'; '.join(details)})."
        for name, details in by_backbone.items()
    ]


def _where(done: Iterable[RunResult]) -> list[str]:
    """Devices and precision of the runs that are there."""
    devices: dict[str, None] = {}
    lower: dict[str, None] = {}
    for result in done:
        devices |= dict.fromkeys(result.where.devices)
        if result.spec.train.precision == "bf16":
            lower[registry.title(result.spec.model)] = None
    sentences = [f"Run on {'; '.join(devices)}."] if devices else []
    if lower:
        sentences.append(f"bf16 arithmetic in {', '.join(lower)}; float32 elsewhere.")
    return sentences
