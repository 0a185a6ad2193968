"""The ``"zstd"`` codec: msgpack, compressed with Zstandard; needs the library zstandard.

Its bytes are one Zstandard frame, so they are never taken for plain msgpack, nor the other way
round, and any Zstandard and msgpack library of another language reads them.
"""

from __future__ import annotations

import threading
from typing import Any

import zstandard

from swarmstate.arguments import check_count
from swarmstate.codecs import _reference
from swarmstate.codecs.registry import get
from swarmstate.errors import ArgumentValueError, DecodeError, EncodeError
from swarmstate.protocols import Default
from swarmstate.shown import shown

__all__ = ["MAX_SIZE", "ZstdCodec", "codec"]

MAX_SIZE = 256 * 1024 * 1024
"""How many bytes of msgpack a value may have, unless told otherwise: 256 MiB."""


class ZstdCodec:
    """msgpack within one Zstandard frame.

    Register an instance of your own for another level or cap::

        codecs.register("zstd-19", ZstdCodec(level=19))

    Args:
        level: From 1, the fastest, to 22, the smallest.
        max_size: The cap on a value's uncompressed size, in bytes, both ways: a few bytes of
            input can hold gigabytes.

    Raises:
        InvalidArgumentError: one of the two is not such a number.
    """

    name = "zstd"
    wire = "msgpack+zstd"

    def __init__(self, *, level: int = 3, max_size: int = MAX_SIZE) -> None:
        check_count("level", level, 1)
        check_count("max_size", max_size, 1)
        if level > zstandard.MAX_COMPRESSION_LEVEL:
            raise ArgumentValueError(
                f"level must be from 1 to {zstandard.MAX_COMPRESSION_LEVEL}, not {shown(level)}"
            )
        self._level = level
        self._max_size = max_size
        self._msgpack = get("ormsgpack")  # the faster of two that write the same
        self._local = threading.local()  # a context serves one thread at a time

    def encode(self, value: object, *, default: Default | None = None) -> bytes:
        """Return ``value`` as a Zstandard frame.

        Raises:
            EncodeError: ``value`` is outside the domain, or larger than the cap.
            Exception: whatever ``default`` raises, unchanged.
        """
        plain = self._msgpack.encode(value, default=default)
        if len(plain) > self._max_size:
            raise EncodeError(
                f"cannot encode {type(value).__name__} at value: {len(plain)} bytes of msgpack "
                f"are more than the cap of {self._max_size}"
            )
        try:
            compressor = self._local.compressor
        except AttributeError:
            compressor = zstandard.ZstdCompressor(level=self._level, write_checksum=True)
            self._local.compressor = compressor
        data: bytes = compressor.compress(plain)
        return data

    def decode(self, data: bytes) -> Any:
        """Return the value that ``data`` holds.

        Raises:
            DecodeError: ``data`` is not exactly one frame with exactly one value, or that is
                larger than the cap.
        """
        raw = _reference.as_bytes(data)
        try:
            decompressor = self._local.decompressor
        except AttributeError:
            decompressor = self._local.decompressor = zstandard.ZstdDecompressor()
        try:
            # A size in the header is believed before anything is read, so it is looked at first.
            # It is missing in what a stream wrote; the cap then bounds the output.
            size = zstandard.frame_content_size(raw)
            if size > self._max_size:
                raise DecodeError(
                    f"cannot decode {len(raw)} bytes: a value of {size} bytes of msgpack is over "
                    f"the cap of {self._max_size}"
                )
            plain = decompressor.decompress(
                raw, max_output_size=self._max_size, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise DecodeError(
                f"cannot decode {len(raw)} bytes: not one whole Zstandard frame within the cap of "
                f"{self._max_size} bytes: {error}"
            ) from None
        return self._msgpack.decode(plain)


codec = ZstdCodec()
"""The codec that the name ``"zstd"`` stands for."""
