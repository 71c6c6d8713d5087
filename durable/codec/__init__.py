"""Values to stored text and back, typed by annotations; never pickle, and never a class named by a row."""

from durable.codec.canonical import hash_json as payload_hash
from durable.codec.codec import Codec
from durable.codec.limits import Limits
from durable.codec.seal import PayloadCodec
from durable.codec.shape import Shape
from durable.codec.signature import Signature

__all__ = ["Codec", "Limits", "PayloadCodec", "Shape", "Signature", "payload_hash"]
