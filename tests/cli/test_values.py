"""Values are shown for what they are, and nothing of a user's is imported to show them."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections import OrderedDict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from places import good, run
from threads import checkpoint, config

from swarmstate import Snapshot, dumps
from swarmstate.backends.disk import DiskStore
from swarmstate.cli.changes import changes
from swarmstate.cli.values import named_in_pickle, of_blob, of_stored, shape_of
from swarmstate.integrations.langgraph import SwarmStateSaver

MODULE = """
import dataclasses, enum, os, pathlib, pydantic

pathlib.Path(os.environ["IMPORTED"]).touch()

class Order(pydantic.BaseModel):
    number: int
    def __init__(self, **data):
        pathlib.Path(os.environ["IMPORTED"]).touch()
        super().__init__(**data)

@dataclasses.dataclass
class Line:
    text: str

class Kind(enum.Enum):
    NEW = "new"

class Plain:
    pass
"""


@pytest.fixture
def url_with_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store whose threads hold objects of classes that could be imported, but must not be."""
    monkeypatch.setenv("IMPORTED", str(tmp_path / "imported"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "user_module.py").write_text(MODULE)
    import user_module  # type: ignore[import-not-found]

    values = {
        "order": user_module.Order(number=7),
        "line": [user_module.Line("tea")],
        "kind": user_module.Kind.NEW,
        "plain": user_module.Plain(),
        "message": HumanMessage("hello", id="1"),
    }
    with DiskStore(tmp_path / "a.db") as store:
        saver = SwarmStateSaver(store, serde=JsonPlusSerializer(pickle_fallback=True))
        versions: Any = dict.fromkeys(values, "1")
        metadata: Any = {"by": values["order"]}
        stored = saver.put(config("t"), checkpoint(versions, values), metadata, versions)
        saver.put_writes(stored, [("order", values["order"])], "task")
        saver.put(stored, checkpoint({}, {}), {}, {})
    del sys.modules["user_module"]
    os.remove(tmp_path / "imported")
    return f"sqlite:///{tmp_path}/a.db"


def test_no_class_of_the_users_is_imported_to_show_its_objects(
    url_with_objects: str, tmp_path: Path
) -> None:
    where = ["--url", url_with_objects]
    rows = json.loads(good("history", "t", *where, "--json"))
    first = rows[-1]["checkpoint"]
    shown = json.loads(good("show", "t", first, *where, "--json"))
    held = {name: channel["value"] for name, channel in shown["channels"].items()}
    assert held["order"] == {
        "$object": "user_module.Order",
        "$kind": "pydantic",
        "$value": {"number": 7},
    }
    assert held["line"][0]["$object"] == "user_module.Line"
    assert held["line"][0]["$value"] == {"text": "tea"}
    assert held["kind"]["$value"] == "new"
    assert held["plain"]["$pickle"] == ["user_module.Plain"]
    assert held["message"]["$object"] == "langchain_core.messages.human.HumanMessage"
    assert held["message"]["$value"]["content"] == "hello"
    assert shown["metadata"]["by"]["$object"] == "user_module.Order"
    assert shown["writes"][0]["value"]["$object"] == "user_module.Order"
    for command in (
        ["threads"],
        ["show", "t"],
        ["diff", "t", first, rows[0]["checkpoint"]],
        ["writes", "t", "--all"],
        ["sizes"],
        ["prune", "--keep", "1", "--idle", "0", "--dry-run"],
        ["copy", url_with_objects, f"sqlite:///{tmp_path}/b.db"],
        ["export", f"{tmp_path}/archive"],
        ["prune", "--keep", "1", "--yes"],
    ):
        good(*command, *(where if command[0] != "copy" else []))
    assert "user_module" not in sys.modules
    assert not (tmp_path / "imported").exists()


def test_objects_arrive_by_a_copy_as_they_were(url_with_objects: str, tmp_path: Path) -> None:
    good("copy", url_with_objects, f"sqlite:///{tmp_path}/b.db")
    import user_module  # type: ignore[import-not-found]

    with DiskStore(tmp_path / "b.db") as store:
        saver = SwarmStateSaver(store, serde=JsonPlusSerializer(pickle_fallback=True))
        found = list(saver.list(config("t")))[-1].checkpoint["channel_values"]
    assert found["order"] == user_module.Order(number=7)
    assert type(found["plain"]) is user_module.Plain


def packed(value: Any) -> bytes:
    data: Any = msgpack.packb(value)
    return bytes(data)


def stored(value: Any, serde: JsonPlusSerializer | None = None) -> Any:
    return of_blob((serde or JsonPlusSerializer()).dumps_typed(value))


SHOWN = {
    "null": (None, None),
    "numbers": ([1, -(2**63), 2**64 - 1, 0.5], [1, -(2**63), 2**64 - 1, 0.5]),
    "no numbers": (
        [float("nan"), float("-inf")],
        [{"$float": "nan"}, {"$float": "-inf"}],
    ),
    "bytes": (b"\0" * 100, {"$bytes": 100, "$hex": "00" * 32}),
    "bytes within": ([b"ab"], [{"$bytes": 2, "$hex": "6162"}]),
    "keys that are no texts": ({1: "a", "b": 2}, {"$map": [[1, "a"], ["b", 2]]}),
    "a set": (
        {5},
        {"$object": "builtins.set", "$kind": "call", "$value": [5]},
    ),
    "a time": (
        datetime(2026, 1, 2, tzinfo=timezone.utc),
        {
            "$object": "datetime.datetime",
            "$kind": "method fromisoformat",
            "$value": "2026-01-02T00:00:00+00:00",
        },
    ),
    "an array": (
        np.zeros((2, 3), dtype="<f4"),
        {"$array": "<f4", "$shape": [2, 3], "$size": 24, "$hex": "00" * 24},
    ),
}


@pytest.mark.parametrize(("value", "shown"), SHOWN.values(), ids=SHOWN)
def test_values_of_langgraph(value: Any, shown: Any) -> None:
    assert stored(value) == shown
    json.dumps(stored(value), allow_nan=False)


DAMAGED = {
    "cut": ("msgpack", b"\x93\x01"),
    "no msgpack": ("msgpack", b"\xc1"),
    "too much": ("msgpack", b"\x01\x01"),
    "no JSON": ("json", b"{"),
    "a huge length": ("msgpack", b"\xdd\xff\xff\xff\xff"),
    "no UTF-8": ("msgpack", b"\xa1\xff"),
    "deep": ("msgpack", b"\x91" * 100_000),
    "deep JSON": ("json", b"[" * 100_000),
    "an object that is cut": ("msgpack", b"\xc7\x01\x05\x93"),
    "pickle": ("pickle", b"\x80\x04\x95"),
    "encrypted": ("msgpack+aes", b"\x01\x02"),
}


@pytest.mark.parametrize("blob", DAMAGED.values(), ids=DAMAGED)
def test_what_cannot_be_decoded_is_shown_by_its_kind_size_and_first_bytes(
    blob: tuple[str, bytes],
) -> None:
    shown = of_blob(blob)
    assert shown["$undecodable"] == blob[0]
    assert shown["$size"] == len(blob[1])
    assert shown["$hex"] == blob[1][:32].hex()
    assert shown["$reason"]


def test_an_object_within_a_deep_list_is_shown() -> None:
    value: Any = "end"
    for _ in range(400):
        value = [value]
    shown = of_blob(("msgpack", packed(value)))
    json.dumps(shown)


def test_an_unknown_extension_is_shown_as_one() -> None:
    data = packed(msgpack.ExtType(99, b"abc"))
    assert of_blob(("msgpack", data)) == {"$extension": 99, "$size": 3, "$hex": "616263"}
    odd = packed(msgpack.ExtType(5, packed(["only"])))
    assert of_blob(("msgpack", odd))["$extension"] == 5


def test_a_pickle_is_read_and_not_obeyed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/obeyed",)

    for protocol in range(5):
        data = pickle.dumps([Evil(), OrderedDict()], protocol)
        names = named_in_pickle(data)
        assert any(name.endswith(".system") for name in names)
        assert "collections.OrderedDict" in names
        assert of_blob(("pickle", data))["$pickle"] == names
    assert os.listdir(tmp_path) == []


def test_values_of_a_store_are_decoded_with_its_codec() -> None:
    value = {"at": datetime(2026, 1, 2, tzinfo=timezone.utc), 1: [b"x"], (1, 2): 1.5}
    expected = {
        "$map": [
            ["at", {"$timestamp": "2026-01-02T00:00:00+00:00"}],
            [1, [{"$bytes": 1, "$hex": "78"}]],
            [[1, 2], 1.5],
        ]
    }
    for codec in ("msgpack", "ormsgpack", "zstd"):
        assert of_stored(dumps(value, codec), codec) == expected
    assert of_stored(b"\xc1", "msgpack")["$undecodable"] == "msgpack"


def test_a_value_that_cannot_be_decoded_is_shown_and_ends_with_1(tmp_path: Path) -> None:
    with DiskStore(tmp_path / "a.db") as store:
        store.restore(Snapshot.from_values({"n": {"bad": b"\xc1\x02", "good": b"\1"}}))
    where = ["--url", f"sqlite:///{tmp_path}/a.db"]
    result = run("get", "n", "bad", "--json", *where)
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert shown["bytes"] == 2
    assert shown["value"]["$hex"] == "c102"
    assert run("get", "n", "bad", *where).exit_code == 1
    assert json.loads(good("namespaces", "--count", "--json", *where))[0]["keys"] == 2
    result = run("doctor", "--json", *where)
    assert result.exit_code == 1
    (problem,) = (p for p in json.loads(result.stdout)["problems"] if p["level"] == "error")
    assert "1 value cannot be decoded with the codec msgpack" in problem["what"]


def test_a_damaged_checkpoint_hides_no_other_one(tmp_path: Path) -> None:
    with DiskStore(tmp_path / "a.db") as store:
        saver = SwarmStateSaver(store)
        last: Any = config("t")
        for _ in range(3):
            last = saver.put(last, checkpoint({"a": "1"}, {"a": 1}), {"step": 1}, {"a": "1"})
        namespace = next(n for n in store.namespaces() if "checkpoints" in n)
        broken = sorted(store.keys(namespace))[1]
        store.set(namespace, broken, [99, "from the future"])
    where = ["--url", f"sqlite:///{tmp_path}/a.db"]
    rows = json.loads(good("history", "t", *where, "--json"))
    assert len(rows) == 3
    assert "has format 99" in rows[1]["error"]
    assert "error" not in rows[0]
    assert "has format 99" in good("history", "t", *where)
    result = run("show", "t", broken, *where)
    assert result.exit_code == 1
    assert "has format 99" in result.stderr
    assert json.loads(good("sizes", *where, "--json"))["threads"][0]["thread"] == "t"


def test_changes_name_their_path() -> None:
    old = {"a": [1, 2, {"x": 1}], "gone": 1, "same": [1]}
    new = {"a": [1, 3, {"x": True}, "more"], "same": [1], "come": 2}
    assert list(changes(old, new)) == [
        {"path": "a[1]", "change": "changed", "before": 2, "after": 3},
        {"path": "a[2].x", "change": "changed", "before": 1, "after": True},
        {"path": "a[3]", "change": "added", "after": "more"},
        {"path": "gone", "change": "removed", "before": 1},
        {"path": "come", "change": "added", "after": 2},
    ]
    assert list(changes([1, 2], [1])) == [{"path": "[1]", "change": "removed", "before": 2}]
    assert list(changes({"a": 1}, {"a": 1})) == []


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ([1], "list of 1"),
        ({"a": 1}, "map of 1"),
        ("x", "text"),
        (None, "null"),
        (True, "boolean"),
        (1, "integer"),
        (0.5, "number"),
        ({"$bytes": 1, "$hex": "00"}, "bytes"),
        ({"$object": "m.C", "$kind": "call", "$value": 1}, "m.C"),
    ],
)
def test_the_shape_of_a_value_is_told_in_a_word(value: Any, shape: str) -> None:
    assert shape_of(value) == shape
