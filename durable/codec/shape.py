"""The stored form of one value: a result, a step's result, a state, a signal or an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar, cast

from pydantic import ValidationError

from durable.codec.explain import misfit
from durable.codec.format import Format
from durable.codec.seal import Seal
from durable.errors import SerializationError

__all__ = ["NULL", "Shape"]

T = TypeVar("T")

NULL: Final = "null"


class Shape(Generic[T]):
    """Writes and reads the values of one annotation; cheap to make, built at first use, usable from any thread."""

    __slots__ = ("_format", "_has_null", "_make", "_seal")

    def __init__(self, make: Callable[[], Format], seal: Seal) -> None:
        self._make = make
        self._seal = seal
        self._format: Format | None = None
        self._has_null = False

    def build(self) -> Format:
        """Build now what is otherwise built at first use; raises ConfigurationError for an unusable annotation."""
        built = self._format
        if built is None:
            built = self._make()
            # None costs nothing where the annotation allows it, and no hook has to see it.
            self._has_null = self._seal.hook is None and _accepts_none(built)
            self._format = built
        return built

    def dump(self, value: T, path: str) -> str:
        """Return the text to store.

        The value is made to fit the annotation as pydantic does (a dict becomes the model). Raises SerializationError
        with the place below `path` that does not fit or cannot be stored, and PayloadTooLarge.
        """
        if value is None and self._has_null:
            return NULL
        built = self._format or self.build()
        try:
            fitting = built.validate(value)
        except ValidationError as error:
            raise misfit(error, path) from None
        except Exception as error:  # user code in validators may raise anything
            raise SerializationError(path, f"could not be validated: {type(error).__name__} was raised") from error
        return self._seal.close(built.write(fitting, path), path)

    def load(self, text: str, path: str = "the stored value") -> T:
        """Return the value of a stored text; raises SerializationError if it does not fit the annotation (any more)."""
        if text == NULL and self._has_null:
            return cast("T", None)
        built = self._format or self.build()
        data = self._seal.open(text, path)
        try:
            return cast("T", built.read(data))
        except ValidationError as error:
            raise misfit(error, path) from None
        except Exception as error:  # as above
            raise SerializationError(path, f"could not be read: {type(error).__name__} was raised") from error


def _accepts_none(built: Format) -> bool:
    try:
        return built.validate(None) is None and built.write(None, "value") == NULL.encode()
    except Exception:  # whatever the reason, None then takes the ordinary way and fails there with its name
        return False
