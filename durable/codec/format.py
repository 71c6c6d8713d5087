"""How the values of one annotation are checked, written as JSON and read back: pydantic, and what it leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NotRequired, cast
from uuid import uuid4

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator
from typing_extensions import TypeAliasType, TypedDict

from durable.codec.canonical import with_sorted_sets
from durable.codec.explain import explain, misfit, write_failure
from durable.codec.limits import Limits
from durable.codec.plan import make_plan
from durable.codec.rules import MOST_DIGITS, Refused, TooDeep, find_unstorable, has_long_number, has_nul, json_depth
from durable.codec.same_types import find_changed_type
from durable.codec.walk import Check
from durable.errors import ConfigurationError, PayloadTooLarge, SerializationError

__all__ = ["Format", "format_of", "format_of_fields"]

# Bytes need not be UTF-8. Models keep their own configuration; dataclasses and TypedDicts without one take this.
_CONFIG: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

# Both are made from annotations at run time, which type checkers do not allow for.
_make_alias: Final[Any] = TypeAliasType
_make_typed_dict: Final[Any] = TypedDict


class Format:
    """Validates, writes and reads the values of one annotation.

    JSON carries field names, never aliases, so that changing an alias leaves stored rows readable. Of an instance of a
    subclass only the fields of the annotated class are stored: the annotation alone says what comes back.
    """

    __slots__ = (
        "_deepest",
        "_limits",
        "_needs_more",
        "_plan",
        "_read",
        "_unsuspicious_bytes",
        "_validate",
        "_write",
        "_write_plain",
    )

    def __init__(
        self, adapter: TypeAdapter[Any], validator: SchemaValidator, limits: Limits, own_levels: int = 0
    ) -> None:
        """`own_levels` are those that the library puts around what the user nested."""
        plan = make_plan(adapter.core_schema, limits.max_depth)
        self._validate = validator.validate_python
        self._read = validator.validate_json
        self._write = adapter.serializer.to_json
        self._write_plain = adapter.serializer.to_python
        self._limits = limits
        self._deepest = limits.max_depth + own_levels
        self._unsuspicious_bytes = min(MOST_DIGITS, limits.max_payload_bytes)
        self._plan = plan
        self._needs_more = (
            plan.has_sets or plan.must_reload or plan.is_unbounded or plan.has_floats or plan.check is not None
        )

    @property
    def runs_no_user_code(self) -> bool:
        """Validating and writing a value takes microseconds for certain, and has no effect."""
        return not (self._plan.has_objects or self._plan.must_reload)

    def validate(self, value: Any) -> Any:
        """Return the value made to fit, fields by name or alias; raises pydantic's ValidationError."""
        return self._validate(value, by_alias=True, by_name=True)

    def read(self, text: str | bytes) -> Any:
        """Return the value of stored JSON; raises pydantic's ValidationError."""
        return self._read(text, by_alias=False, by_name=True)

    def write(self, value: Any, path: str) -> bytes:
        """Return the JSON of a validated value.

        Raises SerializationError with the path of what cannot be stored, and PayloadTooLarge.
        """
        try:
            # Values fresh from the validator fit their annotations. Naming the strict mode costs a microsecond.
            if self._plan.has_objects:
                text = self._write(value, by_alias=False, round_trip=True, warnings="error")
            else:
                text = self._write(value, by_alias=False, round_trip=True, warnings=False)
        except Exception as error:  # user code in serializers may raise anything
            raise self._why_unwritten(value, path, error) from None
        if b"\\u0000" in text or len(text) > self._unsuspicious_bytes:
            self._look_closer(value, text, path)
        return self._write_further(value, text, path) if self._needs_more else text

    def _look_closer(self, value: Any, text: bytes, path: str) -> None:
        if len(text) > self._limits.max_payload_bytes:  # first, because the further steps copy the text
            raise PayloadTooLarge(path, len(text), self._limits.max_payload_bytes)
        if has_nul(text):
            self._find(value, path)
            raise SerializationError(path, "contains NUL (U+0000), which Postgres cannot hold")
        if has_long_number(text):
            self._find(value, path)

    def _write_further(self, value: Any, text: bytes, path: str) -> bytes:
        plan = self._plan
        if plan.has_floats and (b"null" in text or b"NaN" in text or b"Infinity" in text):
            self._find(value, path)
        if plan.check is not None:
            self._check(value, path)
        if plan.is_unbounded and json_depth(text, self._deepest) > self._deepest:
            raise self._too_deep(path)
        if plan.has_sets:
            text = with_sorted_sets(value, text)
        if plan.must_reload:
            self._reload(value, text, path)
        return text

    def _reload(self, value: Any, text: bytes, path: str) -> None:
        try:
            loaded = self.read(text)
        except Exception as error:  # user code in validators may raise anything
            why = explain(error, path) if isinstance(error, ValidationError) else f"{type(error).__name__} was raised"
            raise SerializationError(path, f"is written as JSON that cannot be read back: {why}") from None
        if self._plan.is_ambiguous:
            self._apply(lambda it: find_changed_type(it, loaded), value, path)

    def _why_unwritten(self, value: Any, path: str, error: Exception) -> SerializationError:
        """Give the error with the exact place, looking in turn for every cause that is known."""
        try:
            self._find(value, path)
            self._check(value, path)
            # The validator passes objects on unread; written as plain data, they are read in full.
            plain = self._write_plain(value, by_alias=False, round_trip=True, warnings=False)
            self._validate(plain, by_alias=False, by_name=True)
        except SerializationError as found:
            return found
        except ValidationError as found:
            return misfit(found, path)
        except Exception:  # the search fails where the writing failed, and says no more than that
            return SerializationError(path, write_failure(error))
        return SerializationError(path, write_failure(error))

    def _find(self, value: Any, path: str) -> None:
        self._apply(lambda it: find_unstorable(it, self._deepest), value, path)

    def _check(self, value: Any, path: str) -> None:
        if self._plan.check is not None:
            self._apply(self._plan.check, value, path)

    def _apply(self, check: Check, value: Any, path: str) -> None:
        try:
            check(value)
        except TooDeep:
            raise self._too_deep(path) from None
        except Refused as refused:
            raise SerializationError(refused.path(path), refused.why) from None

    def _too_deep(self, path: str) -> SerializationError:
        return SerializationError(path, f"is nested deeper than {self._limits.max_depth} levels")


def format_of(annotation: Any, where: str, limits: Limits) -> Format:
    """Return the format of one annotation; raises ConfigurationError, starting with `where`, if it has none."""
    try:
        # Pydantic takes no configuration beside a dataclass or a TypedDict; it does beside an alias of one.
        adapter: TypeAdapter[Any] = TypeAdapter(_make_alias(_unique("Payload"), annotation), config=_CONFIG)
        return Format(adapter, cast("SchemaValidator", adapter.validator), limits)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    except Exception as error:  # user classes take part in building a schema and may raise anything
        raise ConfigurationError(f"{where}: {_unusable(annotation, error)}") from error


def format_of_fields(fields: Mapping[str, tuple[Any, bool]], where: str, limits: Limits) -> Format:
    """Return the format of a dict with these keys; each has its annotation and whether it must be there.

    Reading a key that is not among them is an error: another version of the caller meant something by it.
    """
    for name, (annotation, _) in fields.items():
        format_of(annotation, f"{where}, {name}", limits)
    keys = {
        name: annotation if is_required else NotRequired[annotation]
        for name, (annotation, is_required) in fields.items()
    }
    shape = _make_typed_dict("Input", keys)
    shape.__pydantic_config__ = _CONFIG
    adapter: TypeAdapter[Any] = TypeAdapter(_make_alias(_unique("Input"), shape), config=_CONFIG)
    return Format(adapter, SchemaValidator(_without_extras(adapter.core_schema)), limits, own_levels=1)


def _unique(name: str) -> str:
    """Pydantic knows a type by name and address, and keeps what it found: an address is used again, this is not."""
    return f"{name}_{uuid4().hex}"


def _without_extras(schema: Any) -> Any:
    """Forbid unknown keys here only; by configuration it would also hold for every dataclass inside."""
    if schema["type"] == "definitions":
        return {**schema, "schema": _without_extras(schema["schema"])}
    return {**schema, "extra_behavior": "forbid"}


def _unusable(annotation: Any, error: Exception) -> str:
    if isinstance(error, PydanticSchemaGenerationError):
        return f"{annotation!r} cannot be stored as JSON; use a plain type, a dataclass or a pydantic model"
    if isinstance(error, PydanticUserError):
        return f"{annotation!r} cannot be used: {error.message}"
    return f"{annotation!r} cannot be used: {type(error).__name__}: {error}"
