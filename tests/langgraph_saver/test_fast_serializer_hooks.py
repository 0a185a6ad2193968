"""Whatever a user or another version changed is called: the serializer in C steps aside."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import types
import unittest.mock
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import langchain_core.messages.ai
import langchain_core.messages.human
import ormsgpack
import pydantic
import pytest
from documents import ROOT
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.serde import _msgpack, jsonplus
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from serializer_values import exact

from swarmstate import _messages
from swarmstate.integrations.langgraph.serde import fast

CALL = {"name": "f", "args": {}, "id": "c", "type": "tool_call"}
VALUE = {"m": [HumanMessage("a"), AIMessage("b", tool_calls=[CALL])], "s": _DeltaSnapshot([1])}
patch = unittest.mock.patch.object


class Subclass(JsonPlusSerializer):
    pass


class Untyped:
    def dumps(self, obj: Any) -> bytes:
        return pickle.dumps(obj)

    def loads(self, data: bytes) -> Any:
        return pickle.loads(data)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "pickle", self.dumps(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return self.loads(data[1])


class Cipher:
    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "none", plaintext

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return ciphertext


def with_attribute(name: str, value: Any) -> JsonPlusSerializer:
    serde = JsonPlusSerializer()
    setattr(serde, name, value)
    return serde


def hook(code: int, data: bytes) -> Any:
    return (code, data)


@pytest.mark.parametrize(
    "serde",
    [
        Subclass(),
        Untyped(),
        EncryptedSerializer(Cipher()),
        JsonPlusSerializer(__unpack_ext_hook__=hook),
        with_attribute("dumps_typed", lambda obj: ("mine", b"")),
        with_attribute("loads_typed", lambda data: "mine"),
        with_attribute("_unpack_ext_hook", hook),
        with_attribute("more", 1),
    ],
    ids=[
        "subclass",
        "custom",
        "encrypted",
        "ext hook",
        "dumps",
        "loads",
        "later hook",
        "attribute",
    ],
)
def test_another_serializer_or_one_with_a_hook_is_called_itself(serde: Any) -> None:
    dumps, loads = fast(serde)
    assert dumps == serde.dumps_typed
    assert loads == serde.loads_typed


@contextmanager
def hook_on(owner: Any, name: str, seen: list[str]) -> Iterator[None]:
    """Put a function around another that notes its calls."""
    original = getattr(owner, name)

    def around(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        return original(*args, **kwargs)

    with patch(owner, name, around):
        yield


PATCHES: dict[str, tuple[str, Any, str]] = {
    "dumps_typed": ("dumps", JsonPlusSerializer, "dumps_typed"),
    "loads_typed": ("loads", JsonPlusSerializer, "loads_typed"),
    "_msgpack_enc": ("dumps", jsonplus, "_msgpack_enc"),
    "_msgpack_default": ("dumps", jsonplus, "_msgpack_default"),
    "packb": ("dumps", ormsgpack, "packb"),
    "Ext": ("dumps", ormsgpack, "Ext"),
    "unpackb": ("loads", ormsgpack, "unpackb"),
    "import_module": ("loads", importlib, "import_module"),
    "a message's model_dump": ("dumps", HumanMessage, "model_dump"),
    "all messages' model_dump": ("dumps", BaseMessage, "model_dump"),
    "pydantic's model_dump": ("dumps", pydantic.BaseModel, "model_dump"),
    "a message's __init__": ("loads", HumanMessage, "__init__"),
    "all messages' __init__": ("loads", BaseMessage, "__init__"),
    "create_tool_call": ("loads", langchain_core.messages.ai, "create_tool_call"),
    "a class under its name": ("loads", langchain_core.messages.human, "HumanMessage"),
}


@pytest.mark.parametrize("patched", PATCHES)
def test_a_function_that_is_patched_later_is_called(patched: str) -> None:
    direction, owner, name = PATCHES[patched]
    serde = JsonPlusSerializer()
    dumps, loads = fast(serde)
    data = dumps(VALUE)
    seen: list[str] = []
    expected: list[str] = []
    with hook_on(owner, name, expected):
        reference = serde.dumps_typed(VALUE) if direction == "dumps" else serde.loads_typed(data)
    with hook_on(owner, name, seen):
        ours = dumps(VALUE) if direction == "dumps" else loads(data)
    assert seen == expected
    assert seen
    assert exact(ours) == exact(reference)
    with hook_on(owner, name, seen):
        pass
    seen.clear()
    assert dumps(VALUE) == data
    assert exact(loads(data)) == exact(serde.loads_typed(data))
    assert not seen
    assert _messages.accelerate(JsonPlusSerializer()) is not None


@pytest.mark.parametrize("patched", ["dumps_typed", "loads_typed", "_msgpack_enc", "packb"])
def test_plain_values_too_go_through_a_function_that_is_patched(patched: str) -> None:
    direction, owner, name = PATCHES[patched]
    dumps, loads = fast(JsonPlusSerializer())
    data = dumps([1])
    seen: list[str] = []
    with hook_on(owner, name, seen):
        assert (dumps([1]) if direction == "dumps" else loads(data)) in ([1], data)
    assert seen == [name]


def test_a_hook_that_is_put_on_the_serializer_later_is_called() -> None:
    serde = JsonPlusSerializer()
    dumps, loads = fast(serde)
    data = dumps(VALUE)
    vars(serde)["dumps_typed"] = lambda obj: ("mine", b"")
    vars(serde)["loads_typed"] = lambda data: "mine"
    assert dumps(VALUE) == ("mine", b"")
    assert loads(data) == "mine"
    del vars(serde)["dumps_typed"], vars(serde)["loads_typed"]
    assert dumps(VALUE) == data
    serde._unpack_ext_hook = hook
    read = loads(data)
    assert [type(one) for one in read["m"]] == [tuple, tuple]
    serde._unpack_ext_hook = JsonPlusSerializer()._unpack_ext_hook
    assert exact(loads(data)) == exact(JsonPlusSerializer().loads_typed(data))
    serde.__class__ = Subclass
    with hook_on(Subclass, "dumps_typed", seen := []):
        assert dumps(VALUE) == data
    assert seen == ["dumps_typed"]


def result_of(call: Any, argument: Any) -> Any:
    try:
        return exact(call(argument))
    except Exception as error:
        return repr(error)


shouting = types.SimpleNamespace(**vars(ormsgpack))
shouting.packb = lambda obj, **options: ormsgpack.packb(obj, **options).upper()


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (jsonplus, "ormsgpack", shouting),
        (jsonplus, "_option", jsonplus._option | ormsgpack.OPT_PASSTHROUGH_TUPLE),
        (_msgpack, "SAFE_MSGPACK_TYPES", frozenset()),
        (jsonplus, "_lg_msgpack", unittest.mock.Mock(SAFE_MSGPACK_TYPES=frozenset())),
    ],
    ids=["ormsgpack", "options", "safe types", "the module of the safe types"],
)
def test_what_is_put_in_place_of_a_module_or_constant_counts(
    owner: Any, name: str, value: Any
) -> None:
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    dumps, loads = fast(serde)
    state = {"t": (1, 2), "m": [HumanMessage("a")]}
    data = dumps(state)
    with patch(owner, name, value):
        for ours, theirs, argument in (
            (dumps, serde.dumps_typed, state),
            (loads, serde.loads_typed, data),
        ):
            assert result_of(ours, argument) == result_of(theirs, argument)
    if name == "SAFE_MSGPACK_TYPES":
        with patch(owner, name, value):
            assert type(loads(data)["m"][0]) is dict


# --- Other versions, each in a process of its own -------------------------------------------------

PRELUDE = """
import sys, types, typing
import langchain_core.messages as messages
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import Field, field_serializer, model_validator

def in_place_of(kind, name="changed"):
    module = sys.modules[kind.__module__]
    def put(changed):
        changed.__module__, changed.__name__ = kind.__module__, kind.__name__
        changed.__qualname__ = kind.__name__
        setattr(module, kind.__name__, changed)
        setattr(messages, kind.__name__, changed)
        globals()[kind.__name__] = changed
        return changed
    return put
"""
AFTERWARDS = """
from swarmstate import _messages
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.integrations.langgraph.serde import fast
serde = JsonPlusSerializer()
dumps, loads = fast(serde)
assert _messages.unavailable, "it did not notice"
assert dumps == serde.dumps_typed and loads == serde.loads_typed
assert _messages.accelerate(serde) is None
value = [HumanMessage("a"), AIMessage("b"), {"plain": [1]}]
assert loads(dumps(value)) == value
saver = SwarmStateSaver()
config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
body = {"v": 4, "id": "1", "ts": "", "channel_values": {"m": value}, "channel_versions": {"m": "1"},
        "versions_seen": {}, "updated_channels": None}
saver.put(config, body, {"step": 1}, {"m": "1"})
assert saver.get_tuple(config).checkpoint["channel_values"] == {"m": value}
print(_messages.unavailable)
"""

DIFFERENT: dict[str, tuple[str, str]] = {
    "a field more": (
        """
@in_place_of(HumanMessage)
class Changed(HumanMessage):
    more: int = 0
""",
        "HumanMessage",
    ),
    "a field less": (
        """
from langchain_core.messages.base import BaseMessage
@in_place_of(SystemMessage)
class Changed(BaseMessage):
    type: typing.Literal["system"] = "system"
    def __init__(self, content=None, **more):
        super().__init__(content=content, **more)
del Changed.model_fields["name"]
""",
        "SystemMessage",
    ),
    "a field of another type": (
        """
@in_place_of(ToolMessage)
class Changed(ToolMessage):
    artifact: str | None = None
""",
        "ToolMessage",
    ),
    "another default": (
        """
@in_place_of(AIMessage)
class Changed(AIMessage):
    name: str | None = "ai"
""",
        "AIMessage",
    ),
    "a validator more": (
        """
@in_place_of(AIMessage)
class Changed(AIMessage):
    @model_validator(mode="after")
    def shout(self):
        return self
""",
        "AIMessage",
    ),
    "a serializer": (
        """
@in_place_of(HumanMessage)
class Changed(HumanMessage):
    @field_serializer("content")
    def shout(self, content):
        return content
""",
        "HumanMessage",
    ),
    "another configuration": (
        """
@in_place_of(HumanMessage)
class Changed(HumanMessage):
    model_config = {"str_strip_whitespace": True}
""",
        "HumanMessage",
    ),
    # Nothing but what it does tells it from the validator that is expected.
    "a validator that does something else": (
        """
from langchain_core.messages import ai
exec(
    "def rewritten(cls, values):\\n"
    "    if isinstance(values.get('content'), str):\\n"
    "        values['content'] = values['content'].strip()\\n"
    "    return values\\n",
    vars(ai),
)
rewritten = vars(ai).pop("rewritten")
rewritten.__name__ = "_backwards_compat_tool_calls"
@in_place_of(AIMessage)
class Changed(messages.base.BaseMessage):
    tool_calls: list[ai.ToolCall] = Field(default_factory=list)
    invalid_tool_calls: list[ai.InvalidToolCall] = Field(default_factory=list)
    usage_metadata: ai.UsageMetadata | None = None
    type: typing.Literal["ai"] = "ai"
    _backwards_compat_tool_calls = model_validator(mode="before")(classmethod(rewritten))
    def __init__(self, content=None, **more):
        super().__init__(content=content, **more)
Changed.__init__ = types.FunctionType(Changed.__init__.__code__, vars(ai), "__init__", (None,),
                                      Changed.__init__.__closure__)
""",
        "is read",
    ),
    "another key in a usage": (
        """
from langchain_core.messages import ai
ai.InputTokenDetails.__annotations__["more"] = int
""",
        "InputTokenDetails",
    ),
    "a tool call made in another way": (
        """
from langchain_core.messages import ai
made = ai.create_tool_call
ai.create_tool_call = lambda **fields: {**made(**fields), "more": 1}
value = None
""",
        "create_tool_call",
    ),
    "another default function of LangGraph": (
        """
default = jsonplus._msgpack_default
jsonplus._msgpack_default = lambda obj: default(obj)
""",
        "lambda",
    ),
    "a serializer with a new option": (
        """
made = JsonPlusSerializer.__init__
def __init__(self, *args, **options):
    made(self, *args, **options)
    self.compression = None
JsonPlusSerializer.__init__ = __init__
""",
        "JsonPlusSerializer",
    ),
    "a private name less": (
        """
from langgraph.checkpoint.serde import _msgpack
jsonplus._lg_msgpack = type("Renamed", (), dict(vars(_msgpack)))
del _msgpack.SAFE_MSGPACK_TYPES
""",
        "SAFE_MSGPACK_TYPES",
    ),
    "a safe type less": (
        """
from langgraph.checkpoint.serde import _msgpack
_msgpack.SAFE_MSGPACK_TYPES -= {("langchain_core.messages.ai", "AIMessage")}
""",
        "AIMessage",
    ),
}


def run(program: str, **environment: str) -> str:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("different", DIFFERENT)
def test_with_another_langchain_or_langgraph_the_serializer_does_everything(different: str) -> None:
    change, word = DIFFERENT[different]
    assert word in run(PRELUDE + change + AFTERWARDS)


@pytest.mark.parametrize(
    "missing", ["langchain_core.messages", "langgraph.checkpoint", "ormsgpack"]
)
def test_the_module_can_be_imported_where_a_library_is_missing(missing: str) -> None:
    program = f"""
import sys
sys.modules["{missing}"] = None
from swarmstate import _messages
print(_messages.accelerate(object()), _messages.unavailable)
"""
    if missing == "ormsgpack":  # which the package itself needs
        program = program.replace("sys.modules", "import swarmstate\nsys.modules", 1)
    printed = run(program)
    assert printed.startswith("None ")
    assert "Error" in printed


@pytest.mark.parametrize("strict", ["true", "false"])
def test_strict_mode_by_the_environment_decides_as_it_does_for_langgraph(strict: str) -> None:
    program = """
from serializer_values import Point, exact
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from swarmstate.integrations.langgraph.serde import fast
serde = JsonPlusSerializer()
dumps, loads = fast(serde)
data = dumps([Point(1), HumanMessage("x")])
assert exact(loads(data)) == exact(serde.loads_typed(data))
print(loads(data)[0])
"""
    printed = run(program, LANGGRAPH_STRICT_MSGPACK=strict)
    assert printed.startswith("{'x': 1" if strict == "true" else "Point(x=1")


def test_no_class_of_langchain_is_told_apart_by_its_name_alone() -> None:
    class HumanMessage(langchain_core.messages.human.HumanMessage):  # type: ignore[misc]
        more: int = 1

    HumanMessage.__module__ = langchain_core.messages.human.__name__
    serde = JsonPlusSerializer()
    dumps, loads = fast(serde)
    data = dumps([HumanMessage("a", more=2)])
    assert data == serde.dumps_typed([HumanMessage("a", more=2)])
    assert exact(loads(data)) == exact(serde.loads_typed(data))
    assert loads(data)[0].more == 2
