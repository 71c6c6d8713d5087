"""Puts pydantic's errors into words that name the place and the type of a value, never the value itself."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from durable.codec.rules import step
from durable.errors import SerializationError

__all__ = ["explain", "misfit", "surrogate_in", "write_failure"]

_MOST_ERRORS: Final = 3
_LONGEST_MESSAGE: Final = 200


def explain(error: ValidationError, root: str) -> str:
    """Return the first few errors, each as path, expectation and the type that was found instead."""
    errors: list[Any] = error.errors(include_url=False, include_context=False)
    words = [_one(each, root) for each in errors[:_MOST_ERRORS]]
    if len(errors) > _MOST_ERRORS:
        words.append(f"and {len(errors) - _MOST_ERRORS} more")
    return "; ".join(words)


def surrogate_in(error: ValidationError, root: str) -> SerializationError | None:
    """Return the error for a string that pydantic refused for a lone surrogate, or None if there is no such string."""
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        if each["type"] == "string_unicode":
            return SerializationError(_place(each["loc"], root), "contains a lone surrogate, which UTF-8 cannot hold")
    return None


def misfit(error: ValidationError, root: str) -> SerializationError:
    """Return the error for a value that does not fit its annotation, with the first place that does not."""
    surrogate = surrogate_in(error, root)
    if surrogate is not None:
        return surrogate
    errors: list[Any] = error.errors(include_url=False, include_context=False)
    others = f"; and {len(errors) - 1} more" if len(errors) > 1 else ""
    first = errors[0]
    return SerializationError(_place(first["loc"], root), f"does not fit its annotation: {_expectation(first)}{others}")


def write_failure(error: Exception) -> str:
    """Return why a value could not be written, without the values that pydantic's own text quotes."""
    text = str(error) if isinstance(error, PydanticSerializationError) else ""
    if text.startswith("Pydantic serializer warnings"):
        return "holds a value of another type than its annotation says"
    if "invalid utf-8" in text:
        return (
            "holds bytes that are no UTF-8; give the model "
            'model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")'
        )
    return f"cannot be written as JSON: {text[:_LONGEST_MESSAGE] or f'{type(error).__name__} was raised'}"


def _one(each: Any, root: str) -> str:
    return f"{_place(each['loc'], root)}: {_expectation(each)}"


def _expectation(each: Any) -> str:
    found = "" if each["type"] in ("missing", "json_invalid") else f", got {type(each['input']).__name__}"
    return f"{each['msg'][:_LONGEST_MESSAGE]}{found}"


def _place(loc: tuple[int | str, ...], root: str) -> str:
    return root + "".join(step(part) for part in loc)
