"""Try a model in seconds: one outcome for each thing that the harness, or whoever reads its numbers, relies on.

`checks` builds small instances of a model and runs them on random walks; it needs no data, reads no weights and knows
no registry, so that any forecaster of the interface `(shape, options)` can be tried. It runs the model in this process.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.parameter import is_lazy

from bench.core.base import BenchError, Option
from bench.core.card import cards
from bench.core.spec import RunSpec, TrainConfig
from bench.core.text import first_few
from bench.plan import registry
from bench.plan.own_code import raised_at, trace_of, watched
from bench.train.device import peak_mb, pick_device, random_state, reset_peak, seed_everything
from bench.train.evaluate import autocast, forecast_of
from bench.train.loop import store_frozen
from bench.train.step import Stepper
from bench.train.windows import Windows
from models.llm_files import BackboneError, find
from models.options import Shape

BATCH, STEPS, LR = 8, 6, 1e-3
"""Windows of a batch, steps of Adam on one batch, and their learning rate."""
EQUAL, CLOSE, ROUGH = 1e-6, 1e-4, 0.25
"""Largest difference, as a share of the largest forecast, of equal computations, of batches of another size (other
kernels round otherwise), and of bf16 from float32."""
FEWEST, MOST = 2, 3
"""Channels of the shape that is tried."""
LARGE = 1e3
"""Standard deviations of a large value."""
Make = Callable[[Shape], nn.Module]


class Outcome(NamedTuple):
    """How one check ended: as `expected`, or with what was `found` instead, or not at all, for the reason `skipped`."""

    check: str
    expected: str
    note: str = ""
    """Measured beside it, and not judged."""
    found: str = ""
    remedy: str = ""
    skipped: str = ""
    trace: str = ""
    """The traceback of what the model raised."""

    @property
    def passed(self) -> bool:
        """Whether no fault was found."""
        return not self.found

    def __str__(self) -> str:
        """Return one line for people."""
        if self.found:
            line = f"fault  {self.check:<15} expected {self.expected}; found {self.found}. Do: {self.remedy}"
        elif self.skipped:
            line = f"-      {self.check:<15} not checked: {self.skipped}"
        else:
            line = f"ok     {self.check:<15} {self.expected}" + f" ({self.note})" * bool(self.note)
        return " ".join(line.split("\n"))


class Check(NamedTuple):
    """One check: what is expected, what to do where it is not so, and the checks that must have passed before."""

    name: str
    expected: str
    remedy: str
    needs: tuple[str, ...]
    run: Callable[[_Trial], str | None]
    """Returns a note, if anything was measured; raises Fault, Skipped or whatever the model raises."""


class Fault(Exception):
    """What was found instead of what a check expects."""


class Skipped(Exception):
    """Why a check says nothing of this model."""


def checked(spec: RunSpec, given: dict[str, Option], device: str) -> Iterator[Outcome]:
    """Yield the outcomes of a run's model and options, changed by those `given`, in the shape of its task.

    A language model has random weights: nothing that is checked depends on them. Raises BenchError for a model that
    cannot be imported, an option that it does not have, and a user's file that planning does not find.
    """
    options = registry.resolve_options(spec.model, spec.options | given, "--option")
    if backbone := options.get("backbone"):
        options["backbone"] = f"{find(str(backbone)).shape}-random"
    with watched(spec.model, spec.code):
        model_class = registry.load(spec.model)
        kept = registry.make_options(spec.model, model_class, options)
        shape = cards()[spec.task.dataset].shape(spec.task.context, spec.task.horizon)
        shape = replace(shape, channels=min(max(shape.channels, FEWEST), MOST))
        yield from checks(lambda each: model_class(each, kept), shape, pick_device(device))


def checks(make: Make, shape: Shape, device: torch.device = torch.device("cpu")) -> Iterator[Outcome]:  # noqa: B008
    """Yield the outcome of each check of `CHECKS`, in their order, of the models that `make` builds for a shape.

    `make(shape)` must be able to build for any shape. `shape` is the first one; it should have two channels or more. A
    check whose prerequisite has failed is skipped, so that one fault is one line. Whatever the model raises is the
    outcome of the check in which it was raised. Python's warnings are silent.
    """
    trial = _Trial(make, shape, device)
    failed: set[str] = set()
    for check in CHECKS:
        if missing := [name for name in check.needs if name in failed]:
            outcome = Outcome(check.name, check.expected, skipped=f"needs {missing[0]!r}")
        else:
            outcome = _outcome(check, trial)
        if outcome.found or missing:
            failed.add(check.name)
        yield outcome


def _outcome(check: Check, trial: _Trial) -> Outcome:
    """Run one check, and undo what the model set for the whole process meanwhile."""
    trace, remedy = "", check.remedy
    try:
        with warnings.catch_warnings(action="ignore"), _settings_restored():
            return Outcome(check.name, check.expected, check.run(trial) or "")
    except BackboneError:  # weights that are not here are no fault of the model
        raise
    except Skipped as reason:
        return Outcome(check.name, check.expected, skipped=str(reason))
    except Fault as fault:
        found = str(fault)
    except (Exception, SystemExit, GeneratorExit) as error:  # KeyboardInterrupt is the user's
        text, kind = " ".join(str(error).split()).rstrip(".") or "no message", ""
        if not isinstance(error, BenchError):  # that is what the harness says, and the check's remedy fits it
            kind, remedy = f"{type(error).__name__}: ", "mend what raises it; --debug shows where"
        found, trace = f"{kind}{text[:300]}{raised_at(error)}", trace_of(error)
    return Outcome(check.name, check.expected, found=found, remedy=remedy, trace=trace)


class _Training(NamedTuple):
    """What some steps on one batch have done to a model."""

    model: nn.Module
    born: dict[str, Tensor]
    """Its parameters and buffers before."""
    losses: list[float]
    scores: tuple[float, float]
    """Mean squared error of the batch in eval mode, before and after."""
    reached: dict[str, bool | None]
    """Trainable parameter -> whether a step gave it a gradient other than zero; None: it had none at all."""
    broken: list[str]
    """Parameters with a gradient that is not finite."""
    seconds: float
    """Of the fastest step."""
    peak: float | None
    """MiB that steps took beyond what was there before; None if unknown."""


class _Trial:
    """A model under trial: how it is built, and a batch of random walks `[batch, context, channels]`."""

    def __init__(self, make: Make, shape: Shape, device: torch.device) -> None:
        self.make, self.shape, self.device = make, shape, device
        self.windows, self.index = _windows(shape, device)
        self.x = self.windows.contexts(self.index)

    def build(self, shape: Shape | None = None, seed: int = 1) -> nn.Module:
        """Return a new instance whose weights are drawn from this seed."""
        seed_everything(seed)
        return self.make(shape or self.shape).to(self.device)

    @cached_property
    def fresh(self) -> nn.Module:
        """An untrained instance in eval mode; `born` is its state, and `drawn` that of the generators, when it was."""
        model = self.build()
        if later := [name for name, each in model.named_parameters() if is_lazy(each)]:
            raise Fault(f"parameters without a size: {first_few(later)}")
        self.drawn = random_state(self.device)
        self.born = _state(model)
        return model.eval()

    @cached_property
    def training(self) -> _Training:
        """What `STEPS` steps have done to another instance. Raises Skipped if nothing trains."""
        return _trained(self)

    @property
    def settled(self) -> nn.Module:
        """The trained instance (a head that starts at zero hides what is before it), or the untrained one."""
        with suppress(Exception):  # said by its own check
            if not self.training.broken:
                return self.training.model.eval()
        return self.fresh

    @torch.inference_mode()
    def forecast(self, model: nn.Module, x: Tensor, horizon: int = 0, precision: str = "float32") -> Tensor:
        """Return the forecast of a copy of `x`, in the way of the harness's evaluation. Raises BenchError for one of
        another kind or shape, and Fault for one that is not finite."""
        with autocast(self.device, precision):
            forecast = _called(model, x.clone(), horizon or self.shape.horizon).float()
        if not forecast.isfinite().all():
            raise Fault(f"a forecast of which {forecast.isfinite().logical_not().float().mean():.0%} are not finite")
        return forecast


def _windows(shape: Shape, device: torch.device) -> tuple[Windows, Tensor]:
    """Return random walks cut into windows, and the places of `BATCH` of these that share no row."""
    length = shape.context + shape.horizon
    numbers = np.random.default_rng(1).normal(size=(BATCH, length, shape.channels)).cumsum(1)
    scaled = (numbers - numbers.mean()) / numbers.std()
    series = torch.from_numpy(scaled.reshape(-1, shape.channels)).float().to(device)
    calendar = torch.linspace(-0.5, 0.5, 4, device=device).expand(len(series), 4)
    windows = Windows(series, 0, len(series) - length + 1, shape.context, shape.horizon, calendar)
    return windows, torch.arange(BATCH, device=device) * length


def _called(model: nn.Module, x: Tensor, horizon: int) -> Tensor:
    """Return the model's forecast of `x`, which it may change; one that reads the calendar gets the same for all."""
    reads = getattr(model, "reads_calendar", False)
    stamps = torch.linspace(-0.5, 0.5, 4, device=x.device).expand(len(x), x.shape[1], 4) if reads else None
    return forecast_of(model, x, stamps, horizon)


def _trained(
    trial: _Trial, windows: Windows | None = None, steps: int = STEPS, precision: str = "float32"
) -> _Training:
    """Train a new instance on one batch, by the harness's own steps. Raises Skipped if nothing trains."""
    model = trial.build()
    trainable = {name: each for name, each in model.named_parameters() if each.requires_grad}
    if not trainable:
        raise Skipped("nothing trains")
    windows = windows or trial.windows
    born = _state(model)
    store_frozen(model, precision)
    settings = {"epochs": 1, "batch": BATCH, "lr": LR, "precision": precision}
    step = Stepper(model, windows, TrainConfig.model_validate(settings), graphs=False)
    before = _score(trial, model, precision)
    seed_everything(1)
    reached: dict[str, bool | None] = dict.fromkeys(trainable)
    broken: dict[str, None] = {}
    losses, times = [], []
    known = reset_peak(trial.device)
    held = peak_mb(trial.device)
    model.train()
    for _ in range(steps):
        began = time.perf_counter()
        losses.append(step(trial.index, LR).item())
        times.append(time.perf_counter() - began)
        for name, gradient in ((name, each.grad) for name, each in trainable.items() if each.grad is not None):
            reached[name] = bool(reached[name] or gradient.any())
            if not gradient.isfinite().all():
                broken[name] = None
    peak = peak_mb(trial.device) - held if known else None
    return _Training(
        model, born, losses, (before, _score(trial, model, precision)), reached, [*broken], min(times), peak
    )


def _score(trial: _Trial, model: nn.Module, precision: str) -> float:
    """Return the mean squared error of the batch in eval mode; infinity where there is none."""
    try:
        forecast = trial.forecast(model.eval(), trial.x, precision=precision)
        return (forecast - trial.windows.targets(trial.index)).square().mean().item()
    except Fault:
        return math.inf


def _require_near(one: Tensor, other: Tensor, most: float, how: str = "") -> None:
    """Raise Fault if two forecasts differ by more than `most`, as a share of the largest value of the first."""
    if (apart := ((one - other).abs().max() / one.abs().max().clamp(min=1e-6)).item()) > most:
        raise Fault(f"forecasts {apart:.2g} of the largest apart{how}")


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all parameters and buffers."""
    every = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: each.detach().clone() for name, each in every}


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """Return the names of what differs, or is there but once."""
    common = [name for name in before if name in after]
    differing = [name for name in common if not torch.equal(before[name].nan_to_num(), after[name].nan_to_num())]
    return [*differing, *sorted(before.keys() ^ after.keys())]


SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch's default type": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, torch.set_default_device),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "the grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "the precision of products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
}
"""What a model may set for the whole process, and how it is read and set."""


@contextmanager
def _settings_restored() -> Iterator[None]:
    before = {name: read() for name, (read, _) in SETTINGS.items()}
    try:
        yield
    finally:
        for name, (read, put) in SETTINGS.items():
            if read() != before[name]:
                put(before[name])


# The checks


def _constructor(trial: _Trial) -> str:
    model = trial.fresh
    every = sum(each.numel() for each in model.parameters())
    return f"{every:,} parameters, {sum(each.numel() for each in model.parameters() if each.requires_grad):,} trainable"


def _global_state(trial: _Trial) -> None:
    before = {name: read() for name, (read, _) in SETTINGS.items()}
    model = trial.build(seed=2)
    states = {"constructor": [trial.drawn, random_state(trial.device)], "forward": []}
    for seed in (1, 2):
        seed_everything(seed)
        with suppress(Exception):  # said by its own check
            _called(model.train(), trial.x.clone(), trial.shape.horizon)
        states["forward"].append(random_state(trial.device))
    if set_ := [name for name, (read, _) in SETTINGS.items() if read() != before[name]]:
        raise Fault(f"that it sets {first_few(set_)}")
    for where, (one, other) in states.items():
        equal = [name for name in one[0] if one[0][name] == other[0][name]]
        if equal := [*equal, *["torch"] * torch.equal(one[1]["random"], other[1]["random"])]:
            raise Fault(f"that its {where} seeds the generator of {first_few(equal)}")


def _forecast(trial: _Trial) -> str:
    trial.forecast(trial.fresh, trial.x)
    began = time.perf_counter()
    trial.forecast(trial.fresh, trial.x)
    return f"{1000 * (time.perf_counter() - began):.1f} ms for {BATCH} windows"


def _batch_of_one(trial: _Trial) -> None:
    trial.forecast(trial.fresh, trial.x[:1])


def _in_shape(trial: _Trial, shape: Shape) -> None:
    windows, index = _windows(shape, trial.device)
    trial.forecast(trial.build(shape).eval(), windows.contexts(index), shape.horizon)


def _one_channel(trial: _Trial) -> None:
    _in_shape(trial, replace(trial.shape, channels=1))


def _another_shape(trial: _Trial) -> None:
    context, horizon = (36, 60) if trial.shape.context != 36 else (96, 24)  # a horizon may be the longer of both
    _in_shape(trial, replace(trial.shape, context=context, horizon=horizon))


def _input(trial: _Trial) -> None:
    for mode, model in (("eval", trial.fresh), ("train", trial.settled)):
        given = trial.x.clone()
        _called(model.train(mode == "train"), given, trial.shape.horizon)
        if not torch.equal(given, trial.x):
            raise Fault(f"that forward in {mode} mode writes into it")
    trial.fresh.eval()


def _weights_in_eval(trial: _Trial) -> None:
    trial.forecast(trial.fresh, trial.x)
    if found := _changed(trial.born, _state(trial.fresh)):
        raise Fault(f"that a forecast changes {first_few(found)}")


def _memory(trial: _Trial) -> None:
    model, found = trial.settled, []
    for _ in range(2):
        seed_everything(1)
        found.append(trial.forecast(model, trial.x))
        seed_everything(1)
        found.append(trial.forecast(model, trial.x))
        trial.forecast(model, 3 * trial.x.flip(0, 1) - 1)
    for each in found[1:]:
        _require_near(found[0], each, EQUAL, ", under one seed")


def _randomness(trial: _Trial) -> None:
    found = []
    for seed in (1, 2):
        seed_everything(seed)
        found.append(trial.forecast(trial.settled, trial.x))
    _require_near(found[0], found[1], EQUAL, ", under two seeds")


def _other_windows(trial: _Trial) -> None:
    model, x, half = trial.settled, trial.x, BATCH // 2
    whole = trial.forecast(model, x)
    ways = {
        "in reverse order": trial.forecast(model, x.flip(0)).flip(0),
        "in two batches": torch.cat([trial.forecast(model, part) for part in x.split(half)]),
        "beside larger windows": trial.forecast(model, torch.cat([x[:half], 5 * x[half:] + 1]))[:half],
    }
    for way, found in ways.items():
        _require_near(whole[: len(found)], found, CLOSE, f" {way}")


def _look_back(trial: _Trial) -> None:
    model, x = trial.settled, trial.x
    whole = trial.forecast(model, x)
    still = (trial.forecast(model, x.flip(0, 1) + 1) == whole).all(dim=1).all(dim=0)
    if still.any():
        raise Fault(f"{int(still.sum())} of {len(still)} channels with one forecast for all look-backs")
    newest = x.clone()
    newest[:, -1] += 1
    if torch.equal(trial.forecast(model, newest), whole):
        raise Fault("that the newest row of the look-back changes nothing")


def _constant_window(trial: _Trial) -> None:
    series = trial.windows.series.clone()
    length = trial.shape.context + trial.shape.horizon
    series[:length], series[length : 2 * length] = 0, 0.7
    windows = replace(trial.windows, series=series)
    trial.forecast(trial.fresh, windows.contexts(trial.index))
    with suppress(Skipped):
        if broken := _trained(trial, windows, steps=1).broken:
            raise Fault(f"gradients that are not finite, of {first_few(broken)}")


def _large_values(trial: _Trial) -> None:
    trial.forecast(trial.fresh, LARGE * trial.x)


def _training_step(trial: _Trial) -> str:
    done = trial.training
    if done.broken:
        raise Fault(f"gradients that are not finite, of {first_few(done.broken)}")
    if not math.isfinite(sum(done.losses)):
        raise Fault(f"losses of {', '.join(f'{loss:.4g}' for loss in done.losses)}")
    memory = "" if done.peak is None else f", {done.peak:.0f} MiB above what was there"
    return f"{1000 * done.seconds:.1f} ms for {BATCH} windows{memory}"


def _gradients(trial: _Trial) -> None:
    reached = trial.training.reached
    if unused := [name for name, each in reached.items() if each is None]:
        raise Fault(f"none for {first_few(unused)}")
    if dead := [name for name, each in reached.items() if not each]:
        raise Fault(f"only zeros for {first_few(dead)}")


def _loss(trial: _Trial) -> None:
    done = trial.training
    (first, *_, last), (before, after) = done.losses, done.scores
    if last >= first and after >= before:
        raise Fault(f"a loss from {first:.4g} to {last:.4g}, and an error from {before:.4g} to {after:.4g}")


def _seed(trial: _Trial) -> None:
    again = _trained(trial, steps=2)
    if found := _changed(trial.training.born, again.born):
        raise Fault(f"two instances that differ in {first_few(found)}")
    if not np.allclose(trial.training.losses[:2], again.losses, rtol=EQUAL, atol=0):
        raise Fault("two trainings with other losses")


def _bf16(trial: _Trial) -> None:
    rounded = trial.forecast(trial.fresh, trial.x, precision="bf16")
    _require_near(trial.forecast(trial.fresh, trial.x), rounded, ROUGH, " from those in float32")
    with suppress(Skipped):
        done = _trained(trial, steps=1, precision="bf16")
        if not math.isfinite(done.losses[0]) or done.broken:
            raise Fault(f"a loss of {done.losses[0]:.4g}, and {len(done.broken)} gradients that are not finite")


def _save_and_load(trial: _Trial) -> None:
    again = trial.build().eval()
    again.load_state_dict(trial.settled.state_dict())
    _require_near(trial.forecast(trial.settled, trial.x), trial.forecast(again, trial.x), EQUAL)


def _device(trial: _Trial) -> str:
    """Without a GPU, parameters, buffers and input lie on torch's device `meta`, which no other tensor may meet."""
    if trial.device.type != "cpu":
        return f"run on {trial.device}"
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def moved(tensor: Tensor) -> Tensor:
        return FakeTensor(mode, tensor.detach().to("meta"), torch.device("meta"))

    every = [*trial.fresh.named_parameters(), *trial.fresh.named_buffers()]
    model = _Moved(trial.fresh, {name: moved(each) for name, each in every})
    try:
        with mode, torch.no_grad():
            forecast = _called(model, moved(trial.x), trial.shape.horizon)
    except Exception as error:
        if re.search(r"two (different )?devices", str(error)):
            raise Fault(f"one of the CPU in an operation with others{raised_at(error)}") from None
        raise Skipped(f"cannot be told without a GPU ({type(error).__name__})") from None
    if forecast.device.type != "meta":
        raise Fault(f"a forecast on the {forecast.device.type}")
    return "tried on tensors without values"


class _Moved(nn.Module):
    """A model called with other tensors in the place of its parameters and buffers."""

    def __init__(self, model: nn.Module, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.reads_calendar = getattr(model, "reads_calendar", False)
        self.call = lambda *inputs: torch.func.functional_call(model, tensors, inputs)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(*inputs)


CHECKS = (
    Check(
        "constructor", "Class(shape, options) to build a torch module, all its parameters with it",
        "take (self, shape, options), and make every layer there", (), _constructor,
    ),
    Check(
        "global state", "nothing set or seeded for the whole process",
        "leave seeds and torch's settings to the harness", ("constructor",), _global_state,
    ),
    Check(
        "forecast", "a finite real tensor [batch, horizon, channels]",
        "return that from forward(x), x [batch, context, channels]", ("constructor",), _forecast,
    ),
    Check(
        "weights in eval", "a forecast in eval mode to change no parameter and no buffer",
        "write buffers only if self.training, and make none in forward", ("forecast",), _weights_in_eval,
    ),
    Check(
        "batch of one", "a forecast for a single window",
        "keep the batch's dimension: name the dimension in .squeeze(dim)", ("forecast",), _batch_of_one,
    ),
    Check(
        "one channel", "an instance for one channel to forecast",
        "read shape.channels, and keep the dimension", ("forecast",), _one_channel,
    ),
    Check(
        "another shape", "an instance for another look-back and horizon to forecast",
        "read shape.context and shape.horizon in the constructor", ("forecast",), _another_shape,
    ),
    Check(
        "input", "forward to leave its input unchanged",
        "use no operation in place (x -= y, x[...] = y, x.sub_) on it: take a copy", ("forecast",), _input,
    ),
    Check(
        "training step", "a finite loss and finite gradients",
        "compute the forecast with torch from the parameters, without .detach(), numpy or no_grad; keep roots and"
        " quotients off zero", ("forecast",), _training_step,
    ),
    Check(
        "gradients", "a gradient for every trainable parameter",
        "use it in forward, delete it, or set its requires_grad to False", ("training step",), _gradients,
    ),
    Check(
        "loss", f"the loss of one batch to fall in {STEPS} steps of Adam",
        "look for a wrong sign, or a part that is detached", ("training step",), _loss,
    ),
    Check(
        "seed", "equal weights and equal losses under one seed",
        "draw from torch's, numpy's or Python's global generator alone", ("training step",), _seed,
    ),
    Check(
        "memory", "the forecast of a window not to depend on earlier calls",
        "keep nothing between calls; draw from torch's global generator alone", ("weights in eval",), _memory,
    ),
    Check(
        "randomness", "the forecast in eval mode to be the same twice",
        "pass training=self.training to functional dropout, and draw nothing in eval mode", ("memory",), _randomness,
    ),
    Check(
        "other windows", "the forecast of a window not to depend on the others of its batch",
        "take no mean or maximum over dimension 0", ("randomness",), _other_windows,
    ),
    Check(
        "look-back", "the forecast of every channel to depend on the look-back, and on its newest row",
        "look at what forward reads, as the last patch", ("randomness",), _look_back,
    ),
    Check(
        "constant window", "finite forecasts and gradients for a channel that does not move",
        "add a small number below the root or in the denominator", ("training step",), _constant_window,
    ),
    Check(
        "large values", f"a finite forecast for values of {LARGE:g} standard deviations",
        "bound what goes into exp, or normalise each window", ("forecast",), _large_values,
    ),
    Check(
        "bf16", "forecasts in bf16 near those in float32, and a step",
        'cast where types meet (y.to(x.dtype)), or keep precision = "float32"', ("training step", "randomness"), _bf16,
    ),
    Check(
        "save and load", "the trained weights, loaded into a new instance, to give the same forecast",
        "keep all that training changes in parameters or buffers", ("training step", "randomness"), _save_and_load,
    ),
    Check(
        "device", "all tensors on the device of the input",
        "register it as a buffer, or make it with device=x.device", ("forecast",), _device,
    ),
)  # fmt: skip
"""Every check, in the order in which they run."""
