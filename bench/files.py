"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, scratch: Path | None = None) -> None:
    """Under a temporary name (`scratch`, on the same file system), flushed to the disk, then renamed into place.

    Its folder must exist. Raises OSError, and leaves neither name half written.
    """
    scratch = scratch or path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
