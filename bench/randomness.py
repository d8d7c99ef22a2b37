"""The global random generators of Python, numpy and torch: seeded, read and set as one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """The order of batches has a generator of its own."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Where all of them stand: Python's and numpy's fit into JSON, torch's are tensors."""
    name, key, *rest = np.random.get_state()
    plain = {"python": random.getstate(), "numpy": [name, np.asarray(key).tolist(), *rest]}
    tensors = {"random": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    return plain, tensors


def set_random_state(plain: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Raises KeyError, TypeError, ValueError or RuntimeError for what `random_state` never gave."""
    version, key, gauss = plain["python"]
    random.setstate((version, tuple(key), gauss))
    np.random.set_state(tuple(plain["numpy"]))
    torch.set_rng_state(tensors["random"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
