"""Find the app that `module:app` names."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from operator import attrgetter
from types import ModuleType

from durable.app import Durable
from durable.errors import ConfigurationError

__all__ = ["load_app"]


def load_app(target: str) -> Durable:
    """Import the module, with the working directory on sys.path, and give the app in it.

    Raises ConfigurationError for a name that leads nowhere; what the module itself raises passes through.
    """
    module_name, _, attribute = target.partition(":")
    if not attribute or not all(part.isidentifier() for part in module_name.split(".")) or module_name.endswith(".py"):
        raise ConfigurationError(
            f"{target[:80]!r} does not name an app; give MODULE:APP with the dotted name of the module, such as"
            " shop.main:app"
        )
    module = _module(module_name)
    try:
        found = attrgetter(attribute)(module)
    except AttributeError:
        raise ConfigurationError(f"module {module_name} has no {attribute!r}; {_apps_in(module)}") from None
    if not isinstance(found, Durable):
        raise ConfigurationError(f"{target} is a {type(found).__name__}, not a Durable app; {_apps_in(module)}")
    return found


def _module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and misses another one
        raise ConfigurationError(f"there is no module {error.name!r} here or on the path: {os.getcwd()}") from None


def _apps_in(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Durable))
    return f"apps in it: {', '.join(names)}" if names else "there is no app in it"
