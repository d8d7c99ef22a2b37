"""Take one optimiser step on a batch of windows: in micro-batches to save memory, as a CUDA graph to save launches."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from bench.core.schedule import StepPlan, sizes_of
from bench.core.spec import TrainConfig
from bench.train.device import generator, out_of_memory
from bench.train.evaluate import autocast, predict
from bench.train.graph import Graph, replays
from bench.train.windows import Windows
from models import MODELS

Criterion = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Criterion] = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}
SERIES_PER_MICRO_BATCH = {"cpu": 1024, "cuda": 32768}
"""Kind of device -> most series (windows times channels) in a micro-batch. Fixed: dropout's draws depend on it."""


class Stepper:
    """Trains a model, one batch per call.

    A batch passes in micro-batches whose gradients add up to the gradient of the whole batch. With batch norm there is
    one micro-batch: its statistics need the whole batch. If memory runs out, the micro-batch is halved for the rest of
    the training, and the step is repeated from the same random state.

    On a GPU, steps of a model with `capturable` (the same operations for every batch of a size, no value read by the
    host) are replayed as a CUDA graph, and compiled where `is_compiled` says so.
    """

    def __init__(self, model: nn.Module, train: Windows, config: TrainConfig, graphs: bool = True) -> None:
        self.model, self.train, self.config = model, train, config
        self.device = train.series.device
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        on_gpu = self.device.type == "cuda"
        lr = torch.tensor(config.lr, device=self.device) if on_gpu else config.lr  # a graph reads it from the device
        real = all(parameter.is_floating_point() for parameter in self.trainable)  # torch fuses no complex ones
        self.optimizer = torch.optim.Adam(self.trainable, lr=lr, fused=real, capturable=on_gpu)
        # 1. Choose the size of micro-batches.
        whole = min(config.batch, len(train))
        self.divisible = not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules())
        fits = max(1, SERIES_PER_MICRO_BATCH[self.device.type] // train.series.shape[1])
        self.micro_batch = min(whole, fits) if self.divisible else whole
        # 2. Choose whether steps become a graph. models.layers.in_pieces sets random states: no graph can hold it.
        fixed = replays(model, self.device) and (self.divisible or whole <= fits)
        compiled = is_compiled(model, StepPlan(config, len(train)).total)
        self.graph = Graph(self._step, whole, self.device, compiled) if graphs and fixed else None

    def __call__(self, index: Int[Tensor, "b"], lr: float) -> Tensor:
        """Take one step on the windows `index` with learning rate `lr`; return their mean loss, still on the device."""
        (group,) = self.optimizer.param_groups
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
        return self.graph(index) if self.graph else self._step(index)

    def _step(self, index: Tensor) -> Tensor:
        loss = self._gradients(index)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.trainable, self.config.clip)
        self.optimizer.step()
        return loss

    def _gradients(self, index: Tensor) -> Tensor:
        """Compute the gradients of the batch's mean loss, in micro-batches that fit into memory; return the loss."""
        if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return self._in_micro_batches(index)
        random_state = generator(self.device).get_state()
        while True:
            # 1. Try the present size.
            try:
                return self._in_micro_batches(index)
            except Exception as error:
                if not out_of_memory(error) or not self.divisible or self.micro_batch == 1:
                    raise
            # 2. Out of memory: halve it, and restore the random state.
            self.micro_batch = (self.micro_batch + 1) // 2
            generator(self.device).set_state(random_state)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _in_micro_batches(self, index: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for micro_batch in index.split(sizes_of(len(index), self.micro_batch, joins_single=True)):
            loss = self._loss(micro_batch) * (len(micro_batch) / len(index))
            loss.backward()
            total += loss.detach()
        return total

    def _loss(self, index: Tensor) -> Tensor:
        criterion, precision = LOSSES[self.config.loss], self.config.precision
        own_loss: Callable[..., Tensor] | None = getattr(self.model, "training_loss", None)
        if own_loss is None:
            return criterion(*predict(self.model, self.train, index, precision))
        with autocast(self.device, precision):  # the model has its own loss, built on the criterion
            return own_loss(self.train.contexts(index), self.train.targets(index), criterion)


def is_compiled(model: nn.Module, steps: int) -> bool:
    """Return whether a training of so many steps compiles what a model calls through `models.kernels.layer`.

    It needs as many steps as the model, or a part of it, names as `worth_compiling`: a compilation takes 15 seconds,
    and stays on disk for the next run of the shape. (A language model names few, so that a step's time does not depend
    on the length of training.) A user's class is never compiled, not even one that is derived from ours.
    """
    name = f"{type(model).__module__}:{type(model).__qualname__}"
    ours = any(entry.target == name for entry in MODELS.values())
    return ours and any(steps >= getattr(part, "worth_compiling", math.inf) for part in model.modules())
