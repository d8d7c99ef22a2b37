"""Builders that several test files share: data, specs, records, verdicts and programs. None imports torch."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest

from bench import __main__ as verbs
from bench.analysis.results import Results
from bench.analysis.tables import Table
from bench.analysis.verdicts import Judged, judged, load_claims
from bench.core.base import ROOT
from bench.core.card import DatasetCard, cards
from bench.core.record import Cost, Epoch, Evaluation, Layer, RunResult, Where
from bench.core.schedule import StepPlan
from bench.core.spec import RunSpec, Task, TrainConfig
from bench.plan.suite import Filters, PlannedRun, Suite, entries, load_suite
from bench.report import __main__ as report
from bench.report.render import SUFFIX
from models import MODELS, options
from models.llm_files import BACKBONES
from models.options import Shape

TRAINED = tuple(model for model, entry in MODELS.items() if entry.trains)
BUILT = tuple(model for model, entry in MODELS.items() if not (entry.weights and entry.weights.repo))
"""Models that need no file of a hub."""
LANGUAGE_MODELS = tuple(model for model, entry in MODELS.items() if entry.uses_backbone)
SHAPE = Shape(context=32, horizon=8, channels=3, season=8, about="Three waves")
SMALL_LLM = {"backbone": "gpt2-random", "blocks": 2}
SMALL = {
    "logo_llm": options.LogoLLMOptions(**SMALL_LLM, local_tap=1, global_tap=2, patch=8, stride=4),
    "time_llm_lite": options.TimeLLMOptions(**SMALL_LLM, patch=8, stride=4, width=8, feedforward=16, prototypes=20),
    "calf_lite": options.CALFOptions(**SMALL_LLM, components=10, feedforward=32),
    "gpt4ts": options.GPT4TSOptions(**SMALL_LLM, patch=8, stride=4),
    "patchtst": options.PatchTSTOptions(patch=8, stride=4, width=16, heads=4, layers=2, feedforward=32),
    "itransformer": options.ITransformerOptions(width=16, heads=4, feedforward=32),
    "dlinear": options.DLinearOptions(kernel=5),
    "seasonal_naive": options.NoOptions(),
    "repeat_last": options.NoOptions(),
    "fracast": options.NoOptions(),
    "chronos_bolt": options.NoOptions(),
    "timesfm": options.NoOptions(),
}
"""Model -> options that are small enough to train in a test; every registered model has them."""

assert set(SMALL) == set(MODELS)


def waves(rows: int, channels: int, seed: int = 0) -> np.ndarray:
    """Return sines of period 8 with a slow trend and noise, [rows, channels]."""
    noise = np.random.default_rng(seed).normal(size=(rows, channels))
    time = np.arange(rows)[:, None]
    return np.sin(time * np.pi / 4 + np.arange(channels)) + 0.002 * time + 0.1 * noise


def make_spec(card: DatasetCard, model: str = "dlinear", seed: int = 1, **train: object) -> RunSpec:
    """Return a small run of a registered model on a generated card; `train` overrides fields of its TrainConfig."""
    settings = {"epochs": 2, "batch": 16, "lr": 1e-3, **train}
    return RunSpec(
        task=Task(dataset=card.name, context=card.context, horizon=card.horizons[0], cards={card.name: card.digest}),
        model=model,
        options=dataclasses.asdict(SMALL[model]),
        train=TrainConfig.model_validate(settings),
        seed=seed,
    )


GOLDEN = Path(__file__).parent / "golden"
WHERE = Where(
    date="2026-01-01T00:00:00+00:00",
    git=None,
    dirty=None,
    versions={"python": "3.12.0", "torch": "2.10.0", "transformers": "5.0.0", "numpy": "2.4.0"},
    device="Test CPU",
    threads=1,
    data_sha256={},
    backbone_sha256=None,
)
ERRORS = {"logo_llm": 0.30, "patchtst": 0.31, "itransformer": 0.30, "repeat_last": 0.90}
MORE_ERRORS = ERRORS | {
    "time_llm_lite": 0.35,
    "calf_lite": 0.40,
    "gpt4ts": 0.37,
    "dlinear": 0.45,
    "seasonal_naive": 0.80,
}
MORE_ERRORS |= {"fracast": 0.20, "chronos_bolt": 0.20, "timesfm": 0.20}
HARDER = {"ILI": 1.0, "ETTm1": 0.1, "ETTm2": 0.2}  # data set -> what it adds to every error
SEEDS = (2021, 2022)
HOURLY_AND_WEEKLY = {"datasets": ("ETTh1", "ILI"), "horizons": (96, 192, 24, 36), "seeds": SEEDS}
EXPERIMENTS = {
    "few_shot": {"models": tuple(ERRORS), **HOURLY_AND_WEEKLY},
    "zero_shot": {"models": tuple(ERRORS), "horizons": (96, 192), "seeds": SEEDS},
    "ablation": HOURLY_AND_WEEKLY,
    "taps": {"datasets": ("ETTh1", "ILI"), "seeds": SEEDS},
    "layers": {"datasets": ("ETTh1", "ILI"), "seeds": SEEDS},
    "losses": {"models": ("logo_llm", "patchtst", "itransformer"), **HOURLY_AND_WEEKLY},
    "efficiency": {"models": tuple(ERRORS), "seeds": SEEDS},
}
"""Suite -> filters that narrow it to a few runs. Each suite has the name of its table."""


def record(spec: RunSpec, variant: str = "") -> RunResult:
    """Return a finished run whose numbers follow a rule that a reader can check.

    Errors grow with horizon, seed and the share of windows not trained on, and by a thousandth for each letter of the
    variant and its number; each tested data set adds its own amount. From block to block local change falls and slow
    trend rises; a random backbone has half of both. The final norm halves what a probe reads of the last block.
    """
    task, later = spec.task, spec.seed - 2021
    number = sum(map(int, re.findall(r"\b\d+\b", variant)))
    evaluations = []
    for tested in (task.dataset, *task.test_on) if task.probe != "states" else ():
        mse = MORE_ERRORS[spec.model] + task.horizon / 1000 + later / 100
        mse += HARDER.get(tested, 0) + (1 - task.train_fraction) / 10 + (len(variant) + number) / 1000
        windows = cards()[tested].windows("test", task.context, task.horizon)
        evaluations.append(Evaluation(dataset=tested, mse=mse, mae=mse / 2, windows=windows))
    layers = []
    stages = {"untrained": 0.0} | ({"trained": 0.01} if task.probe == "training" else {})
    for stage, gain in stages.items() if task.probe else ():
        last = int(spec.options["blocks"])
        for block, normed in [*((block, False) for block in range(last + 1)), (last, True)]:
            local, trend = 0.9 - block / 50 + gain + later / 100, 0.2 + block / 50 + gain + later / 100
            halves = normed + str(spec.options["backbone"]).endswith("-random")
            local, trend = local / 2**halves, trend / 2**halves
            shares = {"local_share": local / 2, "trend_share": trend / 2, "slow_power": trend / 4}
            layers.append(Layer(block=block, normed=normed, stage=stage, local_r2=local, trend_r2=trend, **shares))
    trains, computes = MODELS[spec.model].trains, MODELS[spec.model].computes
    curve = curve_of(spec, slow=10 + later, fast=5 + later) if trains and task.probe != "states" else ()
    train_s, infer_ms = sum(each.seconds for each in curve), task.horizon / 10 if evaluations else None
    cost = Cost(
        train_s=train_s,
        total_s=train_s + sum(each.windows for each in evaluations) * (infer_ms or 0) / 1000 + 5,
        steps=steps_of(spec, len(curve)),
        samples_per_s=1e6 if curve else None,
        infer_ms=infer_ms,
        peak_mb=1000 + 10 * task.horizon,
        params=1_000_000 * len(spec.model) * computes,
        trainable=10_000 * len(spec.model) * trains,
        flops=1_000_000_000 * task.horizon * computes,
    )
    data = {name: cards()[name].sha256[0] for name in (task.dataset, *task.test_on)}
    weights = BACKBONES[str(spec.options["backbone"])].sha256 if "backbone" in spec.options else None
    own = MODELS[spec.model].weights
    found = {"data_sha256": data, "backbone_sha256": weights, "weights_sha256": own.sha256 if own else None}
    provenance = WHERE.model_copy(update=found)
    return RunResult(
        spec=spec,
        status="done",
        evaluations=tuple(evaluations),
        layers=tuple(layers),
        best_epoch=1 if curve else None,
        curve=curve,
        cost=cost,
        where=provenance,
    )


NO_OUTCOME = {"evaluations": (), "layers": (), "sample": None, "best_epoch": None, "curve": (), "cost": None}


def failure(error: str) -> dict[str, object]:
    """Return what a record of a finished run holds instead if the run failed for this reason."""
    return {"status": "failed", "error": error, **NO_OUTCOME}


def plan_of(spec: RunSpec) -> StepPlan:
    """Return the steps of a run."""
    task = spec.task
    windows = cards()[task.dataset].windows("train", task.context, task.horizon, task.train_fraction)
    return _plan_once(spec.train, windows, spec.code is not None)


@cache
def _plan_once(train: TrainConfig, windows: int, joins_single: bool) -> StepPlan:
    """Return the plan that many records share; it counts its batches once."""
    return StepPlan(train, windows, joins_single)


def steps_of(spec: RunSpec, epochs: int) -> int:
    """Return the number of steps in this many epochs of a run."""
    plan = plan_of(spec)
    return min(epochs * plan.per_epoch, plan.total)


def curve_of(spec: RunSpec, slow: float = 1, fast: float = 1) -> tuple[Epoch, ...]:
    """Return the curve of a run whose losses are all 1; its first epoch takes `slow` seconds, the others `fast`."""
    return _curve_once(plan_of(spec), slow, fast)


@cache
def _curve_once(plan: StepPlan, slow: float, fast: float) -> tuple[Epoch, ...]:
    ends = [min(epoch * plan.per_epoch, plan.total) for epoch in range(1, (plan.ends_after([1.0] * 1000) or 0) + 1)]
    return tuple(
        Epoch(epoch=i, train_loss=1, val_loss=1, lr=plan.lr(end - 1), seconds=fast if i > 1 else slow)
        for i, end in enumerate(ends, 1)
    )


def planned(*, holes: bool) -> Results:
    """Return four models on two data sets, all horizons, two seeds; with holes, one run is missing and one failed."""
    filters = Filters(models=tuple(ERRORS), datasets=("ETTh1", "ILI"), seeds=(2021, 2022), backbone="smollm2-135m")
    runs: list[tuple[PlannedRun, RunResult | None]] = [
        (entry, record(entry.spec)) for entry in entries(load_suite("paper"), filters)
    ]
    if holes:
        for i, (entry, result) in enumerate(runs):
            if entry.label == "patchtst ILI h24 s2022":
                runs[i] = (entry, None)
            if entry.label == "logo_llm ILI h60 s2021" and result:
                runs[i] = (entry, result.model_copy(update=failure("RuntimeError: 100% out of memory_")))
    return Results(runs)


@lru_cache
def experiment(name: str) -> Results:
    """Return the narrowed suite with every run recorded."""
    filters = Filters(backbone="smollm2-135m", **EXPERIMENTS[name])
    return Results([(entry, record(*entry)) for entry in entries(load_suite(name), filters)])


def body(text: str, form: str) -> str:
    """Return the table alone, without its caption, legend and footnotes."""
    if form == "json":
        return json.dumps({key: value for key, value in json.loads(text).items() if key not in ("caption", "notes")})
    if form == "latex":
        return "\n".join(line for line in text.splitlines() if not line.startswith((r"\caption", r"{\footnotesize")))
    return text if form == "csv" else text.split("\n\n")[1]


def equals_golden(name: str, text: str, form: str) -> None:
    """Compare the body of a table with its golden file; write the file, and fail, where there is none."""
    path = GOLDEN / f"{name}.{SUFFIX[form]}"
    text = body(text, form).rstrip("\n") + "\n"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"wrote {path}; look at it and commit it")
    assert text == path.read_text(encoding="utf-8")


def complete(table: Table) -> bool:
    """Say whether every cell of the table has its runs."""
    return all(cell.note is None for _, cells in table.rows for cell in cells)


def cells(table: Table) -> dict[str, list[float | None]]:
    """Return row label -> values, of the rows and of the summary."""
    return {label: [cell.value for cell in cells] for label, cells in table.rows + table.summary}


HERE = WHERE.model_copy(update={"device": "a machine", "sharing": 3})


def done(spec: RunSpec, card: DatasetCard) -> RunResult:
    """Return the finished record of a run on a generated card; all errors are 1."""
    provenance = HERE.model_copy(update={"data_sha256": {card.name: card.sha256[0]}})
    windows = card.windows("test", spec.task.context, spec.task.horizon)
    errors = (Evaluation(dataset=card.name, mse=1.0, mae=1.0, windows=windows),)
    trains = spec.model not in MODELS or MODELS[spec.model].trains
    curve, size = curve_of(spec) if trains else (), 1 if trains else 0
    cost = Cost(
        train_s=len(curve),
        total_s=len(curve) + 1 + windows / 1000,
        steps=steps_of(spec, len(curve)),
        samples_per_s=1e6 if trains else None,
        infer_ms=1,
        peak_mb=None,
        params=size,
        trainable=size,
        flops=size,
    )
    best = 1 if trains else None
    return RunResult(
        spec=spec, status="done", evaluations=errors, best_epoch=best, curve=curve, cost=cost, where=provenance
    )


PAPER, CLAIMS = load_claims()
BY_ID = {claim.id: claim for claim in CLAIMS}
FIVE = ("logo_llm", "time_llm_lite", "calf_lite", "patchtst", "itransformer", "dlinear")
Build = Callable[[PlannedRun], RunResult | None]


def recorded(entry: PlannedRun) -> RunResult:
    """Return the record of a planned run of any model: Logo-LLM's numbers under its spec."""
    result = record(entry.spec.model_copy(update={"model": "logo_llm"}), entry.variant)
    return result.model_copy(update={"spec": entry.spec})


def verdict(name: str, build: Build, **filters: object) -> Judged:
    """Judge one claim on the records that `build` returns for the planned runs (None: run missing)."""

    def read(suite: Suite, narrowed: Filters) -> Results:
        return Results([(entry, build(entry)) for entry in entries(suite, narrowed)])

    claim = BY_ID[name]
    compared = {"models": (claim.model, *claim.others)}
    (row,) = judged([claim], PAPER, Filters(**compared | filters), read)
    return row


def with_errors(rule: Callable[[PlannedRun], float], compared: tuple[str, ...] = ()) -> Build:
    """Record the compared models (default: all) with the error of this rule, MSE and MAE alike."""

    def build(entry: PlannedRun) -> RunResult | None:
        if compared and entry.spec.model not in compared:
            return None
        result = recorded(entry)
        error = rule(entry)
        same = tuple(each.model_copy(update={"mse": error, "mae": error}) for each in result.evaluations)
        return result.model_copy(update={"evaluations": same})

    return build


def logo(other: float, ours: Callable[[PlannedRun], float]) -> Build:
    """Record every model with the error `other`, and Logo-LLM with its own rule."""
    return with_errors(lambda entry: ours(entry) if entry.spec.model == "logo_llm" else other, FIVE)


def fails_on(*labels: str) -> Build:
    """Record Logo-LLM as best everywhere; runs fail whose labels start with one of `labels`."""

    def build(entry: PlannedRun) -> RunResult | None:
        result = logo(1.0, lambda entry: 0.9)(entry)
        if result and entry.label.startswith(labels):
            return result.model_copy(update=failure("OutOfMemory: " + 90 * "x "))
        return result

    return build


def three() -> list[Judged]:
    """Judge three claims: one does not hold, one holds in part, one is not tested."""
    build = fails_on("calf_lite", "time_llm_lite ETTh1 h96 s2021")
    return [verdict(name, build) for name in ("behind_itransformer", "below_time_llm", "below_calf")]


def python(*words: object, env: dict[str, str] | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in a process of its own, in a clean environment changed by `env`."""
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command, env=environment(env), cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def environment(changes: dict[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without settings or data of the bench; one thread, project importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BENCH_", "HF_HUB_"))}
    kept |= {"BENCH_DATA": str(ROOT / "no data here"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return kept | (changes or {})


def in_process(*words: object) -> int:
    """Run `python -m bench` in this process, or `bench.report` if `report` comes first; return the exit code."""
    first, *rest = map(str, words)
    return report.main(rest) if first == "report" else verbs.main([first, *rest])


def command_in(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Do `in_process` as if the program were started in this folder; return its exit code and what it printed."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    sys.path.insert(0, str(folder))
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = in_process(*words)
    finally:
        sys.path.remove(str(folder))
    return subprocess.CompletedProcess(words, code, *(each.buffer.getvalue().decode() for each in (out, err)))
