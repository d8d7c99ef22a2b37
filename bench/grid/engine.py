"""What all engines have in common: they train runs, several at once, and report events. No torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from bench.core.base import BenchError
from bench.core.jobs import Event, Job, Lost
from bench.core.record import RunResult, Where
from bench.core.spec import RunSpec


class Engine(ABC):
    """Trains runs in several slots. Each slot answers questions by `bench.train.worker.answer`."""

    slots: int
    """Runs at once."""
    where: Where
    """The provenance of every record, except data and backbone."""
    facts: dict[str, Any]
    """Field of `Where` -> its value, for the fields that only the engine can fill."""
    worker = "a worker process"
    """What an error message calls a slot ..."""
    log = "the lines above"
    """... and the place where its own messages are."""
    problem: Exception | None = None
    """A grid-wide error that is not raised yet."""

    def check(self, specs: Sequence[RunSpec]) -> None:
        """Check data, models and backbones before the first run starts. Raises BenchError.

        Users' own models are imported apart from everything else, those of a module at once.
        """
        self._ask("check", specs)
        own: dict[str, dict[str, RunSpec]] = {}
        for spec in specs:
            if spec.own:
                own.setdefault(spec.model.partition(":")[0], {})[spec.model] = spec
        for models in own.values():
            self._ask("load", list(models.values()))

    @abstractmethod
    def start(self, job: Job) -> None:
        """Begin a job; a slot must be free."""

    @abstractmethod
    def stop(self, key: str) -> None:
        """End the run with this key now; none of its events follows."""

    def free_memory(self) -> float | None:
        """Return the MiB that further runs can take of the memory that all runs share; None if nobody counts them."""
        return None

    def memory(self, key: str) -> tuple[float, float] | None:
        """Return the MiB that a run takes now and took at most; None if it is not known."""
        return None

    @abstractmethod
    def close(self) -> None:
        """End every run and release all resources."""

    def events(self, timeout: float) -> list[Event]:
        """Return pending events first; raise a grid-wide error only when none is left. Waits `timeout` seconds."""
        found = []
        for key, message in self._messages(0 if self.problem else timeout):
            if isinstance(message, Exception):
                self.problem = message
            elif isinstance(message, RunResult):
                where = message.where.model_copy(update=self.facts)
                found.append(Event(key, message.model_copy(update={"where": where})))
            else:
                found.append(Event(key, message))
        if self.problem and not found:
            raise self.problem
        return found

    @abstractmethod
    def _messages(self, timeout: float) -> Iterable[tuple[str, Any]]:
        """Return (run key, message) pairs that arrive within `timeout` seconds; an Exception is a grid-wide error."""

    @abstractmethod
    def _answer(self, what: str, about: Any) -> Any:
        """Put a question to one slot and wait for its answer, an Exception, or Lost."""

    def _ask(self, what: str, about: Any = None) -> Any:
        """Return one slot's answer. Raises BenchError."""
        answer = self._answer(what, about)
        if isinstance(answer, Lost):
            raise BenchError(f"{self.worker} could not {what}: {answer.why}. Do: look into {self.log}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _describe(self, where: Where, **facts: Any) -> None:
        self.facts, self.where = facts, where.model_copy(update=facts)
