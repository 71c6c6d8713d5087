"""Types that the tests of payloads write and read."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field, field_serializer
from typing_extensions import TypedDict

from durable.codec import Codec, Shape
from durable.errors import SerializationError

CODEC = Codec()
NAN = float("nan")
NOON = datetime(2031, 5, 6, 12, 0, 0, 123456, tzinfo=UTC)


def shape(annotation: Any) -> Shape[Any]:
    return CODEC.value(annotation)


def refusal(annotation: Any, value: Any) -> SerializationError:
    form = shape(annotation)
    with pytest.raises(SerializationError) as caught:
        form.dump(value, "result")
    with pytest.raises(SerializationError) as again:
        form.dump(value, "result")
    assert str(again.value) == str(caught.value)
    return caught.value


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Pair(Enum):
    BOTH = (1, 2)


class Point(NamedTuple):
    x: int
    y: float


@dataclass
class Line:
    price: float
    blob: bytes = b""
    meta: Any = None


class Bag(TypedDict):
    when: datetime
    raw: bytes


class Labelled(TypedDict):
    label: Annotated[str, Field(alias="theLabel")]


class Item(BaseModel):
    price: float
    meta: dict[str, Any] = {}


class Renamed(BaseModel):
    code: int = Field(alias="theCode")


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: UUID
    items: list[Item] = []
    by_number: dict[int, Decimal] = {}
    kind: Literal["new", "old"] = Field("new", alias="orderKind")

    @computed_field
    def count(self) -> int:
        return len(self.items)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Cat(BaseModel):
    kind: Literal["cat"] = Field("cat", alias="petKind")
    name: str


class Dog(BaseModel):
    kind: Literal["dog"] = Field("dog", alias="petKind")
    name: str


class Left(BaseModel):
    x: int


class Right(BaseModel):
    x: int


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []
    meta: Any = None


class Tags(RootModel[set[str]]):
    pass


@dataclass
class Twice:
    left: Item
    right: Item


class Uneven(BaseModel):
    value: int

    @field_serializer("value")
    def write(self, value: int) -> str:
        return f"<{value}>"


class Poisoning(BaseModel):
    value: str

    @field_serializer("value")
    def write(self, value: str) -> str:
        return f"{value}\0"


class Explosive(BaseModel):
    value: int

    @field_serializer("value")
    def write(self, value: int) -> str:
        raise RuntimeError("boom")


class Utf8Bytes(BaseModel):
    value: bytes


class Dropped(BaseModel):
    value: int = Field(exclude=True)


ORDER = Order(
    id=UUID(int=5),
    items=[Item(price=0.1, meta={"a": [1, None, {"b": "c"}]})],
    by_number={1: Decimal("1.10"), -2: Decimal("2")},
    orderKind="old",
)
