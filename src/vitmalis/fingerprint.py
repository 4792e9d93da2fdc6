"""Fingerprints: hashes of everything that a stored result depends on. Every cache of results uses this one rule.

A result depends on

- code: the modules that compute it, and every module that these import, directly or through others, of our packages,
  of a user's own, and of any other that is not installed (`INSTALLED`). They are found by reading the import
  statements, so that no list of files is kept by hand. Modules are compared by their compiled code without docstrings:
  a changed comment changes nothing, a changed statement does;
- libraries: the versions of Python and of the installed packages that these modules import;
- data and options: whatever else the caller names, files by their content (`vitmalis.paths.file_sha256`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import platform
import sys
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from types import CodeType
from typing import Any

import msgspec

from vitmalis.paths import file_sha256

SOURCES = Path(__file__).parents[1]
"""The folder of our packages: `src` in a checkout, `site-packages` where they are installed."""
PACKAGES = ("vitmalis", "vitmalis_jobs")
"""Our packages, whose modules count by their code wherever they lie."""
INSTALLED = ("site-packages", "dist-packages")
"""Folders of installed packages, which count by their version: they change with an installation only."""
DETECTORS = "vitmalis.detector.loading"
"""The module that imports all that boxes depend on: every kind of model, weights and engines."""


def digest(facts: object) -> str:
    """SHA-256 of anything that JSON can hold, hexadecimal."""
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def class_digest(kind: type, options: Mapping[str, Any]) -> str:
    """Digest of a class by its code, and of the files that its options name by their content."""
    files = [file_sha256(Path(value)) for value in options.values() if isinstance(value, str) and Path(value).is_file()]
    return digest([code_fingerprint(kind.__module__), kind.__qualname__, digest(files)])


@lru_cache(maxsize=64)
def code_fingerprint(*modules: str) -> str:
    """Fingerprint of the code and the libraries behind some modules, as they were when it was first asked for.

    Args:
        modules: dotted names of the modules that compute the result, such as `vitmalis.references`. Their
            packages count by their code, installed or not. Those without a source file are left out.

    Returns:
        64 hexadecimal digits.
    """
    used = imported_modules(*modules)
    by_code = {_top(module) for module in used}
    imported = {_top(name) for module in used for name in _source(module).imports}
    versions = [(name, _version(name)) for name in sorted(imported - by_code - sys.stdlib_module_names)]
    known = [(name, version) for name, version in versions if version]
    return digest([[(module, _source(module).code) for module in used], known, platform.python_version()])


def imported_modules(*modules: str) -> list[str]:
    """These modules and all that they import and that count by their code, in alphabetical order.

    Imports inside functions count, those for type checkers alone (`if TYPE_CHECKING:`) do not.
    """
    own = {*PACKAGES, *map(_top, modules)}
    found: set[str] = set()
    waiting = [part for name in modules for part in _with_packages(name)]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            names = [name for name in _source(module).imports if _top(name) in own or not _is_installed(_top(name))]
            waiting += [part for name in names for part in _with_packages(name)]
    return sorted(found)


class _Source(msgspec.Struct, frozen=True):
    """What one module says: a digest of its code, and the dotted names that it imports."""

    code: str
    imports: frozenset[str]


@cache
def _source(module: str) -> _Source:
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(module)
    tree = ast.parse(path.read_bytes(), str(path))
    code = hashlib.sha256()
    _hash_code(compile(tree, module, "exec", dont_inherit=True, optimize=2), code)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return _Source(code.hexdigest(), frozenset(_imported_names(tree, package)))


def _top(module: str) -> str:
    """The top-level package of a dotted name."""
    return module.partition(".")[0]


@cache
def _path(module: str) -> Path | None:
    """Source file of a module; None for a folder without `__init__.py`, the standard library, or any other name."""
    folder = _folder(_top(module))
    if folder is None:
        return None
    base = folder.joinpath(*module.split("."))
    return next((path for path in (base / "__init__.py", base.with_name(f"{base.name}.py")) if path.is_file()), None)


@cache
def _folder(package: str) -> Path | None:
    """The folder that a top-level package lies in; None for one of the standard library, or where there is none."""
    if package in PACKAGES:
        return SOURCES
    if package in sys.stdlib_module_names:
        return None
    try:
        found = importlib.util.find_spec(package)
    except ValueError:  # `__main__`
        return None
    if found is None:
        return None
    places = [
        *(found.submodule_search_locations or ()),
        *([found.origin] if found.has_location and found.origin else ()),
    ]
    return Path(places[0]).parent if places else None


def _is_installed(package: str) -> bool:
    """Whether a top-level package comes from an installation, as far as it has a folder at all."""
    folder = _folder(package)
    return folder is None or not {*INSTALLED}.isdisjoint(folder.parts)


def _with_packages(name: str) -> Iterator[str]:
    """The modules that importing a dotted name runs: its packages from the outside in, and itself if it is a module."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        module = ".".join(parts[:count])
        if _path(module):
            yield module


def _imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that a syntax tree imports, with the attributes that `from` imports name, which may be modules."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, (outer, node.module)))
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield from _imported_names(other, package)
        else:
            yield from _imported_names(node, package)


def _hash_code(code: CodeType, target: hashlib._Hash) -> None:
    """Feed a hash with all that a code object does; line numbers and file names do not count."""
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    target.update(repr((counts, names)).encode() + code.co_code + code.co_exceptiontable)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _hash_code(constant, target)
        else:
            target.update(_constant(constant).encode())


def _constant(value: object) -> str:
    """A constant as text that is the same in every process, whatever order a set has there."""
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_constant, value)))}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    return f"{type(value).__name__} {value!r}"


@cache
def _version(library: str) -> str | None:
    """Version of the distribution that provides a top-level package; None where it is not installed."""
    for name in (library, *_distributions().get(library, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: sorted(set(found)) for name, found in metadata.packages_distributions().items()}
