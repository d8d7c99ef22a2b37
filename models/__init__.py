"""The forecasters, by name. No torch is loaded; `bench.plan.registry` resolves the strings when a run starts."""

from __future__ import annotations

from dataclasses import dataclass, fields

from models import options


@dataclass(frozen=True)
class Entry:
    """A registered model: how tables call it, where its class is, what can be chosen, and what it follows."""

    title: str
    target: str
    options: type
    follows: str
    differs: str
    """Stated differences from that; the README has them too."""

    @property
    def uses_backbone(self) -> bool:
        return any(field.name == "backbone" for field in fields(self.options))


MODELS = {
    "logo_llm": Entry(
        "Logo-LLM",
        "models.logo_llm:LogoLLM",
        options.LogoLLMOptions,
        "arXiv 2505.11017 and its code",
        "both taps are options; evaluation in eval mode throughout; bf16",
    ),
    "time_llm_lite": Entry(
        "Time-LLM-lite",
        "models.time_llm:TimeLLMLite",
        options.TimeLLMOptions,
        "arXiv 2310.01728",
        "a small language model; prompt fixed per data set; prototypes in a reduced basis",
    ),
    "calf_lite": Entry(
        "CALF-lite",
        "models.calf:CALFLite",
        options.CALFOptions,
        "arXiv 2403.07300",
        "one learning rate for all parts; best epoch by its loss, not by MSE; bf16",
    ),
    "patchtst": Entry(
        "PatchTST",
        "models.patchtst:PatchTST",
        options.PatchTSTOptions,
        "arXiv 2211.14730",
        "look-back as in the table, not 336; no slow first epoch",
    ),
    "itransformer": Entry(
        "iTransformer",
        "models.itransformer:ITransformer",
        options.ITransformerOptions,
        "arXiv 2310.06625",
        "none known; it alone reads calendar features, as its official runs do",
    ),
    "dlinear": Entry(
        "DLinear",
        "models.baselines:DLinear",
        options.DLinearOptions,
        "arXiv 2205.13504",
        "look-back as in the table, not 336",
    ),
    "seasonal_naive": Entry(
        "Seasonal naive",
        "models.baselines:SeasonalNaive",
        options.NoOptions,
        "the last season",
        "the last value where a season does not fit the look-back",
    ),
    "repeat_last": Entry("Repeat last", "models.baselines:RepeatLast", options.NoOptions, "the last value", ""),
}
