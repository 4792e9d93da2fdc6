"""Fingerprints: hashes of everything that a stored result depends on. Every cache of results uses this one rule.

A result depends on

- code: the modules that compute it, and every module of `PACKAGES` that these import, directly or through others. They
  are found by reading the import statements, so that no list of files is kept by hand. Modules are compared by their
  compiled code without docstrings: a changed comment changes nothing, a changed statement does;
- libraries: the versions of Python and of the third-party packages that these modules import;
- data and options: whatever else the caller names, files by their content (`vitmalis.paths.file_sha256`).
"""

from __future__ import annotations

import ast
import hashlib
import platform
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from types import CodeType

import msgspec

SOURCES = Path(__file__).parents[1]
"""The folder of our packages: `src` in a checkout, `site-packages` where they are installed."""
PACKAGES = ("vitmalis", "vitmalis_jobs")
"""Packages whose modules count by their code; all others count by their version."""
DETECTORS = "vitmalis.detector.loading"
"""The module that imports all that boxes depend on: every kind of model, weights and engines."""


def digest(facts: object) -> str:
    """SHA-256 of anything that JSON can hold, hexadecimal."""
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


@lru_cache(maxsize=64)
def code_fingerprint(*modules: str) -> str:
    """Fingerprint of the code and the libraries behind some modules, as they were when it was first asked for.

    Args:
        modules: dotted names of the modules that compute the result, such as `vitmalis.references`. Those outside
            `PACKAGES` are left out.

    Returns:
        64 hexadecimal digits.
    """
    used = imported_modules(*modules)
    libraries = sorted({name for module in used for name in _source(module).libraries})
    versions = [(name, version) for name in libraries if (version := _version(name))]
    return digest([[(module, _source(module).code) for module in used], versions, platform.python_version()])


def imported_modules(*modules: str) -> list[str]:
    """These modules and all of `PACKAGES` that they import, directly or through others, in alphabetical order.

    Imports inside functions count, those for type checkers alone (`if TYPE_CHECKING:`) do not.
    """
    found: set[str] = set()
    waiting = [name for name in modules if _path(name)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [other for other in _source(name).imports if other not in found]
    return sorted(found)


class _Source(msgspec.Struct, frozen=True):
    """What one module says: a digest of its code, our modules and the other top-level packages that it imports."""

    code: str
    imports: tuple[str, ...]
    libraries: tuple[str, ...]


@cache
def _source(module: str) -> _Source:
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(module)
    tree = ast.parse(path.read_bytes(), str(path))
    code = hashlib.sha256()
    _hash_code(compile(tree, module, "exec", dont_inherit=True, optimize=2), code)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = set(_imported_names(tree, package))
    ours = {part for name in names if name.split(".")[0] in PACKAGES for part in _with_packages(name)}
    others = {name.split(".")[0] for name in names} - set(PACKAGES) - sys.stdlib_module_names
    return _Source(code.hexdigest(), tuple(sorted(ours)), tuple(sorted(others)))


@cache
def _path(module: str) -> Path | None:
    """File of one of our modules; None for any other name."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return None
    base = SOURCES.joinpath(*parts)
    return next((path for path in (base / "__init__.py", base.with_name(f"{base.name}.py")) if path.is_file()), None)


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
