"""``load_controllers``: from the names in the fleet file to ``Controller`` objects, or to a message that names the problem."""

import importlib
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from raycp.base.text import clean, message_of
from raycp.sdk.controller import Controller

_OWN = str(Path(__file__).parents[1]) + os.sep


class ControllerLoadError(Exception):
    """A module named in ``controllers:`` can't be used. ``module`` is its name; the message has cause, file and line."""

    def __init__(self, module: str, message: str) -> None:
        super().__init__(clean(f"controllers: {module!r} {message}"))
        self.module = module


def load_controllers(modules: Iterable[str]) -> list[Controller]:
    """The controllers of each module, in order; ``"pkg.module:name"`` picks one of several.

    Raises ``ControllerLoadError`` for a module that does not import or holds no controller, and for two controllers of one name.
    """
    found: dict[str, tuple[str, Controller]] = {}
    for use in modules:
        for controller in _of(use):
            before = found.get(controller.name)
            if before is not None and before[1] is not controller:
                raise ControllerLoadError(
                    use,
                    f"has a controller {controller.name!r} (line {controller.line}), and so has {before[0]!r} "
                    f"(line {before[1].line}): give one of them another name=",
                )
            found[controller.name] = (use, controller)
    return [controller for _, controller in found.values()]


def _of(use: str) -> list[Controller]:
    name, _, wanted = use.partition(":")
    if not all(part.isidentifier() for part in name.split(".")):
        raise ControllerLoadError(use, "is not the name of a module: write it as in an import, such as mycontrollers.echo")
    try:
        module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit of a script without a main guard included
        raise ControllerLoadError(use, f"does not import: {_cause(name, error)}") from error
    controllers = [value for value in vars(module).values() if isinstance(value, Controller)]
    controllers = list({id(controller): controller for controller in controllers}.values())
    if wanted:
        controllers = [c for c in controllers if wanted in (c.name, getattr(c.fn, "__name__", None))]
        if not controllers:
            raise ControllerLoadError(use, f"has no controller named {wanted!r}")
    if not controllers:
        where = getattr(module, "__file__", None) or "a namespace package"
        raise ControllerLoadError(use, f"has no controller: no function in {where} carries @controller(...)")
    return controllers


def _cause(name: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and (name == error.name or name.startswith(f"{error.name}.")):
        return f"no module named {error.name!r} on the path ({', '.join(sys.path[:3]) or 'empty'}, ...)"
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno}: {(error.text or '').strip()})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename and f.filename != __file__]
    frames = [f for f in frames if not f.filename.startswith(_OWN)] or frames  # the author's line, not the one here that refuses it
    where = f" ({frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return f"{type(error).__name__}: {message_of(error)}{where}"
