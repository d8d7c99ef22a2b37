"""This table lists the weights of forecasters that come pretrained. No torch.

`models.llm_files` finds and verifies their files. A hash, and with it the revision, is fixed as PROTOCOL is: other
weights are another model, and `Where.weights_sha256` says which ones a run read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from models.llm_files import Published


@dataclass(frozen=True, kw_only=True)
class Forecaster(Published):
    """The weights of a forecaster that comes pretrained and trains nothing."""

    architecture: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class's own configuration where they are not its defaults."""
    kind: ClassVar[str] = "model"

    @property
    def fetch(self) -> str:
        return f"python -m bench fetch --models {self.name}"


FRACAST = Forecaster(
    name="fracast",
    license="Apache-2.0",
    files={"weights/model.safetensors": "0d678f123f3d1f91c5065cca2b5d40eccc469360afc2381b27290486011ded2c"},
    package="fracast",
    install="pip install fracast==0.1.0",
)
# The hash is that of the file's LFS pointer at this revision; the architecture has as many parameters as the file.
CHRONOS_BOLT = Forecaster(
    name="chronos_bolt",
    license="Apache-2.0",
    files={"model.safetensors": "06a6a19bbe74bc10a9cd193bd4bf2bf638ae07f7e0d51653ae7ab8ea968a21dd"},
    repo="amazon/chronos-bolt-small",
    revision="772f3d25d38aec6d914c8949dab4462e2d46f5d8",
    architecture={
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_heads": 8,
        "feed_forward_proj": "relu",
        "decoder_start_token_id": 0,
        "chronos_config": {
            "context_length": 2048,
            "prediction_length": 64,
            "input_patch_size": 16,
            "input_patch_stride": 16,
            "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
            "use_reg_token": True,
        },
    },
)
# The architecture is that of transformers' defaults, which were written for this file.
TIMESFM = Forecaster(
    name="timesfm",
    license="Apache-2.0",
    files={"model.safetensors": "b53f6d52114e2ad786890f3c4637ce05f580b7800d6e24401f88b398b76035ef"},
    repo="google/timesfm-2.5-200m-transformers",
    revision="5a9806b9b291fad9233b5249d88263f1846304d3",
)
