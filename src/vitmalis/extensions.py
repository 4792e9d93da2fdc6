"""Extension points: classes of one kind, found by the name of a shipped one, an entry point, or a dotted name.

A package of one's own is not known here. A configuration names its class (`_target_: mylab.policies.Thrifty`), or the
installed package offers it as an entry point (`[project.entry-points."vitmalis.policies"]`).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec

from vitmalis.errors import UserError

TARGET = "_target_"
"""Key of a configuration that names a class, as in Hydra."""

_T = TypeVar("_T")
Errors = tuple[type[UserError], ...]


@dataclass(frozen=True, slots=True)
class ExtensionPoint(Generic[_T]):
    """A kind of class that a run is made of.

    Attributes:
        what: the kind in errors, and its section in a configuration, such as "policy".
        group: its entry points, such as "vitmalis.policies".
        base: the class that all others derive from.
        shipped: those of this package by name.
        pending: see `construct`.
    """

    what: str
    group: str
    base: type[Any]
    shipped: Mapping[str, type[_T]]
    pending: Errors = ()

    def find(self, name: str) -> type[_T]:
        """The class called `name`: a shipped one, an entry point, or a dotted name such as `mylab.policies.Thrifty`.

        Raises:
            UserError: there is none, or it cannot be used in this place.
        """
        if name in self.shipped:
            return self.shipped[name]
        target = entry_points(self.group).get(name, name)
        found = self._imported(target)
        if not (isinstance(found, type) and issubclass(found, self.base)):
            base = f"{self.base.__module__}.{self.base.__qualname__}"
            raise UserError(f"{self.what} '{target}' is no subclass of {base}: derive it from that class")
        if missing := sorted(getattr(found, "__abstractmethods__", ())):
            raise UserError(f"{self.what} '{target}' lacks {', '.join(missing)}: define what its base leaves open")
        return found

    def build(self, name: str, options: Mapping[str, Any]) -> _T:
        """Build the class called `name` with its options as keyword arguments.

        Raises:
            UserError: it cannot be found, or an option is unknown, missing or of the wrong type.
        """
        return construct(f"{self.what} '{name}'", self.find(name), options, self.pending)

    def _imported(self, target: str) -> Any:
        *path, attribute = target.replace(":", ".").split(".")
        if not (path and all(path)):  # a relative name is relative to nothing here
            known = [*self.shipped, *entry_points(self.group)]
            chosen = f"choose one of {', '.join(known)}, or " if known else ""
            raise UserError(
                f"{self.what} '{target}' is unknown: {chosen}name a class of your own, such as "
                f"{TARGET}: mypackage.{attribute or 'Mine'}"
            )
        what = f"{self.what} '{target}'"
        return _attribute(what, _import(what, path), attribute)


@cache
def entry_points(group: str) -> dict[str, str]:
    """Entry points that installed packages declare for a group: dotted names of classes by the names they are given."""
    return {entry.name: entry.value.replace(":", ".") for entry in metadata.entry_points(group=group)}


def _import(what: str, path: Sequence[str]) -> Any:
    """Import the module that a class is defined in, or find the class that it is nested in.

    Raises:
        UserError: a module, or one that it imports, or an outer class is not there.
    """
    module = ".".join(path)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = str(error.name)
        if name != module and not module.startswith(f"{name}."):
            raise UserError(f"{what}: its module needs '{name}', which is not installed here: install it") from error
        if len(path) > 1:
            outer = _import(what, path[:-1])
            if hasattr(outer, path[-1]) or not hasattr(outer, "__path__"):  # else it is a module that a package lacks
                return _attribute(what, outer, path[-1])
        raise UserError(
            f"{what}: there is no module '{name}' here: install its package (pip install -e FOLDER), or start with "
            f"PYTHONPATH=FOLDER, the folder that {name.partition('.')[0]} lies in"
        ) from error


def _attribute(what: str, holder: Any, name: str) -> Any:
    """An attribute of a module or class; raises `UserError` where there is none."""
    try:
        return getattr(holder, name)
    except AttributeError:
        similar = difflib.get_close_matches(name, dir(holder), 1)
        kind = "module" if isinstance(holder, ModuleType) else "class"
        of = getattr(holder, "__name__", repr(holder))
        hint = f"did you mean {similar[0]}?" if similar else f"define it in {getattr(holder, '__file__', None) or of}"
        raise UserError(f"{what}: {kind} '{of}' has no '{name}': {hint}") from None


def construct(what: str, kind: type[_T], options: Mapping[str, Any], pending: Errors = ()) -> _T:
    """Call a class with options as keyword arguments, and say in one line which of them it does not take.

    Args:
        what: names the class in errors, such as "policy 'thrifty'".
        kind: the class.
        options: by name; those of nested types are not checked.
        pending: errors that say what will be there later; an option of the wrong type is reported before them.

    Raises:
        UserError: an option is unknown, missing or of the wrong type, or the constructor raises it.
    """
    declared = parameters(kind)
    if unknown := sorted(options.keys() - declared.keys()):
        raise UserError(
            f"{what} does not take these options ({dict(options)}): got an unexpected keyword argument "
            f"{', '.join(map(repr, unknown))}"
        )
    needed = [name for name, option in declared.items() if _is_required(option) and name not in options]
    if needed:
        raise UserError(f"{what} needs {', '.join(needed)}: give a value in its section of the configuration")
    mistyped = _mistyped(declared, options)
    try:
        built = kind(**options)
    except (TypeError, *pending):  # type: ignore[misc]
        if not mistyped:
            raise  # a TypeError then is a bug in the class
    if mistyped:
        raise UserError(f"{what}: {mistyped}")
    return built


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """The options of a class by name, annotated by their types, with those that its constructor passes to its base."""
    found: dict[str, inspect.Parameter] = {}
    for constructor in (vars(base)["__init__"] for base in kind.__mro__[:-1] if "__init__" in vars(base)):
        types = get_type_hints(constructor)
        own = list(inspect.signature(constructor).parameters.values())[1:]
        named = [option for option in own if option.kind is not inspect.Parameter.VAR_KEYWORD]
        found = {option.name: option.replace(annotation=types.get(option.name, Any)) for option in named} | found
        if named == own:
            break
    return found


def _is_required(option: inspect.Parameter) -> bool:
    return option.default is option.empty and option.kind is not option.VAR_POSITIONAL


def _mistyped(declared: Mapping[str, inspect.Parameter], options: Mapping[str, Any]) -> str:
    """Say which option is not of the type that the constructor declares; empty if all are."""
    for option, value in options.items():
        try:
            msgspec.convert(value, declared[option].annotation)
        except msgspec.ValidationError as error:
            return f"{option}={value}: {error}"
        except TypeError:  # a type that msgspec does not know, such as a class of the user's own
            continue
    return ""
