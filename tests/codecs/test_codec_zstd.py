"""The ``"zstd"`` codec: msgpack in a Zstandard frame, with a cap on what comes out."""

from __future__ import annotations

import datetime
import os
import threading
from typing import Any

import msgpack
import pytest
import zstandard
from codec_values import domain_values, wild_values
from exactness import exact, outcome, returned
from hypothesis import given, settings

from swarmstate import codecs, dumps, loads
from swarmstate.codecs.zstd import ZstdCodec
from swarmstate.errors import DecodeError, EncodeError, InvalidArgumentError

CHAT = [{"role": "user", "content": "the same words again and again " * 5}] * 50


@given(domain_values)
@settings(deadline=None)
def test_it_returns_what_msgpack_does(value: Any) -> None:
    assert exact(loads(dumps(value, "zstd"), "zstd")) == exact(returned(value))


@given(wild_values)
@settings(deadline=None)
def test_it_refuses_what_msgpack_does_with_the_same_text(value: Any) -> None:
    ours = outcome(lambda: codecs.get("zstd").encode(value))
    plain = outcome(lambda: codecs.get("msgpack").encode(value))
    assert ours[0] == plain[0]
    if ours[0] is EncodeError:
        assert ours == plain


def test_it_is_one_frame_of_plain_msgpack_and_smaller() -> None:
    data = dumps(CHAT, "zstd")
    assert len(data) < len(dumps(CHAT)) / 20
    assert zstandard.ZstdDecompressor().decompress(data) == msgpack.packb(CHAT)
    assert zstandard.get_frame_parameters(data).has_checksum


def test_a_frame_of_another_program_is_read() -> None:
    stream = zstandard.ZstdCompressor().compressobj()
    streamed = stream.compress(msgpack.packb(CHAT)) + stream.flush()
    assert zstandard.frame_content_size(streamed) == -1
    assert loads(streamed, "zstd") == CHAT


def test_the_hook_works_as_with_the_others() -> None:
    assert loads(dumps({1}, "zstd", default=list), "zstd") == [1]


def test_neither_takes_the_others_bytes_for_its_own() -> None:
    for value in (None, 1, "text", CHAT, {"a": 1}, datetime.datetime.now(datetime.timezone.utc)):
        for plain in ("msgpack", "ormsgpack"):
            with pytest.raises(DecodeError):
                loads(dumps(value, "zstd"), plain)
            with pytest.raises(DecodeError):
                loads(dumps(value, plain), "zstd")


def test_damaged_cut_and_trailing_bytes_are_refused() -> None:
    whole = dumps(CHAT, "zstd")
    for size in range(len(whole)):
        with pytest.raises(DecodeError):
            loads(whole[:size], "zstd")
        damaged = bytearray(whole)
        damaged[size] ^= 0x10
        kind, _ = outcome(lambda damaged=damaged: loads(bytes(damaged), "zstd"))
        # A changed reserved bit or window size may leave the content as it is, never change it.
        assert kind is DecodeError or loads(bytes(damaged), "zstd") == CHAT
    for more in (b"\0", whole, b"\x28\xb5\x2f\xfd"):
        with pytest.raises(DecodeError):
            loads(whole + more, "zstd")
    two = zstandard.ZstdCompressor().compress(msgpack.packb(1) + msgpack.packb(2))
    with pytest.raises(DecodeError, match="trailing bytes"):
        loads(two, "zstd")


def test_a_bomb_does_not_go_off() -> None:
    small = ZstdCodec(max_size=1_000_000)
    zeros = b"\xc6\x3b\x9a\xca\x00"  # a blob of a billion bytes is announced
    compressor = zstandard.ZstdCompressor(level=19)
    stream = compressor.compressobj()
    parts = [stream.compress(zeros)]
    parts += [stream.compress(bytes(1_000_000)) for _ in range(1000)]
    streamed = b"".join(parts) + stream.flush()
    assert len(streamed) < 200_000
    for bomb in (streamed, compressor.compress(zeros + bytes(2_000_000))):
        with pytest.raises(DecodeError, match="cap of 1000000"):
            small.decode(bomb)
    # A header that announces an exabyte, with nothing behind it.
    liar = b"\x28\xb5\x2f\xfd\xe0" + (2**60).to_bytes(8, "little") + b"\x01\x00\x00"
    with pytest.raises(DecodeError, match="cap of"):
        loads(liar, "zstd")


def test_what_is_larger_than_the_cap_is_not_written_either() -> None:
    small = ZstdCodec(max_size=1000)
    assert small.decode(small.encode(b"x" * 997)) == b"x" * 997
    with pytest.raises(EncodeError, match="1003 bytes of msgpack are more than the cap of 1000"):
        small.encode(b"x" * 1000)


def test_an_instance_of_ones_own_is_registered_beside_it() -> None:
    assert len(ZstdCodec(level=19).encode(CHAT)) <= len(dumps(CHAT, "zstd"))


@pytest.mark.parametrize("options", [{"level": 0}, {"level": 99}, {"max_size": 0}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        ZstdCodec(**options)


def test_many_threads_use_it_at_once() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for size in range(300):
                value = [os.urandom(size), "x" * size]
                assert loads(dumps(value, "zstd"), "zstd") == value
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
