"""Payload codecs, the hash of a payload, and the stored form of errors."""

import json
import logging
import zlib
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.codec import Codec, Limits, PayloadCodec, payload_hash
from durable.codecs import ZlibCodec
from durable.errors import ConfigurationError, ErrorInfo, PayloadTooLarge, SerializationError


class Reversing:
    """Stands for encryption: the stored bytes do not show the payload, and decoding undoes exactly that."""

    def encode(self, data: bytes, /) -> bytes:
        return bytes(255 - byte for byte in reversed(data))

    def decode(self, data: bytes, /) -> bytes:
        return bytes(255 - byte for byte in reversed(data))


class Broken:
    def encode(self, data: bytes, /) -> bytes:
        raise RuntimeError("s3cret key")

    def decode(self, data: bytes, /) -> bytes:
        raise RuntimeError("s3cret key")


def greet(name: str) -> str:
    return name


def stop() -> None: ...


@pytest.mark.parametrize("hook", [Reversing(), ZlibCodec(), ZlibCodec(min_bytes=0)])
@pytest.mark.parametrize("value", ["x", "s3cret" * 1_000, None])
def test_a_payload_codec_covers_every_payload(hook: PayloadCodec, value: str | None) -> None:
    codec = Codec(hook=hook)
    form = codec.value(str | None)
    for text in (form.dump(value, "result"), form.dump(value, "result")):  # built at first use, so both ways twice
        assert text.startswith("~codec:")
        assert "s3cret" not in text
        assert form.load(text) == value
    error = codec.dump_error(ValueError("s3cret"))
    assert "s3cret" not in error
    assert codec.load_error(error).message == "s3cret"


def test_a_payload_codec_covers_inputs_also_the_empty_one() -> None:
    codec = Codec(hook=Reversing())
    for function, args in ((greet, ("s3cret",)), (stop, ())):
        form = codec.signature(function)
        text = form.bind_and_dump(args, {})
        assert text.startswith("~codec:")
        assert form.load(text)[1] == dict(zip(["name"], args, strict=False))


def test_plain_rows_stay_readable_after_a_codec_is_added() -> None:
    plain, sealed = Codec(), Codec(hook=Reversing())
    for value in (None, "~codec:", "x"):
        text = plain.value(str | None).dump(value, "result")
        assert sealed.value(str | None).load(text) == value
    text = plain.signature(greet).bind_and_dump(("x",), {})
    assert sealed.signature(greet).load(text) == ((), {"name": "x"})
    assert sealed.load_error(plain.dump_error(ValueError("x"))).message == "x"


def test_a_sealed_row_without_its_codec_is_a_clear_error() -> None:
    text = Codec(hook=Reversing()).value(str).dump("x", "result")
    with pytest.raises(SerializationError, match=r"stored through a payload codec, and this app has none"):
        Codec().value(str).load(text)
    assert Codec().load_error(text) == ErrorInfo(
        "unreadable",
        "the stored error was stored through a payload codec, and this app has none; give it the same",
        is_retryable=False,
    )


@pytest.mark.parametrize("text", ["~codec:%%%", "~codec:AAA", "~codec:AgIC", "~codec:" + "\N{SNOWMAN}"])
def test_damaged_text_is_a_serialization_error(text: str) -> None:
    codec = Codec(hook=ZlibCodec())
    with pytest.raises(SerializationError, match=r"the stored value"):
        codec.value(str).load(text)
    assert codec.load_error(text).type == "unreadable"


def test_a_failing_codec_is_a_serialization_error_that_does_not_repeat_its_text() -> None:
    codec = Codec(hook=Broken())
    with pytest.raises(SerializationError, match=r"result could not be encoded: Broken raised RuntimeError$"):
        codec.value(str).dump("x", "result")
    with pytest.raises(SerializationError, match=r"could not be decoded: Broken raised RuntimeError$"):
        codec.value(str).load("~codec:AAAA")


def test_failing_works_even_when_the_codec_does_not(caplog: pytest.LogCaptureFixture) -> None:
    codec = Codec(hook=Broken())
    with caplog.at_level(logging.ERROR):
        text = codec.dump_error(ValueError("s3cret"), is_retryable=False)
    assert "s3cret" not in text + caplog.text
    assert codec.load_error(text) == ErrorInfo(
        "ValueError", "the message is lost: the payload codec failed", is_retryable=False
    )


def test_the_limit_is_on_the_json_whatever_the_codec_makes_of_it() -> None:
    form = Codec(Limits(max_payload_bytes=1024), ZlibCodec()).value(str)
    with pytest.raises(PayloadTooLarge):
        form.dump("x" * 2_000, "result")


def test_zlib_stores_small_payloads_as_they_are_and_shrinks_large_ones() -> None:
    hook = ZlibCodec(min_bytes=100)
    assert hook.encode(b"x" * 99) == b"\x00" + b"x" * 99
    assert len(hook.encode(b"x" * 10_000)) < 100


@settings(deadline=None)
@given(st.binary(max_size=3_000))
def test_zlib_gives_back_what_it_took(data: bytes) -> None:
    hook = ZlibCodec(min_bytes=10)
    assert hook.decode(hook.encode(data)) == data


def test_zlib_does_not_unpack_a_bomb() -> None:
    bomb = b"\x01" + zlib.compress(b"x" * 1_000_001)
    with pytest.raises(ValueError, match=r"more than 1000000 bytes"):
        ZlibCodec(max_bytes=1_000_000).decode(bomb)
    assert len(ZlibCodec(max_bytes=1_000_001).decode(bomb)) == 1_000_001


@pytest.mark.parametrize("data", [b"", b"\x02abc", b"\x01abc", b"\x01" + zlib.compress(b"x" * 999)[:-5]])
def test_zlib_refuses_bytes_that_are_not_its_own(data: bytes) -> None:
    with pytest.raises((ValueError, zlib.error)):
        ZlibCodec().decode(data)


@pytest.mark.parametrize("options", [{"level": 0}, {"level": 10}, {"min_bytes": -1}, {"max_bytes": 0}])
def test_zlib_refuses_options_out_of_bounds(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=rf"ZlibCodec\({next(iter(options))}\)"):
        ZlibCodec(**options)


def test_the_hash_does_not_depend_on_key_order_or_white_space() -> None:
    assert payload_hash('{"a":1,"b":{"c":2,"d":[3]}}') == payload_hash('{ "b": {"d":[3], "c":2}, "a":1 }')
    assert payload_hash('{"a":"\\u00e9"}') == payload_hash('{"a":"\N{LATIN SMALL LETTER E WITH ACUTE}"}')
    assert len(payload_hash("null")) == 64


def test_the_hash_tells_different_payloads_apart() -> None:
    texts = ["null", "{}", "[]", "1", "1.0", '"1"', "true", "[1,2]", "[2,1]", '{"a":1}', '{"a":null}', '{"b":1}', '""']
    assert len({payload_hash(text) for text in texts}) == len(texts)


def test_the_hash_of_a_sealed_payload_is_that_of_its_json() -> None:
    codec = Codec(hook=Reversing())
    sealed = codec.signature(greet).bind_and_dump(("x",), {})
    assert codec.payload_hash(sealed) == payload_hash('{"name":"x"}')


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_error_keeps_its_type_message_flag_and_traceback() -> None:
    codec = Codec()
    info = codec.load_error(codec.dump_error(raised(ValueError("no stock")), is_retryable=False))
    assert (info.type, info.message, info.is_retryable) == ("ValueError", "no stock", False)
    assert info.traceback is not None
    assert "in raised" in info.traceback
    assert info.traceback.endswith("ValueError: no stock\n")


def test_the_traceback_tells_the_cause_and_the_notes() -> None:
    error = RuntimeError("outer")
    error.add_note("order 7")
    error.__cause__ = KeyError("inner")
    info = Codec().error_info(raised(error), is_retryable=True)
    assert info.traceback is not None
    assert all(part in info.traceback for part in ("KeyError: 'inner'", "direct cause", "order 7"))


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Odd(Exception):
    def __str__(self) -> str:
        wrong: Any = 5
        return cast("str", wrong)


class Hostile(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("no words")


def nested_group(levels: int) -> Exception:
    error: Exception = ValueError("leaf")
    for _ in range(levels):
        inner: list[Exception] = [error]
        error = ExceptionGroup("group", inner)
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a\0b"),
        ValueError("\ud800\udfff"),
        ValueError("\x1b[31mred\x07"),
        ValueError("x" * 1_000_000),
        ValueError("\N{SNOWMAN}" * 100_000),
        ValueError('"\\\n' * 100_000),
        ValueError("\0" * 100_000),
        ValueError(),
        type("T" * 5_000, (Exception,), {})("x"),
        Mute(),
        Odd(),
        KeyboardInterrupt(),
        SystemExit(3),
        nested_group(300),
    ],
    ids=range(14),
)
@pytest.mark.parametrize("limit", [1024, 16 * 1024])
def test_any_exception_can_be_stored_within_the_limit(error: BaseException, limit: int) -> None:
    codec = Codec(Limits(max_error_bytes=limit))
    text = codec.dump_error(error)
    data = text.encode()
    assert len(data) <= limit
    assert b"\\u0000" not in data
    assert len(codec.load_error(text).type) <= 200
    assert codec.load_error(text).type[:5] == type(error).__name__[:5]
    assert json.loads(text)["message"].isprintable() or "\n" in json.loads(text)["message"]


def test_an_exception_whose_every_attribute_raises_can_be_stored() -> None:
    assert Codec().load_error(Codec().dump_error(Hostile())).type == "Hostile"


def test_what_postgres_cannot_hold_is_made_visible() -> None:
    codec = Codec()
    assert codec.load_error(codec.dump_error(ValueError("a\0b\ud800c\x1b"))).message == "a\\x00b\\ud800c\\x1b"


def test_a_message_that_cannot_be_had_is_replaced() -> None:
    assert Codec().error_info(Mute(), is_retryable=True).message == (
        "(the message is lost: its __str__ raised RuntimeError)"
    )


def test_a_long_message_keeps_its_beginning_and_a_long_traceback_its_end() -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise ValueError("begin" + "x" * 100_000 + "end")

    with pytest.raises(ValueError, match=r"begin") as caught:
        deep(25)
    info = Codec().error_info(caught.value, is_retryable=True)
    assert info.message.startswith("beginx")
    assert info.message.endswith(" […] ")
    assert info.traceback is not None
    assert info.traceback.startswith(" […] ")
    assert info.traceback.endswith("xend\n")


def test_an_error_info_is_stored_as_it_is() -> None:
    info = ErrorInfo("timed_out", "ran longer than 30 s", is_retryable=False)
    assert Codec().load_error(Codec().dump_error(info, is_retryable=True)) == info


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "{", '"x"', '{"type":"a"}'])
def test_a_stored_error_that_cannot_be_read_can_still_be_shown(text: str) -> None:
    assert Codec().load_error(text).type == "unreadable"
