"""Reads an annotation's pydantic schema once, to know which checks its values need beyond what pydantic does.

Pydantic writes JSON fast but trusts what it is given: NaN becomes null, dict keys that are equal as text are both
written, and a value without an annotation is written by a guess that cannot be undone. A plan lists which of these
can happen for one annotation at all, so that an annotation of plain types pays for none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

from pydantic import Secret, SecretBytes, SecretStr

from durable.codec.rules import check_json, check_key, check_number_key
from durable.codec.walk import (
    Check,
    check_all,
    check_attributes,
    check_items,
    check_keyed,
    check_mapping,
    check_nothing,
)
from durable.errors import ConfigurationError

__all__ = ["Plan", "make_plan"]

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the values of one annotation need when they are written."""

    check: Check | None
    """Walks to the places without an annotation, and to dict keys; None if there are none."""
    has_floats: bool
    has_sets: bool
    is_unbounded: bool
    """Values may be nested as deep as the user likes."""
    has_objects: bool
    """Holds objects that pydantic passes on as they are, so their contents may break their own annotations."""
    must_reload: bool
    """Holds a user's own code, or a kind unknown here: only reading the text back shows that it can be read."""
    is_ambiguous: bool
    """A union whose members look alike in JSON: reading back must give the same types."""


def make_plan(schema: Schema, max_depth: int) -> Plan:
    """Return the plan for a pydantic core schema; raises ConfigurationError for a type that JSON can never give."""
    _refuse_secrets(schema)
    survey = _Survey(max_depth)
    check = survey.visit(schema)
    return Plan(
        check=check if survey.has_rules else None,
        has_floats=survey.has_floats,
        has_sets=survey.has_sets,
        is_unbounded=survey.is_unbounded,
        has_objects=survey.has_objects,
        must_reload=survey.must_reload or survey.is_ambiguous,
        is_ambiguous=survey.is_ambiguous,
    )


class _Survey:
    """One walk over a schema: collects the flags, and builds the check from the inside out."""

    def __init__(self, max_depth: int) -> None:
        self.max_depth = max_depth
        self.has_rules = False
        self.has_floats = False
        self.has_sets = False
        self.is_unbounded = False
        self.has_objects = False
        self.must_reload = False
        self.is_ambiguous = False
        self._definitions: dict[str, Schema] = {}
        self._checks: dict[str, Check | None] = {}
        self._open_definitions: set[str] = set()

    def visit(self, schema: Schema) -> Check | None:
        writer = schema.get("serialization")
        if writer is not None:
            self._trust_nothing()
            if writer["type"] not in _WRAPPING_WRITERS:
                return None
        kind = schema["type"]
        if kind in _JSON_KINDS_OF_LEAVES:
            self._leaf(kind, schema)
            return None
        visit = _VISITS.get(kind)
        if visit is None:
            self._trust_nothing()
            return None
        return visit(self, schema)

    def _leaf(self, kind: str, schema: Schema) -> None:
        if kind in _FLOATS:
            self.has_floats = True
        elif kind == "enum":
            values = [member.value for member in cast("list[Enum]", schema["members"])]
            self.must_reload |= not all(isinstance(value, (str, int)) for value in values)

    def _trust_nothing(self) -> None:
        self.must_reload = self.has_objects = self.has_floats = self.is_unbounded = True

    def anything(self, schema: Schema) -> Check:
        self.has_rules = True
        room = self.max_depth  # the check looks at the depth from here on, so the text need not be looked at
        return lambda value: check_json(value, room)

    def unreadable(self, schema: Schema) -> None:
        cls = schema.get("cls")
        plain = f"{getattr(cls, '__name__', cls)} cannot be read back from JSON; pass its data instead"
        raise ConfigurationError(_UNREADABLE.get(schema["type"], plain))

    def wrapper(self, schema: Schema) -> Check | None:
        return self.visit(schema["schema"])

    def function(self, schema: Schema) -> Check | None:
        self.must_reload = self.has_objects = True
        return self.visit(schema["schema"])

    def nullable(self, schema: Schema) -> Check | None:
        check = self.visit(schema["schema"])
        return None if check is None else lambda value: None if value is None else check(value)

    def lax_or_strict(self, schema: Schema) -> Check | None:
        return self.visit(schema["lax_schema"])

    def json_or_python(self, schema: Schema) -> Check | None:
        return self.visit(schema["json_schema"])

    def chain(self, schema: Schema) -> Check | None:
        checks = [self.visit(part) for part in schema["steps"] if part["type"] != "is-instance"]
        return next((check for check in checks if check is not None), None)

    def items(self, schema: Schema) -> Check | None:
        self.has_sets |= schema["type"] in ("set", "frozenset")
        inner = schema.get("items_schema")
        check = self.anything(schema) if inner is None else self.visit(inner)
        return None if check is None else check_items([check], 0)

    def tuple_items(self, schema: Schema) -> Check | None:
        checks = [self.visit(item) for item in schema["items_schema"]]
        if all(check is None for check in checks):
            return None
        return check_items([check or check_nothing for check in checks], schema.get("variadic_item_index"))

    def mapping(self, schema: Schema) -> Check | None:
        keys, values = schema.get("keys_schema"), schema.get("values_schema")
        check_of_keys = self._keys(keys)
        check_of_values = self.anything(schema) if values is None else self.visit(values)
        if check_of_keys is None and check_of_values is None:
            return None
        self.has_rules = True
        return check_mapping(check_of_keys, check_of_values)

    def _keys(self, schema: Schema | None) -> Check | None:
        """Give the check of a dict's keys: kinds that are known to come back from text need none."""
        while schema is not None and schema["type"] in _TRANSPARENT:
            self.must_reload = True
            schema = schema["schema"]
        kind = "any" if schema is None else schema["type"]
        if kind in ("float", "decimal"):
            return check_number_key
        if kind in _KEYS or (schema is not None and _is_text(schema)):
            return None
        return check_key

    def model(self, schema: Schema) -> Check | None:
        self.has_objects = True
        body = schema["schema"]
        if schema.get("root_model"):
            check = self.visit(body)
            return None if check is None else lambda value: check(value.root)
        while body["type"] in _TRANSPARENT:
            self.must_reload = True
            body = body["schema"]
        checks = self._fields(body)
        extras = self._extras(body, schema)
        if not checks and extras is None:
            return None
        return check_attributes(schema["cls"], checks, extras)

    def typed_dict(self, schema: Schema) -> Check | None:
        checks = self._fields(schema)
        extras = self._extras(schema, schema)
        return None if not checks and extras is None else check_keyed(checks, extras)

    def named_tuple(self, schema: Schema) -> Check | None:
        checks = self._fields(schema)
        return check_attributes(schema["cls"], checks, None) if checks else None

    def _fields(self, schema: Schema) -> dict[str, Check]:
        """Give the checks of the fields of a model, a dataclass, a TypedDict or a NamedTuple, by name."""
        fields: Any = schema.get("fields", ())
        if not isinstance(fields, Mapping):  # dataclasses and NamedTuples list them in order
            fields = {field["name"]: field for field in fields}
        checks: dict[str, Check] = {}
        for name, field in cast("Mapping[str, Schema]", fields).items():
            self.must_reload |= "serialization_exclude" in field or "serialization_exclude_if" in field
            check = self.visit(field["schema"])
            if check is not None:
                checks[name] = check
        return checks

    def _extras(self, *schemas: Schema) -> Check | None:
        """Give the check of the fields nobody declared, if the model keeps them."""
        for schema in schemas:
            behavior = schema.get("extra_behavior") or schema.get("config", {}).get("extra_fields_behavior")
            if behavior == "allow":
                inner = schema.get("extras_schema")
                return self.anything(schema) if inner is None else self.visit(inner)
        return None

    def union(self, schema: Schema) -> Check | None:
        choices = schema["choices"]
        if isinstance(choices, Mapping):  # tagged: the tag tells the members apart
            members = list(cast("Mapping[Any, Schema]", choices).values())
        else:  # a member may come with a label
            listed = cast("list[Schema | tuple[Schema, str]]", choices)
            members = [choice[0] if isinstance(choice, tuple) else choice for choice in listed]
            self.is_ambiguous |= self._look_alike(members)
        checks = [check for member in members if (check := self.visit(member)) is not None]
        return check_all(checks) if checks else None

    def _look_alike(self, members: list[Schema]) -> bool:
        kinds = [_json_kind(member) for member in members]
        return None in kinds or len(set(kinds)) < len(kinds)

    def definitions(self, schema: Schema) -> Check | None:
        for definition in schema["definitions"]:
            self._definitions[definition["ref"]] = definition
        return self.visit(schema["schema"])

    def reference(self, schema: Schema) -> Check | None:
        """Visit each definition once; inside itself, its check is looked up when a value comes."""
        name: str = schema["schema_ref"]
        if name in self._open_definitions:
            self.is_unbounded = True
            return self._check_later(name)
        if name not in self._checks:
            self._open_definitions.add(name)
            self._checks[name] = self.visit(self._definitions[name])
            self._open_definitions.remove(name)
        return self._checks[name]

    def _check_later(self, name: str) -> Check:
        def check(value: Any) -> None:
            (self._checks[name] or check_nothing)(value)

        return check


def _is_text(schema: Schema) -> bool:
    """Say whether every value of a Literal or an Enum is text, so that it is the same as a key."""
    if schema["type"] == "literal":
        return all(type(value) is str for value in schema["expected"])
    return schema["type"] == "enum" and all(isinstance(member.value, str) for member in schema["members"])


def _json_kind(schema: Schema) -> str | None:
    """Give what a schema's values look like in JSON, or None if that takes more than one look to say."""
    while schema["type"] in _TRANSPARENT:
        schema = schema["schema"]
    return _JSON_KINDS.get(schema["type"])


def _refuse_secrets(schema: object) -> None:
    """Raise ConfigurationError for pydantic's secret types: they are written as asterisks, so the value is lost."""
    if isinstance(schema, Mapping):
        node = cast("Mapping[str, object]", schema)
        cls = node.get("cls")
        if isinstance(cls, type) and issubclass(cls, (Secret, SecretStr, SecretBytes)):
            raise ConfigurationError(
                f"{cls.__name__} is written as asterisks, so its value would be lost; "
                "take the plain type, and encrypt payloads with a payload codec"
            )
        for name, part in node.items():
            if name not in _NOT_SCHEMAS:
                _refuse_secrets(part)
    elif isinstance(schema, (list, tuple)):
        for part in cast("list[object]", schema):
            _refuse_secrets(part)


_NOT_SCHEMAS: Final = frozenset(("metadata", "config", "function", "default", "expected", "members"))
_WRAPPING_WRITERS: Final = frozenset(("function-wrap", "include-exclude-sequence", "include-exclude-dict"))
_FLOATS: Final = frozenset(("float", "decimal", "complex"))
_KEYS: Final = frozenset(("str", "int", "bool", "uuid", "date", "datetime", "time", "timedelta"))
_TRANSPARENT: Final = frozenset(("function-before", "function-after", "function-wrap", "default", "custom-error"))
_UNREADABLE: Final = {
    "is-subclass": "a class cannot be read back from JSON; pass its name and look it up",
    "generator": "an Iterable or Iterator is used up while it is written; annotate list[…] or Sequence[…]",
    "callable": "a function cannot be read back from JSON; pass its name and look it up",
}

_JSON_KINDS_OF_LEAVES: Final[Mapping[str, str]] = {
    "none": "null",
    "bool": "bool",
    "int": "int",
    "float": "float",
    **dict.fromkeys(
        ("str", "bytes", "date", "time", "datetime", "timedelta", "uuid", "decimal", "complex", "url"), "str"
    ),
    "multi-host-url": "str",
    "literal": "",
    "enum": "",
}
_JSON_KINDS: Final[Mapping[str, str]] = {
    **{kind: json for kind, json in _JSON_KINDS_OF_LEAVES.items() if json},
    **dict.fromkeys(("list", "tuple", "set", "frozenset", "deque", "named-tuple"), "array"),
    **dict.fromkeys(("dict", "ordered-dict", "counter", "typed-dict", "model", "dataclass"), "object"),
}

_VISITS: Final[Mapping[str, Callable[[_Survey, Schema], Check | None]]] = {
    "any": _Survey.anything,
    "nullable": _Survey.nullable,
    "list": _Survey.items,
    "set": _Survey.items,
    "frozenset": _Survey.items,
    "deque": _Survey.items,
    "tuple": _Survey.tuple_items,
    "dict": _Survey.mapping,
    "ordered-dict": _Survey.mapping,
    "counter": _Survey.mapping,
    "typed-dict": _Survey.typed_dict,
    "model": _Survey.model,
    "dataclass": _Survey.model,
    "named-tuple": _Survey.named_tuple,
    "union": _Survey.union,
    "tagged-union": _Survey.union,
    "default": _Survey.wrapper,
    "custom-error": _Survey.wrapper,
    "json": _Survey.wrapper,
    "function-before": _Survey.function,
    "function-after": _Survey.function,
    "function-wrap": _Survey.function,
    "lax-or-strict": _Survey.lax_or_strict,
    "json-or-python": _Survey.json_or_python,
    "chain": _Survey.chain,
    "definitions": _Survey.definitions,
    "definition-ref": _Survey.reference,
    "generator": _Survey.unreadable,
    "callable": _Survey.unreadable,
    "is-instance": _Survey.unreadable,
    "is-subclass": _Survey.unreadable,
}
