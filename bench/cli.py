"""The shared part of the command lines: filters, results directory, errors as one line and an exit code."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import signal
import sys
import tomllib
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast, get_args

from bench.core.names import What
from bench.core.system import HOME, INSTALLED
from bench.core.text import Output, harmless
from models.errors import BenchError

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console

    from bench.plan.suite import Filters

RESULTS = HOME / "results"
DONE, INCOMPLETE, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
Action = Callable[[argparse.Namespace], int]
TABLES = (".csv", ".parquet")
"""Suffixes of files of tables that commands write."""
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


SCRIPT = "logo-bench"
"""The console script of an installed copy: `logo-bench VERB` is `python -m bench VERB`."""


def program(module: str = "bench") -> str:
    """Return how the command was typed: `python -m bench`, `python -m bench.report`, or the console script's form."""
    return as_typed(f"python -m {module}")


def as_typed(text: str) -> str:
    """Return text with its commands written for the console script, if that is what the user has typed."""
    if Path(sys.argv[0]).stem != SCRIPT:
        return text
    return text.replace("python -m bench.report", f"{SCRIPT} report").replace("python -m bench", SCRIPT)


class _Spoken(Output):
    """A standard stream whose hints name the command that was typed."""

    def write(self, text: str) -> int:
        super().write(as_typed(text))
        return len(text)


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line, and whose help ends with examples."""

    def __init__(self, prog: str, examples: Sequence[str] = (), **options: Any) -> None:
        epilog = "\n".join(["examples:", *(f"  {example}" for example in examples)]) if examples else None
        super().__init__(prog, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(UNUSABLE, f"{self.prog}: {message}. Do: see --help\n")


def positive(text: str) -> int:
    """Parse a whole number above zero, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def shard(text: str) -> tuple[int, int]:
    """Parse `2/8`, the second of eight parts, for argparse."""
    part, parts = (int(word) for word in text.split("/"))
    if not 1 <= part <= parts:
        raise ValueError
    return part, parts


def kept(text: str) -> tuple[What, ...]:
    """Parse `forecasts,weights`, for argparse."""
    words = dict.fromkeys(text.split(","))
    if unknown := words.keys() - set(get_args(What)):
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} cannot be kept; write forecasts, weights, or both with ','")
    return tuple(what for what in get_args(What) if what in words)


def require_file(what: str, path: Path, suffixes: Sequence[str] = ()) -> None:
    """Refuse a file that cannot be written there, before minutes are spent on its content."""
    if suffixes and path.suffix not in suffixes:
        raise BenchError(f"{what}: no kind of file that is written here. Do: name a {' or '.join(suffixes)} file")
    if not path.absolute().parent.is_dir():
        raise BenchError(f"{what}: its folder does not exist. Do: make it first")


def duration(text: str) -> float:
    """Parse `90s`, `9m`, `2h`, `1d` or `1h30m` into seconds, for argparse; a number without its unit is refused."""
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch("".join(f"(?:{number}{unit})?" for unit in UNITS), text)
    seconds = sum(float(n or 0) * unit for n, unit in zip(match.groups(), UNITS.values(), strict=True)) if match else 0
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write 90s, 9m, 2h, 1d or 1h30m")
    return seconds


def option(text: str) -> tuple[str, bool | int | float | str]:
    """Parse `width=64` into a name and a value of TOML, for argparse; what is none of TOML is a string."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE; write width=64")
    try:
        read = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        read = value
    return name, read if isinstance(read, bool | int | float | str) else value


def add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("filters", "narrow the suite, or add any model or data set to it")
    group.add_argument("--models", nargs="+", metavar="NAME", help="names in any case, or module:Class of your own")
    group.add_argument("--datasets", nargs="+", metavar="NAME", help="names in any case")
    group.add_argument("--horizons", nargs="+", type=int, metavar="H", help="steps ahead")
    group.add_argument("--seeds", nargs="+", type=int, metavar="N", help="any of 0 to 2^32 - 1")
    group.add_argument(
        "--backbone",
        metavar="NAME",
        help="language model (default: the suite's, if it has records or its weights are here; else one that does)",
    )


def add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="default: results/ in the checkout, else here"
    )


def filters_of(arguments: argparse.Namespace) -> Filters:
    """Return the parsed filters. Raises BenchError for a value out of range."""
    from bench.core.base import parse
    from bench.plan.suite import Filters

    return parse(Filters, {name: getattr(arguments, name) for name in Filters.model_fields}, "")


def require_results(results: Path) -> None:
    """Raise BenchError if the results directory that is to be read was named and does not exist."""
    if results != RESULTS and not results.is_dir():
        cause = f"results directory {results}: there is no such directory"
        raise BenchError(f"{cause}. Do: name one with records, or make it by 'python -m bench run --results'")


def write_table(path: Path, table: DataFrame) -> str:
    """Write a table as .csv or .parquet, by the file's suffix, and return a line that says so. Raises BenchError."""
    try:
        if path.suffix == ".parquet":
            table.to_parquet(path, index=False)
        else:
            safe = table.apply(lambda column: column.map(harmless) if column.dtype.kind == "O" else column)
            safe.rename(columns=harmless).to_csv(path, index=False)
    except ImportError:
        raise BenchError(f"{path}: needs the package pyarrow. Do: pip install pyarrow, or name a .csv") from None
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {error}. Do: name another file") from None
    return f"wrote {path}: {len(table)} rows"


def command(verb: str, suite: str, filters: Filters, results: Path) -> str:
    """Return the command line of a verb that reads the same records."""
    place = [] if results == RESULTS else ["--results", str(results)]
    return shlex.join(["python", "-m", "bench", verb, "--suite", suite, *filters.words.split(), *place])


def width() -> int | None:
    """Return the columns of the terminal, or those of the variable COLUMNS; None where output goes into a file."""
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    with suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(sys.stdout.fileno()).columns
    return None


def blocks(widths: Sequence[int], room: float) -> list[range]:
    """Return the positions of columns of these widths, cut so that each part (two blanks before each) fits."""
    parts: list[range] = []
    used = 0
    for position, each in enumerate(widths):
        if not parts or used + 2 + each > room:
            parts.append(range(position, position))
            used = 0
        parts[-1] = range(parts[-1].start, position + 1)
        used += 2 + each
    return parts


def narrowed(widths: Sequence[int], room: float) -> list[int]:
    """Return widths of columns, the widest of them less until all of them fit; none below 8."""
    found = [*widths]
    while sum(found) > room and max(found) > 8:
        found[found.index(max(found))] -= 1
    return found


def words_table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """Return a table of words as text; its widest columns wrap where it would be wider than the terminal."""
    from tabulate import tabulate

    widths = narrowed(_widths(rows, headers), (width() or math.inf) - 2 * len(headers) + 2)
    return tabulate(rows, headers, disable_numparse=True, maxcolwidths=widths, maxheadercolwidths=widths)


def counts_table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """Return a table of short cells as text; below the terminal's width it is cut into blocks of columns."""
    from tabulate import tabulate

    first, *others = _widths(rows, headers)
    parts = [[0, *(column + 1 for column in part)] for part in blocks(others, (width() or math.inf) - first)]
    return "\n\n".join(
        tabulate([[row[at] for at in part] for row in rows], [headers[at] for at in part], disable_numparse=True)
        for part in parts
    )


def _widths(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> list[int]:
    """Return the widths of columns as tabulate sets them: it leaves two blanks beside a header."""
    return [max([len(header) + 2, *(len(row[at]) for row in rows)]) for at, header in enumerate(headers)]


def guarded(parser: argparse.ArgumentParser, words: list[str] | None, action: Action) -> int:
    """Parse `words` and run `action`; an error that the user can mend becomes one line on stderr and exit code 2."""
    arguments = argparse.Namespace(debug=False)
    with (
        _signals(),
        redirect_stdout(cast(TextIO, _Spoken(sys.stdout))),
        redirect_stderr(cast(TextIO, _Spoken(sys.stderr))),
    ):
        try:
            return action(parser.parse_args(words, arguments))
        except KeyboardInterrupt:
            _say(parser, "interrupted; nothing finished is lost, start it again")
            return INTERRUPTED
        except (BenchError, ModuleNotFoundError, OSError) as error:
            if arguments.debug:
                traceback.print_exc()
            cause = " ".join(str(error).split())
            if isinstance(error, ModuleNotFoundError):
                remedy = "'bash run_all.sh', which installs everything into .venv; then 'source .venv/bin/activate'"
                remedy = "install this project again, with its dependencies" if INSTALLED else remedy
                cause = f"{sys.executable} has no package {error.name!r}. Do: {remedy}"
            _say(parser, cause)
            if isinstance(error, OSError):  # a full disk under the output, say: what is left of it is not written
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return UNUSABLE
        finally:
            with suppress(OSError):
                sys.stdout.flush()


@contextmanager
def _signals() -> Iterator[None]:
    """Let `kill`, schedulers and a terminal that closes act like Ctrl-C, once; one that is ignored (nohup) stays so."""
    names = [name for name in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(name) != signal.SIG_IGN]

    def interrupt(*_: object) -> None:
        for name in names:
            signal.signal(name, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {name: signal.signal(name, interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _say(parser: argparse.ArgumentParser, line: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(f"{parser.prog}: {line}", file=sys.stderr)


def console(stderr: bool = False) -> Console:
    """Return rich's console on a standard stream; it draws on terminals, so that what it prints must be printable."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    out = cast(TextIO, Output(getattr(stream, "stream", stream), raw=True))
    # In a notebook too, which sets FORCE_COLOR: plain lines.
    return Console(file=out, force_terminal=out.isatty(), force_jupyter=False)
