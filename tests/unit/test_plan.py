"""An annotation pays for exactly those checks that its values can need."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PlainSerializer,
    RootModel,
    TypeAdapter,
    WrapSerializer,
    model_validator,
)
from typing_extensions import TypedDict

from durable.codec.plan import make_plan
from durable.codec.rules import Refused
from tests.unit.payload_models import NAN, NOON, Color, Item, Left, Right, Tree, refusal, shape


class Mixed(Enum):
    PLAIN = "plain"
    PAIR = (1, 2)


class Named(NamedTuple):
    x: int
    extra: Any


class Loose(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    x: int


class Noted(TypedDict):
    note: Any


class Root(RootModel[Any]):
    pass


class RootOfInts(RootModel[list[int]]):
    pass


class Guarded(BaseModel):
    x: int

    @model_validator(mode="after")
    def guard(self) -> "Guarded":
        return self


class Hidden(BaseModel):
    x: int = Field(5, exclude=True)


@dataclass
class Chain:
    rest: "Chain | None" = None


def same(value: Any) -> Any:
    return value


Checked = Annotated[str, AfterValidator(same)]
Written = Annotated[Any, PlainSerializer(str)]


def wrapped(value: Any, write: Any) -> Any:
    return write(value)


PLANS: list[tuple[Any, set[str]]] = [
    (int, set()),
    (str | None, set()),
    (dict[str, list[tuple[int, str]]], set()),
    (dict[UUID, datetime], set()),
    (list[Literal["a", 1] | None], set()),
    (Color, set()),
    (Mixed, {"must_reload"}),
    (float, {"has_floats"}),
    (list[Decimal | None], {"has_floats"}),
    (set[int], {"has_sets"}),
    (dict[str, frozenset[int]], {"has_sets"}),
    (Left, {"has_objects"}),
    (list[Left], {"has_objects"}),
    (Item, {"has_objects", "has_floats", "check"}),
    (RootOfInts, {"has_objects"}),
    (Root, {"has_objects", "check"}),
    (Any, {"check"}),
    (dict[str, Any], {"check"}),
    (OrderedDict[str, Any], {"check"}),
    (Named, {"check"}),
    (Noted, {"check"}),
    (Loose, {"check"}),
    (dict[float, int], {"check"}),
    (dict[int | str, int], {"check"}),
    (dict[Color, int], set()),
    (dict[Mixed, int], {"check"}),
    (dict[Literal["a", "b"], int], set()),
    (dict[Literal["a", 1], int], {"check"}),
    (dict[Checked, int], {"must_reload"}),
    (Json[list[int]], set()),
    (Chain, {"has_objects", "is_unbounded"}),
    (Tree, {"has_objects", "is_unbounded", "check"}),
    (Checked, {"has_objects", "must_reload"}),
    (Guarded, {"has_objects", "must_reload"}),
    (Hidden, {"has_objects", "must_reload"}),
    (int | str | None, set()),
    (int | float, {"has_floats"}),
    (
        Annotated[Left | Item, Field(union_mode="left_to_right")],
        {"has_objects", "has_floats", "check", "must_reload", "is_ambiguous"},
    ),
    (UUID | str, {"must_reload", "is_ambiguous"}),
    (Literal["a"] | int, {"must_reload", "is_ambiguous"}),
    (PurePosixPath, {"has_objects", "has_floats", "must_reload", "is_unbounded"}),
    (Written, {"has_objects", "has_floats", "must_reload", "is_unbounded"}),
    (Sequence[Any], {"has_objects", "has_floats", "must_reload", "is_unbounded", "check"}),
    (
        Annotated[list[Any], WrapSerializer(wrapped)],
        {"has_objects", "has_floats", "must_reload", "is_unbounded", "check"},
    ),
    (Hashable, {"check"}),
]


@pytest.mark.parametrize(("annotation", "needs"), PLANS, ids=range(len(PLANS)))
def test_a_plan_needs_exactly(annotation: Any, needs: set[str]) -> None:
    plan = make_plan(TypeAdapter[Any](annotation).core_schema, 100)
    flags = ("has_floats", "has_sets", "is_unbounded", "has_objects", "must_reload", "is_ambiguous")
    assert {name for name in (*flags, "check") if getattr(plan, name)} == needs


REFUSED: list[tuple[Any, Any, str]] = [
    (dict[str, Any] | None, {"a": {1}}, "result.a"),
    (Root, Root([NOON]), "result[0]"),
    (Noted, {"note": {1: 2}}, "result.note"),
    (Loose, {"x": 1, "y": NOON}, "result.y"),
    (Named, Named(1, [NOON]), "result.extra[0]"),
    (Sequence[Any], (1, {2}), "result[1]"),
    (Annotated[list[Any], WrapSerializer(wrapped)], [NOON], "result[0]"),
    (Annotated[Any, AfterValidator(same)], {1: 2}, "result"),
    (Hashable, NOON, "result"),
    (dict[Mixed, int], {Mixed.PLAIN: 1}, "result"),
    (dict[Literal["a", 1], int], {1: 1}, "result"),
    (Mixed, Mixed.PAIR, "result"),
    (Tree, Tree(name="a", children=[Tree(name="b", meta=NOON)]), "result.children[0].meta"),
    (list[Left] | list[Right], [Right(x=1)], "result[0]"),
    (Root, Root(NAN), "result"),
]


@pytest.mark.parametrize(("annotation", "value", "path"), REFUSED, ids=range(len(REFUSED)))
def test_the_check_of_a_plan_reaches_every_place(annotation: Any, value: Any, path: str) -> None:
    assert refusal(annotation, value).path == path


ACCEPTED: list[tuple[Any, Any]] = [
    (dict[str, Any] | None, None),
    (dict[str, Any] | list[Any] | str, "x"),
    (Noted, {"note": {"a": [1]}}),
    (Named, Named(1, None)),
    (Sequence[Any], [1, "x"]),
    (Hashable, "x"),
    (Written, 5),
    (Mixed, Mixed.PLAIN),
    (dict[Checked, int], {"a": 1}),
    (Chain, Chain(Chain(Chain()))),
    (Left | None, None),
    (list[int | str] | tuple[int, ...] | UUID, [1, "a"]),
    (dict[str, int] | Left | None, {"a": 1}),
    (set[int] | UUID | str, {1, 2}),
    (date | datetime, NOON),
    (Decimal | UUID, Decimal("1.5")),
    (Json[list[int]], "[1,2]"),
]


@pytest.mark.parametrize(("annotation", "value"), ACCEPTED, ids=range(len(ACCEPTED)))
def test_what_a_plan_has_no_reason_to_refuse_passes(annotation: Any, value: Any) -> None:
    shape(annotation).load(shape(annotation).dump(value, "result"))


def test_a_kind_of_schema_that_is_not_known_is_read_back_rather_than_trusted() -> None:
    plan = make_plan({"type": "from-the-future"}, 100)
    assert plan.must_reload
    assert plan.has_objects
    assert plan.is_unbounded


def test_a_check_of_a_fixed_tuple_passes_over_a_list_of_another_length() -> None:
    plan = make_plan(TypeAdapter[Any](tuple[int, Any] | list[int]).core_schema, 100)
    assert plan.check is not None
    plan.check([1, 2, 3])
    plan.check("ab")
    with pytest.raises(Refused):
        plan.check((1, NOON))
