"""These tables list the forecasters by name, and libraries whose networks are forecasters too. No torch.

`bench.plan.registry` imports a class for a run.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from models import options


@dataclass(frozen=True)
class Registered:
    """A registered model: its title in tables, its class, its options, its source and its capabilities."""

    title: str
    target: str
    """`module:Class`."""
    options: type
    follows: str
    differs: str
    """Stated differences from the source; the README has them too."""
    printed: str | None = None
    """Name of the model in papers' tables (suites/published.csv); None if papers print no errors of it."""
    trains: bool = True
    reads_words: bool = False
    """It reads the word embeddings of its language model."""
    reads_prompt: bool = False
    """It reads a prompt through its language model when it is built, before frozen weights are rounded to bf16."""
    probed: bool = False
    """It has a state of every patch after every block, which probes can read (bench/train/probes.py)."""
    reads_season: bool = False
    """It reads one season of its data set where that is longer than the look-back and every split holds one."""

    @property
    def uses_backbone(self) -> bool:
        return any(field.name == "backbone" for field in fields(self.options))


@dataclass(frozen=True)
class Library:
    """A library whose own networks are models too, by the names `PREFIX:Class`; an adapter of ours is all they need."""

    adapter: str
    """Module with a function `adapted(class_name)` that returns a forecaster's class."""
    package: str
    """The distribution. Its version is part of a run's key: another version may be another network."""
    version: str
    """The version that committed records were made with; it stands in the key where the package is not installed."""
    follows: str
    suffix: str = ""
    """The end of class names that titles leave out."""


MODELS = {
    "logo_llm": Registered(
        "Logo-LLM", "models.logo_llm:LogoLLM", options.LogoLLMOptions, "arXiv 2505.11017 and its code",
        "both taps are options; evaluation in eval mode throughout; bf16",
        printed="Logo-LLM", probed=True,
    ),
    "time_llm_lite": Registered(
        "Time-LLM-lite", "models.time_llm:TimeLLMLite", options.TimeLLMOptions, "arXiv 2310.01728",
        "a small language model; prompt fixed per data set; prototypes from a sixth of the words",
        printed="Time-LLM", reads_words=True, reads_prompt=True,
    ),
    "calf_lite": Registered(
        "CALF-lite", "models.calf:CALFLite", options.CALFOptions, "arXiv 2403.07300",
        "one learning rate for all parts; best epoch by its loss, not by MSE; bf16",
        printed="CALF", reads_words=True,
    ),
    "gpt4ts": Registered(
        "GPT4TS", "models.gpt4ts:GPT4TS", options.GPT4TSOptions, "arXiv 2302.11939 and its code",
        "look-back as in the table, not 336 to 512; evaluation in eval mode throughout; bf16", printed="GPT4TS",
    ),
    "patchtst": Registered(
        "PatchTST", "models.patchtst:PatchTST", options.PatchTSTOptions, "arXiv 2211.14730",
        "look-back as in the table, not 336; no slow first epoch", printed="PatchTST",
    ),
    "itransformer": Registered(
        "iTransformer", "models.itransformer:ITransformer", options.ITransformerOptions, "arXiv 2310.06625",
        "none known; it alone reads calendar features, as its official runs do", printed="iTransformer",
    ),
    "dlinear": Registered(
        "DLinear", "models.baselines:DLinear", options.DLinearOptions, "arXiv 2205.13504",
        "look-back as in the table, not 336", printed="DLinear",
    ),
    "seasonal_naive": Registered(
        "Seasonal naive", "models.baselines:SeasonalNaive", options.NoOptions, "the last season",
        "it alone reads a season longer than the look-back; the last value where the rows hold none", trains=False,
        reads_season=True,
    ),
    "repeat_last": Registered(
        "Repeat last", "models.baselines:RepeatLast", options.NoOptions, "the last value", "", trains=False,
    ),
}  # fmt: skip
"""Name on the command line and in records -> model."""

LIBRARIES = {
    "nixtla": Library(
        "models.nixtla", "neuralforecast", "3.3.0", "neuralforecast's network, under this project's training"
    ),
    "transformers": Library(
        "models.hugging_face", "transformers", "5.23.0", "transformers' network, under this project's training",
        suffix="ForPrediction",
    ),
}  # fmt: skip
"""Prefix of names on the command line and in records -> library."""


def library_of(name: str) -> Library | None:
    """Return the library that a model `PREFIX:Class` comes from; None for a registered model or a user's own."""
    return LIBRARIES.get(name.partition(":")[0]) if ":" in name else None


PROPOSED, REFERENCE, QUICK = "logo_llm", "seasonal_naive", "dlinear"
"""The model that the paper proposes; the model that skill is measured against; the model that trains in seconds."""
