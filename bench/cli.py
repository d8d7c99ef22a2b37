"""What the command lines share: filters, the results directory, and how errors become one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.suite import Filters

RESULTS = Path(__file__).resolve().parent.parent / "results"
DONE, INCOMPLETE, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


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


def add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("filters", "narrow the suite, or add any model or data set to it")
    group.add_argument("--models", nargs="+", metavar="NAME", help="names in any case, or module:Class of your own")
    group.add_argument("--datasets", nargs="+", metavar="NAME", help="names in any case")
    group.add_argument("--horizons", nargs="+", type=int, metavar="H")
    group.add_argument("--seeds", nargs="+", type=int, metavar="N")
    group.add_argument("--backbone", metavar="NAME", help="language model in place of the suite's")


def add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="default: results/ of this project"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def filters_of(arguments: argparse.Namespace) -> Filters:
    from bench.spec import parse
    from bench.suite import Filters

    given = {name: getattr(arguments, name) for name in Filters.model_fields}
    return parse(Filters, given, "filters")


def guarded(
    parser: argparse.ArgumentParser, words: list[str] | None, action: Callable[[argparse.Namespace], int]
) -> int:
    """Parse, act, and turn what the user can mend into one line on stderr and exit code 2."""
    try:
        arguments = parser.parse_args(words)
        from bench.spec import BenchError
        from models.pretrained import BackboneError

        try:
            return action(arguments)
        except (BenchError, BackboneError) as error:
            if arguments.debug:
                traceback.print_exc()
            print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
            return UNUSABLE
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; nothing finished is lost, start it again", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE
