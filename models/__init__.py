"""These tables list the forecasters by name, and libraries whose networks are forecasters too. No torch.

`bench.plan.registry` imports a class for a run.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from models import forecaster_files, options


@dataclass(frozen=True)
class Package:
    """An installed package that a model comes from. Its version is part of the key of a run, which it may change."""

    name: str
    version: str
    """What committed records were made with; it stands in the key where the package is not installed."""


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
    weights: forecaster_files.Forecaster | None = None
    """The weights of a forecaster that comes pretrained and trains nothing."""
    pretrained_on: tuple[str, ...] = ()
    """Data sets that its pretraining holds, in whole or in part: no zero-shot result is there to be had."""
    package: Package | None = None

    @property
    def computes(self) -> bool:
        """Whether it has parameters, trained here or elsewhere."""
        return self.trains or self.weights is not None

    @property
    def uses_backbone(self) -> bool:
        return any(field.name == "backbone" for field in fields(self.options))


@dataclass(frozen=True)
class Library:
    """A library whose own networks are models too, by the names `PREFIX:Class`; an adapter of ours is all they need."""

    adapter: str
    """Module with a function `adapted(class_name)` that returns a forecaster's class."""
    package: Package
    follows: str
    suffix: str = ""
    """The end of class names that titles leave out."""
    needs: tuple[tuple[str, str], ...] = ()
    """Classes, each with a package that it needs besides; its version is part of a run's key too."""


TRANSFORMERS = Package("transformers", "5.23.0")
ZERO_SHOT = "trains nothing; each channel alone; look-back as in the table; its median is the forecast"

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
    "gpt4ts": Registered(
        "GPT4TS", "models.gpt4ts:GPT4TS", options.GPT4TSOptions, "arXiv 2302.11939 and its code",
        "look-back as in the table, not 336 to 512; evaluation in eval mode throughout; bf16", printed="GPT4TS",
    ),
    "fracast": Registered(
        "Fracast", "models.fracast:Fracast", options.NoOptions, "github.com/ztxtech/fracast-0",
        ZERO_SHOT, trains=False,
        weights=forecaster_files.FRACAST, package=Package("fracast", "0.1.0"),
        # Its README: all of GiftEvalPretrain and LOTSA (cdc_fluview_ilinet is ILI), Chronos' data sets (electricity,
        # traffic, exchange_rate) and fev's (ETT, jena_weather, epf_fr, epf_be).
        pretrained_on=("ETTm1", "ETTm2", "ETTh1", "ETTh2", "Weather", "ECL", "Traffic", "Exchange", "ILI", "EPF"),
    ),
    "chronos_bolt": Registered(
        "Chronos-Bolt", "models.chronos_bolt:ChronosBolt", options.NoOptions, "arXiv 2403.07815, size small",
        ZERO_SHOT, trains=False,
        weights=forecaster_files.CHRONOS_BOLT, package=Package("chronos-forecasting", "2.3.2"),
        # The paper's table 3, "pretraining only" and "in-domain" (electricity); its authors say in issue 245 of
        # amazon-science/chronos-forecasting that Chronos-Bolt was trained on the same real data.
        pretrained_on=("ECL",),
    ),
    "timesfm": Registered(
        "TimesFM 2.5", "models.timesfm:TimesFM", options.NoOptions, "arXiv 2310.10688, version 2.5",
        f"{ZERO_SHOT}; no clipping at 0", trains=False,
        weights=forecaster_files.TIMESFM, package=TRANSFORMERS,
        # Its model card: GiftEvalPretrain, which holds traffic_hourly and cdc_fluview_ilinet (ILI).
        pretrained_on=("Traffic", "ILI"),
    ),
}  # fmt: skip
"""Name on the command line and in records -> model."""

LIBRARIES = {
    "nixtla": Library(
        "models.nixtla", Package("neuralforecast", "3.3.0"), "neuralforecast's network, under this project's training",
        needs=(("xLSTM", "xlstm"),),
    ),
    "transformers": Library(
        "models.hugging_face", TRANSFORMERS, "transformers' network, under this project's training",
        suffix="ForPrediction",
    ),
}  # fmt: skip
"""Prefix of names on the command line and in records -> library."""


def package_of(name: str) -> Package | None:
    """Return the package that a model comes from; None for the project's own code and a user's."""
    return MODELS[name].package if name in MODELS else getattr(library_of(name), "package", None)


def library_of(name: str) -> Library | None:
    """Return the library that a model `PREFIX:Class` comes from; None for a registered model or a user's own."""
    return LIBRARIES.get(name.partition(":")[0]) if ":" in name else None


PROPOSED, REFERENCE, QUICK = "logo_llm", "seasonal_naive", "dlinear"
"""The model that the paper proposes; the model that skill is measured against; the model that trains in seconds."""
