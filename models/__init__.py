"""The forecasters, by name. Importing this loads no torch; `bench.registry` resolves the strings when a run starts."""

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

    @property
    def uses_backbone(self) -> bool:
        return any(field.name == "backbone" for field in fields(self.options))


MODELS = {
    "logo_llm": Entry("Logo-LLM", "models.logo_llm:LogoLLM", options.LogoLLMOptions, "arXiv 2505.11017"),
    "time_llm_lite": Entry("Time-LLM-lite", "models.time_llm:TimeLLMLite", options.TimeLLMOptions, "arXiv 2310.01728"),
    "calf_lite": Entry("CALF-lite", "models.calf:CALFLite", options.CALFOptions, "arXiv 2403.07300"),
    "patchtst": Entry("PatchTST", "models.patchtst:PatchTST", options.PatchTSTOptions, "arXiv 2211.14730"),
    "itransformer": Entry(
        "iTransformer", "models.itransformer:ITransformer", options.ITransformerOptions, "arXiv 2310.06625"
    ),
    "dlinear": Entry("DLinear", "models.baselines:DLinear", options.DLinearOptions, "arXiv 2205.13504"),
    "seasonal_naive": Entry("Seasonal naive", "models.baselines:SeasonalNaive", options.NoOptions, "the last season"),
    "repeat_last": Entry("Repeat last", "models.baselines:RepeatLast", options.NoOptions, "the last value"),
}
