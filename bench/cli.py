"""What the command lines share: filters, the results directory, and how errors become one line and an exit code."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.system import HOME

if TYPE_CHECKING:
    from bench.plan.suite import Filters

RESULTS = HOME / "results"
DONE, INCOMPLETE, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class Parser(argparse.ArgumentParser):
    """argparse, with its errors in one line as all others."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(UNUSABLE, f"{self.prog}: {message}; see --help\n")


def positive(text: str) -> int:
    """For argparse: a whole number above zero."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def shard(text: str) -> tuple[int, int]:
    """For argparse: `2/8`, the second of eight parts."""
    part, parts = (int(word) for word in text.split("/"))
    if not 1 <= part <= parts:
        raise ValueError
    return part, parts


def duration(text: str) -> float:
    """For argparse: seconds in `90s`, `9m`, `2h`, `1d`, `1h30m` or a plain number of them."""
    number = r"(\d+(?:\.\d+)?)"
    if re.fullmatch(number, text):
        text += "s"
    match = re.fullmatch("".join(f"(?:{number}{unit})?" for unit in UNITS), text)
    seconds = sum(float(n or 0) * unit for n, unit in zip(match.groups(), UNITS.values(), strict=True)) if match else 0
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write 90s, 9m, 2h, 1d or 1h30m")
    return seconds


def add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("filters", "narrow the suite, or add any model or data set to it")
    group.add_argument("--models", nargs="+", metavar="NAME", help="names in any case, or module:Class of your own")
    group.add_argument("--datasets", nargs="+", metavar="NAME", help="names in any case")
    group.add_argument("--horizons", nargs="+", type=int, metavar="H")
    group.add_argument("--seeds", nargs="+", type=int, metavar="N")
    group.add_argument("--backbone", metavar="NAME", help="language model in place of the suite's")


def add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="default: results/ in the checkout, else here"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def filters_of(arguments: argparse.Namespace) -> Filters:
    from bench.core.base import parse
    from bench.plan.suite import Filters

    given = {name: getattr(arguments, name) for name in Filters.model_fields}
    return parse(Filters, given, "filters")


def guarded(
    parser: argparse.ArgumentParser, words: list[str] | None, action: Callable[[argparse.Namespace], int]
) -> int:
    """Parse, act, and turn what the user can mend into one line on stderr and exit code 2."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        arguments = parser.parse_args(words)
        from bench.core.base import BenchError

        try:
            return action(arguments)
        except BenchError as error:
            if arguments.debug:
                traceback.print_exc()
            print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
            return UNUSABLE
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; nothing finished is lost, start it again", file=sys.stderr)
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if arguments.debug:
            traceback.print_exc()
        remedy = "'bash run_all.sh' installs everything into .venv; then 'source .venv/bin/activate'"
        print(f"{parser.prog}: {sys.executable} has no package {error.name!r}; {remedy}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE
    except OSError as error:  # of nothing that has a message of its own: a full disk under the output, too many files
        print(f"{parser.prog}: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNUSABLE
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    """What ends a job where its time is over (`kill`, schedulers) ends it as Ctrl-C does."""
    raise KeyboardInterrupt
