"""`bench run` in a process that is forked from one that has imported all of it: for tests that need dozens."""

from __future__ import annotations

import multiprocessing
import os
import sys
from itertools import count
from multiprocessing import forkserver
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from bench.grid.process import IMPORTED, MARK, _environment_with

NUMBERS = count()


class Forked:
    """What `subprocess.Popen` would return, as far as tests ask for it."""

    def __init__(self, words: list[str], folder: Path, variables: dict[str, str]) -> None:
        self.output = [folder / f"{stream}-{next(NUMBERS)}" for stream in ("stdout", "stderr")]
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["bench.grid.driver", "bench.plan.suite", *IMPORTED])
        self.process = context.Process(target=drive, args=(words, folder, variables, self.output))
        with _environment_with(**{MARK: "0"}):  # the process that forks serves workers of other tests too
            self.process.start()
        self.pid: int = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.process.kill()

    def communicate(self, timeout: float) -> tuple[str, str]:
        self.process.join(timeout)
        if self.returncode is None:
            raise TimeoutExpired("bench run", timeout)
        said, complained = (path.read_text(encoding="utf-8") if path.exists() else "" for path in self.output)
        return said, complained


def drive(words: list[str], folder: Path, variables: dict[str, str], output: list[Path]) -> None:
    """Do what `python -m bench run` does in this folder, with these environment variables."""
    for descriptor, path in enumerate(output, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), descriptor)
    os.chdir(folder)
    os.environ.update(variables)
    sys.path.insert(0, str(folder))
    forkserver._forkserver.ensure_running = lambda: None  # workers are forked from the process that this one was
    from bench.__main__ import main

    code = main(["run", *words])
    sys.stdout.flush()
    sys.exit(code)
