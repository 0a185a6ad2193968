"""The bytes are standard msgpack, readable by later versions and in other languages."""

from __future__ import annotations

import datetime
import json
import math
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import msgpack
import pytest
from exactness import exact, nested
from node import installed

from swarmstate import Store, dumps, loads
from swarmstate.errors import WireFormatError

ENCODED = Path(__file__).parent / "encoded"
UTC = datetime.timezone.utc


def _nan(bits: int) -> float:
    number: float = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
    return number


# One file for each, written once by the first version. A change of these values or of the files
# would mean that stored state is read differently.
VALUES: dict[str, Any] = {
    "none": None,
    "bools": [True, False],
    "ints": [n for p in (0, 5, 7, 8, 15, 16, 31, 32, 63) for n in (2**p - 1, 2**p, -(2**p))]
    + [2**64 - 1],
    "floats": [0.0, -0.0, 1.5, math.pi, math.inf, -math.inf, 5e-324, 1.7976931348623157e308],
    "nans": [_nan(0x7FF8000000000000), _nan(0x7FF8000000C0FFEE), _nan(0xFFF0000000000001)],
    "texts": ["", "a" * 31, "a" * 32, "a" * 255, "a" * 256, "é漢字🙂\0", "a" * 65536],
    "blobs": [b"", bytes(range(256)), b"x" * 255, b"x" * 65536],
    "lists": [[], list(range(15)), list(range(16)), [0] * 65536],
    "dicts": [{}, {str(n): n for n in range(15)}, {str(n): n for n in range(16)}],
    "keys": {None: 0, True: 1, 2: 2, 2.5: 3, "s": 4, b"b": 5, (1, ("x", None)): 6, -7: 7},
    "deep": nested(1023, "ld"),
    "datetimes": [
        datetime.datetime(1970, 1, 1, tzinfo=UTC),
        datetime.datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
        datetime.datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
        datetime.datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
        datetime.datetime(1, 1, 1, tzinfo=UTC),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
    "chat": {
        "messages": [
            {"role": "user", "content": "Where is my order?", "id": 1, "tokens": 5},
            {"role": "assistant", "content": "On its way.", "id": 2, "tool_calls": []},
        ],
        "step": 2,
        "done": False,
        "score": 0.5,
        "embedding": b"\x00\x01",
    },
}


@pytest.mark.parametrize("name", VALUES)
def test_what_the_first_version_wrote_is_read_and_written_the_same(name: str, codec: str) -> None:
    data = (ENCODED / f"{name}.msgpack").read_bytes()
    assert exact(loads(data, codec)) == exact(VALUES[name])
    assert dumps(VALUES[name], codec) == data


def test_every_committed_file_is_read() -> None:
    assert {path.stem for path in ENCODED.glob("*.msgpack")} == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_plain_msgpack_reads_the_bytes(name: str, codec: str) -> None:
    data = dumps(VALUES[name], codec)
    hook = (lambda pairs: {_tuple(key): item for key, item in pairs}) if name == "keys" else None
    options: dict[str, Any] = {"object_pairs_hook": hook} if hook else {}
    plain = msgpack.unpackb(data, strict_map_key=False, timestamp=3, **options)
    assert exact(plain) == exact(VALUES[name])


def _tuple(key: Any) -> Any:
    return tuple(_tuple(item) for item in key) if type(key) is list else key


# ---- another language --------------------------------------------------------------------------

NODE_PACKAGE = "@msgpack/msgpack@3.1.2"
NODE_PROGRAM = """
const { decode, encode } = require("@msgpack/msgpack");
const { readFileSync, writeFileSync } = require("fs");
const [, , source, target] = process.argv;
const value = decode(readFileSync(source), { useBigInt64: true });
const plain = (v) =>
  typeof v === "bigint" ? { bigint: String(v) }
  : v instanceof Date ? { date: v.toISOString() }
  : v instanceof Uint8Array ? { bytes: Buffer.from(v).toString("hex") }
  : Array.isArray(v) ? v.map(plain)
  : v && typeof v === "object"
    ? Object.fromEntries(Object.entries(v).map(([k, w]) => [k, plain(w)]))
  : Object.is(v, -0) ? { float: "-0" }
  : typeof v === "number" && !Number.isFinite(v) ? { float: String(v) }
  : v;
writeFileSync(target, encode(value, { useBigInt64: true }));
console.log(JSON.stringify(plain(value)));
"""


@pytest.fixture(scope="module")
def node_folder() -> Path:
    """A folder with the msgpack library of Node, installed once for this user."""
    return installed("msgpack", NODE_PACKAGE)


def _through_node(folder: Path, data: bytes, where: Path) -> tuple[Any, bytes]:
    program, source, target = where / "read.cjs", where / "in", where / "out"
    program.write_text(NODE_PROGRAM)
    source.write_bytes(data)
    done = subprocess.run(
        ["node", str(program), str(source), str(target)],
        env={**os.environ, "NODE_PATH": str(folder / "node_modules")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), target.read_bytes()


def test_a_program_in_another_language_reads_and_writes_the_same_state(
    node_folder: Path, tmp_path: Path, codec: str
) -> None:
    state = {
        **VALUES["chat"],
        "numbers": [0, -1, 127, 128, -33, 65536, 0.5, -2.25, math.inf],
        "large": [2**53, 2**64 - 1, -(2**63)],
        "text": "é漢字🙂",
        "at": datetime.datetime(2024, 2, 29, 12, 0, 0, 250000, tzinfo=UTC),
        "by number": {1: "one", 2: "two"},
        "nothing": None,
    }
    seen, written = _through_node(node_folder, dumps(state, codec), tmp_path)
    assert seen == {
        **VALUES["chat"],
        "embedding": {"bytes": "0001"},
        "numbers": [0, -1, 127, 128, -33, 65536, 0.5, -2.25, {"float": "Infinity"}],
        "large": [{"bigint": str(n)} for n in (2**53, 2**64 - 1, -(2**63))],
        "text": "é漢字🙂",
        "at": {"date": "2024-02-29T12:00:00.250Z"},
        "by number": {"1": "one", "2": "two"},
        "nothing": None,
    }
    back = loads(written, codec)
    # JavaScript has only text as a name of a property, and one kind of number.
    assert back == {**state, "by number": {"1": "one", "2": "two"}}


# ---- wire formats are not mixed ----------------------------------------------------------------


def test_a_snapshot_moves_between_codecs_of_one_wire_format(codec: str) -> None:
    with Store(codec="msgpack") as source, Store(codec=codec) as target:
        source.set("n", "k", VALUES["chat"])
        target.restore(source.snapshot())
        assert exact(target.get("n", "k")) == exact(VALUES["chat"])


def test_a_snapshot_of_another_wire_format_is_refused_and_nothing_changes(codec: str) -> None:
    with Store(codec="zstd") as compressed, Store(codec=codec) as plain:
        compressed.set("n", "k", [1])
        plain.set("n", "mine", 2)
        with pytest.raises(WireFormatError, match=r"'msgpack\+zstd'.*'msgpack'"):
            plain.restore(compressed.snapshot())
        with pytest.raises(WireFormatError, match=r"'msgpack'.*'msgpack\+zstd'"):
            compressed.restore(plain.snapshot())
        assert plain.items("n") == [("mine", 2)]
        assert compressed.items("n") == [("k", [1])]
