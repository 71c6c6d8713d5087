"""How values of the types that our statements return are read, whatever the program around us has registered."""

from __future__ import annotations

from typing import Final

from psycopg.abc import AdaptContext
from psycopg.adapt import Loader
from psycopg.types.bool import BoolLoader
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.numeric import FloatLoader, IntLoader
from psycopg.types.string import TextLoader

__all__ = ["register_loaders"]

_LOADERS: Final[dict[str, type[Loader]]] = {
    "uuid": TextLoader,  # ids are str everywhere
    "text": TextLoader,
    "int2": IntLoader,
    "int4": IntLoader,
    "int8": IntLoader,
    "bool": BoolLoader,
    "float8": FloatLoader,
    "timestamptz": TimestamptzLoader,
}


def register_loaders(context: AdaptContext) -> None:
    """Set them on one of our connections, or on one cursor of a connection that is not ours."""
    for name, loader in _LOADERS.items():
        context.adapters.register_loader(name, loader)
