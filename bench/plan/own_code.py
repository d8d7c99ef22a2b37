"""Find the files of a user's own model by reading its import statements: nothing of the user's is run. No torch.

A model is the files that its module imports, directly or through each other, wherever in them the statement stands.
Installed packages are followed no further: their name and version stand for them. `watched` compares what a process
has really run with what was found. What a model reads as data, or runs in further processes, is not seen.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import re
import sys
import sysconfig
import tomllib
import traceback
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType
from typing import Any

from bench.core.base import BenchError, digest
from bench.core.grouping import gathered
from bench.core.record import TRACEBACK
from bench.core.system import ROOT
from bench.core.text import first_few
from models import LIBRARIES, MODELS, Package, library_of, package_of

PROJECT = ("bench", "models")
"""The project's packages. What it ships in them is no part of a user's model: `PROTOCOL` covers it."""
WRITES = os.O_WRONLY | os.O_RDWR
IMPORTING = ("import_module", "__import__")
"""Functions that import what their first argument names."""
PROGRAMS = ("bench.__main__", "bench.report.__main__")


class CodeChanged(BenchError):
    """A user's own model is not the one that was planned: the grid stops."""


@dataclass(frozen=True)
class OwnCode:
    """The code of a user's own model."""

    model: str
    files: dict[str, Path]
    """Module -> its file, for every module of the user's own that the model imports."""
    installed: dict[str, str]
    """Distribution -> version, for installed packages that are no dependencies of this project; file -> SHA-256 for a
    file among the installed ones that is of no distribution."""
    hashes: dict[Path, str]
    """File -> SHA-256."""

    @property
    def digest(self) -> str:
        """The SHA-256 of names and contents. Folders are no part of it: a model may be moved."""
        files = sorted((module, self.hashes[path]) for module, path in self.files.items())
        return digest([files, sorted(self.installed.items())])

    def require_here(self, suite: str) -> None:
        """Refuse a model that a suite names unless its module lies in the current directory, not among packages."""
        here, folders = Path.cwd().resolve(), _Folders()
        for name in _packages_and(self.model.partition(":")[0]):
            path = self.files.get(name, here)
            if not path.is_relative_to(here) or folders.installed(path):
                cause = f"suite {suite} names model {self.model}, which lies outside {here}"
                raise BenchError(f"{cause}. Do: name it by --models {self.model}, if you trust it")


def summaries(codes: Iterable[OwnCode]) -> list[str]:
    """Return lines for people: models, and the files that they run."""
    models = gathered((first_few(map(shown, code.hashes), most=10), code.model) for code in codes)
    return [f"{first_few(each, most=10)} run{'s' * (len(each) == 1)} {files}" for files, each in models.items()]


def own_code(model: str) -> OwnCode:
    """Return the code of a user's `module:Class`, or the version of the package that a model comes from.

    Raises BenchError if a module is no Python file that is found, or if a file cannot be read or parsed.
    """
    if package := package_of(model):
        library, name = library_of(model), model.partition(":")[2]
        needs = [needed for network, needed in library.needs if network == name] if library else []
        further = {needed: version_of(Package(needed, "")) for needed in needs}
        return OwnCode(model, {}, {package.name: version_of(package), **further}, {})
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current directory, also for installed entry points
    importlib.invalidate_caches()
    search = _Search(model)
    module = model.partition(":")[0]
    place = search.place(module)
    if place is None or place.file is None or place.file.suffix != ".py":
        cause = f"no module {module!r} that is a file in {Path.cwd()} or on PYTHONPATH"
        written = model.replace("/", ".").replace(".py:", ":")
        remedy = f"write {written}" if written != model else "check its name"
        raise BenchError(f"model {model}: {cause}. Do: {remedy}, and start where it lies")
    while search.unread:
        search.read(search.unread.pop(0))
    return OwnCode(model, search.files, search.installed, search.hashes)


def version_of(package: Package) -> str:
    """Return the version of a package that is installed, or that committed records were made with if none is."""
    try:
        return importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError:
        return package.version


@contextlib.contextmanager
def watched(model: str, code: str | None) -> Iterator[None]:
    """Compare what is run within with the plan of a user's own model; `code` is its planned digest.

    Raises CodeChanged for a file that was edited, and BenchError for a file that planning does not find. Does nothing
    for a model of the registry, which has no code.
    """
    if code is None:
        yield
        return
    planned = own_code(model)
    if planned.digest != code:
        raise _changed(model)
    with _Ear.listening() as ear:
        yield
    folders = _Folders()
    for path in ear.files():
        if not folders.own(path):
            continue
        if path not in planned.hashes:
            remedy = "import it by an import statement, with its folder in PYTHONPATH if it is another one"
            raise BenchError(f"model {model} runs or reads {shown(path)}, which planning cannot see. Do: {remedy}")
        if planned.hashes[path] != _sha256(path.read_bytes()):
            raise _changed(model)


def raised_at(error: BaseException) -> str:
    """Return `, raised at FILE:LINE in FUNCTION`: the last frame in a file of the user's own. Empty without one."""
    for frame in _own_frames(error, _Folders())[-1:]:
        return f", raised at {shown(Path(frame.filename).resolve())}:{frame.lineno} in {frame.name}"
    return ""


def trace_of(error: BaseException) -> str:
    """Return the traceback of an error: its frames in files of the user's own, if there are any, before all frames.

    Paths are as seen from the current directory, or from the folder on the import path that holds the file.
    """
    folders = _Folders()
    trace = traceback.TracebackException.from_exception(error)  # its texts exist even if those of the error raise
    own, texts = traceback.format_list(_own_frames(error, folders)), ["", "".join(trace.format()).strip()]
    if own:
        texts[0] = "".join(["In files of your own:\n", *own, *trace.format_exception_only(), "\n"])[-TRACEBACK // 2 :]
    file = re.compile(r'^( *(?:\| )?File )"([^"\n]+)"', re.MULTILINE)
    first, whole = (file.sub(lambda found: f'{found[1]}"{folders.seen(found[2])}"', text) for text in texts)
    return (first + whole[-(TRACEBACK - len(first)) :]).encode("utf-8", "backslashreplace").decode()


def _own_frames(error: BaseException, folders: _Folders) -> list[traceback.FrameSummary]:
    """Return the frames of an error that are in files of the user's own, the outermost first."""

    def own(file: str) -> bool:
        return file.endswith(".py") and folders.own(Path(file).resolve())

    return [frame for frame in traceback.extract_tb(error.__traceback__) if own(frame.filename)]


class _Ear:
    """What the interpreter told its audit hook: the files whose code was run, and Python files that were read."""

    current: _Ear | None = None

    def __init__(self) -> None:
        self.heard: set[str] = set()

    @classmethod
    @contextlib.contextmanager
    def listening(cls) -> Iterator[_Ear]:
        _set_audit_hook()
        cls.current = ear = cls()
        try:
            yield ear
        finally:
            cls.current = None

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        match event, args:
            case "exec", (CodeType(co_filename=name), *_):  # a module, or what exec() is given
                self.heard.add(name)
            case "import", (_, str(name), *_):  # an extension module
                self.heard.add(name)
            case "open", (str(name), _, int(flags)) if name.endswith(".py") and not flags & WRITES:
                if sys._getframe(2).f_globals.get("__name__") != "tokenize":  # it shows the lines of frames
                    self.heard.add(name)  # its text may be run, whole or changed

    def files(self) -> list[Path]:
        return sorted(Path(name).resolve() for name in self.heard if Path(name).is_file())


@lru_cache
def _set_audit_hook() -> None:
    """Let `_Ear.current` hear every event of this process, for as long as it lives: a hook cannot be removed."""
    sys.addaudithook(lambda event, args: _Ear.current.hear(event, args) if _Ear.current else None)


def shown(path: Path) -> str:
    """Return a file's path as seen from the current directory, or the whole of it if it lies elsewhere."""
    here = Path.cwd().resolve()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)


class _Folders:
    """The user's own folders, and those of installed packages, of the standard library and of this project."""

    def __init__(self) -> None:
        here = Path.cwd().resolve()
        paths = [Path(entry or ".").resolve() for entry in sys.path if isinstance(entry, str)]
        known = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
        self._installed = [*known, *(path for path in paths if path != here and _holds_packages(path))]
        self._own = [here, *(path for path in paths if path not in self._installed)]

    def installed(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self._installed)

    def seen(self, file: str) -> str:
        """Return the path of a file as seen from the innermost of the folders that hold it."""
        path = Path(file).resolve()
        holding = [folder for folder in (*self._own, *self._installed) if path.is_relative_to(folder)]
        inner = max(holding, key=lambda folder: len(folder.parts), default=None)
        return path.relative_to(inner).as_posix() if inner and file[:1] != "<" else file

    def own(self, path: Path) -> bool:
        """Tell whether a file is the user's own. Files in hidden folders are not: compilers keep code there."""
        inside = [path.relative_to(folder).parts for folder in self._own if path.is_relative_to(folder)]
        visible = any(not any(part.startswith(".") for part in parts) for parts in inside)
        return visible and not self.installed(path) and not _shipped(path)


@dataclass(frozen=True)
class _Place:
    """The place of a module: its file (None for a folder without `__init__.py`), and a package's folders."""

    file: Path | None
    folders: list[str]
    package: bool


@dataclass
class _Search:
    """A walk from a model's module along import statements."""

    model: str
    places: dict[str, _Place | None] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    folders: _Folders = field(default_factory=_Folders)
    files: dict[str, Path] = field(default_factory=dict)
    installed: dict[str, str] = field(default_factory=dict)
    hashes: dict[Path, str] = field(default_factory=dict)

    def place(self, name: str) -> _Place | None:
        """Return the place of a module; a file of the user's own is to be read next, as those of the packages around
        it are. None for a module that is not found, and for all of installed packages."""
        folders: list[str] | None = None
        place: _Place | None = None
        for each in _packages_and(name):
            if each not in self.places:
                self.places[each] = found = _find(each, folders)
                if found and found.file and self._counts(each, found.file):
                    self.files[each] = found.file
                    self.unread.append(each)
                elif found and found.file and self.folders.installed(found.file):
                    self.places[each] = None
            place = self.places[each]
            if place is None or (each != name and not place.package):
                return None
            folders = place.folders
        return place

    def _counts(self, name: str, file: Path) -> bool:
        """Tell whether a module is the user's own, and note the package of one that is installed."""
        top = name.partition(".")[0]
        if top == re.split(r"[.:]", self.model)[0] or not self.folders.installed(file):
            return not _shipped(file)
        if top not in sys.stdlib_module_names and _plain(top) not in _dependencies():
            found = [name for name in _distributions().get(top, ()) if _plain(name) not in _dependencies()]
            versions = {name: importlib.metadata.version(name) for name in found}
            self.installed |= versions if top in _distributions() else {top: _sha256(self._content(file))}
        return False

    def read(self, module: str) -> None:
        """Hash a file, and look for all that it imports."""
        file = self.files[module]
        content = self._content(file)
        self.hashes[file] = _sha256(content)
        if file.suffix != ".py":
            return
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(content, shown(file))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise BenchError(f"model {self.model}: {shown(file)}: {_fault(error)}. Do: mend it") from None
        place = self.places[module]
        package = module if place and place.package else module.rpartition(".")[0]
        for name in _imported(tree, package, calls=any(word.encode() in content for word in IMPORTING)):
            if not name.endswith(".*"):
                self.place(name)
            elif (inside := self.place(name[:-2])) and inside.package:
                for each in pkgutil.iter_modules(inside.folders):
                    self.place(f"{name[:-1]}{each.name}")

    def _content(self, file: Path) -> bytes:
        try:
            return file.read_bytes()
        except OSError as error:
            raise BenchError(f"model {self.model}: {file}: cannot be read: {error}. Do: check its rights") from None


class _ProjectSearch(_Search):
    """A walk from the project's own programs."""

    def _counts(self, name: str, file: Path) -> bool:
        return name.partition(".")[0] in PROJECT


def _shipped(path: Path) -> bool:
    """Tell whether a file is the project's own, which its programs or registered models import; a user's may lie beside
    them."""
    inside = any(path.is_relative_to((ROOT / name).resolve()) for name in PROJECT)
    return inside and path in _project_files()


@lru_cache
def _project_files() -> frozenset[Path]:
    search = _ProjectSearch("the project")
    registered = (entry.target.partition(":")[0] for entry in MODELS.values())
    for name in (*PROGRAMS, *registered, *(library.adapter for library in LIBRARIES.values())):
        search.place(name)
    while search.unread:
        search.read(search.unread.pop(0))
    return frozenset(search.hashes)


def _find(name: str, folders: list[str] | None) -> _Place | None:
    """Return the place of a module in the folders of the package around it; `folders` None: on the import path."""
    tail = name.rpartition(".")[2]
    # Without the packages around it, a name needs none of them to be imported; only folders are searched for it then.
    for finder in sys.meta_path if folders is None else (PathFinder,):
        try:
            spec = finder.find_spec(tail, folders)
        except (ImportError, AttributeError):
            continue
        if spec is None:
            continue
        inside = spec.submodule_search_locations
        if spec.has_location and spec.origin:
            return _Place(Path(spec.origin).resolve(), list(inside or ()), inside is not None)
        if inside is None:
            return None  # built in, or frozen
        # A folder without __init__.py, or several of one name.
        parts = [Path(folder or ".") / tail for folder in (sys.path if folders is None else folders)]
        return _Place(None, [str(part.absolute()) for part in parts if part.is_dir()], True)
    return None


def _imported(tree: ast.AST, package: str, calls: bool) -> Iterator[str]:
    """Return every name that a file imports and that may be a module; `a.*` for all modules of a package.

    `calls`: whether calls are looked at too, which takes five times as long.
    """
    for node in ast.walk(tree) if calls else _statements(tree):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                source = _absolute("." * level + (module or ""), package)
                yield from (name for each in names for name in (source, f"{source}.{each.name}") if source)
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(str(name)), *_]):
                if called in IMPORTING and (name := _absolute(name, package)):
                    yield name


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every statement of a file, wherever it stands, in the order of `ast.walk`."""
    todo = deque([tree])
    while todo:
        yield (node := todo.popleft())
        for part in ("body", "handlers", "orelse", "finalbody", "cases"):
            todo += getattr(node, part, ())


def _absolute(name: str, package: str) -> str:
    """Return the full name of a module that is named from within a package; empty if it leads out of it."""
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return ""


def _packages_and(module: str) -> list[str]:
    """Return the packages around a module, the outermost first, and the module."""
    parts = module.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


@lru_cache
def _holds_packages(folder: Path) -> bool:
    named = folder.name in ("site-packages", "dist-packages")
    return named or next(folder.glob("*.dist-info"), None) is not None


@lru_cache
def _distributions() -> dict[str, list[str]]:
    """Return top-level module -> the distributions that install it."""
    return dict(importlib.metadata.packages_distributions())


@lru_cache
def _dependencies() -> frozenset[str]:
    """Return the distributions that this project itself needs: records hold the versions that matter."""
    if (file := ROOT / "pyproject.toml").is_file():
        wanted = tomllib.loads(file.read_text("utf-8"))["project"]["dependencies"]
    else:
        wanted = [each for each in importlib.metadata.requires("logo-llm-bench") or () if "extra ==" not in each]
    return frozenset(_plain(re.split(r"[^\w.-]", each)[0]) for each in wanted)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _changed(model: str) -> CodeChanged:
    return CodeChanged(f"model {model}: its code has changed since the run was planned. Do: run again")


def _fault(error: BaseException) -> str:
    line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}{line}"
