"""One JSON file per run. Written whole or not at all; read back by spec. No torch."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.spec import BenchError, RunResult, RunSpec, parse_json

Status = str
"""done, failed or missing."""


@dataclass(frozen=True)
class Store:
    """The results directory: results/<dataset>/h<H>/<model>/s<seed>-<key8>.json."""

    root: Path

    def get(self, spec: RunSpec) -> RunResult | None:
        """The record of this very spec; None if there is none. A record that holds another spec is refused."""
        path = self.root / spec.path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BenchError(f"{path}: cannot be read: {error}; move it away and run again") from None
        try:
            result = parse_json(RunResult, text, str(path))
        except BenchError as error:
            raise BenchError(f"{error}; move it away and run again") from None
        if result.spec != spec:
            raise BenchError(f"{path}: holds the record of another run; move it away and run again")
        return result

    def status(self, spec: RunSpec) -> Status:
        result = self.get(spec)
        return result.status if result else "missing"

    def put(self, result: RunResult) -> Path:
        """Write the record under a temporary name, flush it to the disk, then rename it into place."""
        path = self.root / result.spec.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp", delete=False
            ) as file:
                try:
                    file.write(result.model_dump_json(indent=1) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
            path.chmod(0o644)
        except OSError as error:
            raise BenchError(f"{path}: cannot be written: {error}; free the disk or choose another --results") from None
        return path

    def check_writable(self) -> None:
        """Refuse a directory that records could not be written to, before anything is trained."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.root, prefix=".probe-"):
                pass
        except OSError as error:
            raise BenchError(
                f"results directory {self.root}: cannot be written: {error}; choose another --results"
            ) from None
