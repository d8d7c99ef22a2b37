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


def device_random_state(device: torch.device) -> Tensor:
    """Where the generator stands that a model on this device draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_device_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def random_state(device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Where all of them stand: Python's and numpy's fit into JSON, torch's are tensors."""
    name, key, *rest = np.random.get_state()
    plain = {"python": random.getstate(), "numpy": [name, np.asarray(key).tolist(), *rest]}
    tensors = {"random": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random.cuda"] = device_random_state(device)
    return plain, tensors


def set_random_state(plain: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Raises KeyError, TypeError, ValueError or RuntimeError for what `random_state` never gave."""
    version, key, gauss = plain["python"]
    random.setstate((version, tuple(key), gauss))
    np.random.set_state(tuple(plain["numpy"]))
    torch.set_rng_state(tensors["random"])
    if device.type == "cuda":
        set_device_random_state(device, tensors["random.cuda"])
