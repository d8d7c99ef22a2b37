"""This is training as peers write it: Dataset, DataLoader, the loss read at each step; float32, or bf16 by autocast.

`bench perf` measures our loop against it, and a test holds both equal. Use it under `models.kernels.plain()`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.core.schedule import StepPlan
from bench.core.spec import TrainConfig
from bench.grid.process import START
from bench.train.evaluate import autocast
from bench.train.step import LOSSES, Criterion
from bench.train.windows import Windows
from models.llm_blocks import tokenize, word_embeddings
from models.options import Shape, TimeLLMOptions
from models.time_llm import TimeLLMLite, prompt_of

PlainWindow = tuple[Tensor, Tensor, Tensor]
"""Look-back [context, channels], target [horizon, channels], calendar features of the look-back [context, 4]."""


class WindowDataset(Dataset[PlainWindow]):
    """A data set that cuts one window at a time on the CPU; calendar features are zeros where there are none."""

    def __init__(self, windows: Windows) -> None:
        series = windows.series.cpu()
        calendar = torch.zeros(len(series), 4) if windows.calendar is None else windows.calendar.cpu()
        self.windows = replace(windows, series=series, calendar=calendar)  # a worker is given nothing of a GPU's

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, position: int) -> PlainWindow:
        windows, first = self.windows, self.windows.first + position
        last = first + windows.context
        assert windows.calendar is not None
        return windows.series[first:last], windows.series[last : last + windows.horizon], windows.calendar[first:last]


class PlainTimeLLM(TimeLLMLite):
    """Time-LLM-lite that reads the prompt before every series anew, as the official code does."""

    def __init__(self, shape: Shape, options: TimeLLMOptions) -> None:
        super().__init__(shape, options)
        ids = torch.tensor(tokenize(options.backbone, prompt_of(shape)))
        self.register_buffer("prompt", word_embeddings(options.backbone)[ids], persistent=False)

    def behind_prompt(self, tokens: Float[Tensor, "s n d"]) -> Float[Tensor, "s n d"]:
        prompt = self.get_buffer("prompt").expand(len(tokens), -1, -1)
        return self.blocks(torch.cat([prompt, tokens], dim=1))[-1][:, prompt.shape[1] :]


PLAIN: dict[type, type[nn.Module]] = {TimeLLMLite: PlainTimeLLM}
"""Class of a model -> its class as peers write it; other models are the same in both loops."""


def train_plainly(
    model: nn.Module, train: Windows, config: TrainConfig, order: Sequence[int], workers: int
) -> Iterator[float]:
    """Train for one pass over the windows in `order`; yield the loss of every step after the step."""
    device = train.series.device
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=config.lr)
    plan = StepPlan(config, len(train))
    model.train()
    for step, batch in enumerate(batches_of(WindowDataset(train), config.batch, workers, order)):
        for group in optimizer.param_groups:
            group["lr"] = plan.lr(step)
        optimizer.zero_grad()
        with autocast(device, config.precision):
            loss = _loss(model, batch, device, LOSSES[config.loss])
        value = loss.item()
        loss.backward()
        if config.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        yield value


@torch.no_grad()
def validate_plainly(model: nn.Module, val: Windows, config: TrainConfig, workers: int) -> float:
    """Return the mean squared error over all windows, in batches of the training's size, each read as it comes."""
    device = val.series.device
    model.eval()
    total = 0.0
    for batch in batches_of(WindowDataset(val), config.batch, workers):
        x, y, calendar = (part.to(device) for part in batch)
        with autocast(device, config.precision):
            error = _forecast(model, x, calendar).float() - y
        total += error.square().mean().item() * len(x)
    return total / len(val)


def batches_of(
    data: Dataset[PlainWindow], batch: int, workers: int, order: Sequence[int] | None = None
) -> DataLoader[PlainWindow]:
    """Return the loader of one pass. Its workers are not forked from this process: it may hold CUDA and threads."""
    context = multiprocessing.get_context(START) if workers else None
    if context:
        context.set_forkserver_preload([__name__])
    return DataLoader(data, batch, sampler=order, num_workers=workers, multiprocessing_context=context)


def _loss(model: nn.Module, batch: PlainWindow, device: torch.device, criterion: Criterion) -> Tensor:
    x, y, calendar = (part.to(device) for part in batch)
    own_loss = getattr(model, "training_loss", None)
    return own_loss(x, y, criterion) if own_loss else criterion(_forecast(model, x, calendar).float(), y)


def _forecast(model: nn.Module, x: Tensor, calendar: Tensor) -> Tensor:
    return model(x, calendar) if getattr(model, "reads_calendar", False) else model(x)
