"""The serializer in C does what LangGraph's own does: the same bytes, values, errors and events."""

from __future__ import annotations

import ast
import contextlib
import itertools
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.event_hooks import register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from serializer_values import EXAMPLES, Color, Failing, Model, Point, Text, Values, exact
from threads import checkpoint, config

import swarmstate
from swarmstate import _messages
from swarmstate.integrations.langgraph import CheckpointDecodeError, SwarmStateSaver
from swarmstate.integrations.langgraph.serde import fast

SERDES: dict[str, Callable[[], JsonPlusSerializer]] = {
    "permissive": JsonPlusSerializer,
    "strict": lambda: JsonPlusSerializer(allowed_msgpack_modules=None),
    "allowlisted": lambda: JsonPlusSerializer(allowed_msgpack_modules=[Model, Point]),
    "with a larger allowlist": lambda: JsonPlusSerializer(
        allowed_msgpack_modules=None
    ).with_msgpack_allowlist([Model]),
    "with pickle": lambda: JsonPlusSerializer(pickle_fallback=True),
}
PARTS = 8  # so that several processes can share the examples


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def outcome(call: Callable[[], Any]) -> Any:
    """Everything that a call does: what it returns or raises, its events, logs and warnings."""
    for name in ("unregistered", "blocked", "unreconstructable"):
        getattr(jsonplus, f"_warned_{name}_types", set()).clear()
    events: list[Any] = []
    records = Records()
    unregister = register_serde_event_listener(events.append)
    jsonplus.logger.addHandler(records)
    result: Any
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                result = ("returned", call())
            except Exception as error:
                cause = error.__cause__
                result = ("raised", type(error), str(error), type(cause), str(cause))
    finally:
        unregister()
        jsonplus.logger.removeHandler(records)
    if result[0] == "returned":
        result = ("returned", exact(result[1]))
    seen = [exact(event) for event in events]  # a damaged module may be NaN, which equals nothing
    return result, seen, records.texts, [str(one.message) for one in warned]


def written_alike(serde: JsonPlusSerializer, value: Any) -> tuple[str, bytes] | None:
    """Check that a value is written alike; return the bytes."""
    dumps, _ = fast(serde)
    written: list[tuple[str, bytes]] = []

    def reference() -> tuple[str, bytes]:
        written.append(serde.dumps_typed(value))
        return written[0]

    expected = outcome(reference)
    assert outcome(lambda: dumps(value)) == expected
    return written[0] if written else None


def read_alike(serde: JsonPlusSerializer, data: tuple[str, bytes]) -> Any:
    """Check that bytes are read alike; return the outcome."""
    _, loads = fast(serde)
    expected = outcome(lambda: serde.loads_typed(data))
    assert outcome(lambda: loads(data)) == expected
    return expected


def is_fast(call: Callable[[], Any]) -> bool:
    """Whether a call enters no function that is written in Python."""
    entered: list[str] = []

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename != __file__:
            entered.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return not entered


@pytest.fixture(params=SERDES)
def serde(request: pytest.FixtureRequest) -> JsonPlusSerializer:
    return SERDES[request.param]()


def test_what_is_installed_is_what_this_was_written_for() -> None:
    assert _messages.unavailable is None


def test_the_stub_of_the_module_says_what_the_module_has() -> None:
    stub = ast.parse((Path(swarmstate.__file__).parent / "_messages.pyi").read_text())
    (described,) = (node for node in stub.body if isinstance(node, ast.ClassDef))
    methods = {node.name for node in described.body if isinstance(node, ast.FunctionDef)}
    assert described.name == "Accelerated"
    assert methods == {one for one in vars(_messages.Accelerated) if not one.startswith("_")}
    assert _messages.accelerate.__doc__
    for name in methods - {"serde"}:
        assert getattr(_messages.Accelerated, name).__doc__
    with pytest.raises(TypeError, match="accelerate"):
        _messages.Accelerated()


# --- Random values and bytes ----------------------------------------------------------------------


@pytest.mark.parametrize("part", range(PARTS))
def test_random_values_are_written_and_read_alike(part: int) -> None:
    values = Values(part)
    serdes = itertools.cycle([make() for make in SERDES.values()])
    for _ in range(EXAMPLES // PARTS):
        data = written_alike(next(serdes), values.anything())
        if data is not None:
            read_alike(next(serdes), data)
            next(serdes)


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_bytes_are_read_alike(part: int) -> None:
    values = Values(1000 + part)
    serdes = itertools.cycle([make() for make in SERDES.values()])
    reference = JsonPlusSerializer()
    for _ in range(EXAMPLES // PARTS):
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tag, data = reference.dumps_typed(values.anything())
            if data:
                read_alike(next(serdes), (tag, values.damaged(data)))


def test_every_head_is_read_alike_with_too_few_and_with_enough_bytes() -> None:
    serde = JsonPlusSerializer()
    rests = [b"", b"\x00", b"\x01\xa1a", b"\x00\x02" + b"\xc0" * 40, b"\xff" * 5, b"a" * 300]
    for head in range(256):
        # ormsgpack before 1.13, the last for Python 3.10, crashes where a list claims to be huge.
        for rest in rests[:4] if head == 0xDD and sys.version_info < (3, 11) else rests:
            for outer in (b"", b"\x91", b"\x81\xa1k", b"\x81", b"\xc7\x03\x07", b"\x92\xc0"):
                read_alike(serde, ("msgpack", outer + bytes([head]) + rest))


# --- What it is for -------------------------------------------------------------------------------

CALL = {"name": "f", "args": {"a": [1, {"b": None}]}, "id": "c", "type": "tool_call"}
USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
BLOCKS: list[str | dict[Any, Any]] = ["a", {"type": "text", "text": "漢"}]
CONVERSATION = [
    SystemMessage("you are", id="0"),
    HumanMessage("what?", id="1", name="ada"),
    AIMessage("", tool_calls=[CALL], usage_metadata={**USAGE, "input_token_details": {}}),
    ToolMessage("42", tool_call_id="c", artifact={"n": (1, b"2")}, status="error"),
    AIMessage(BLOCKS, id="2", response_metadata={"model_name": "m", "logprobs": None}),
    HumanMessage("x" * 70_000, additional_kwargs={"k": 1.5}),
]
BODY = {
    "v": 4,
    "ts": "2026-01-01T00:00:00+00:00",
    "id": "1ef-x",
    "versions_seen": {"__input__": {}, "agent": {"branch:to:agent": "00001.5"}},
    "updated_channels": ["messages"],
}
METADATA = {"source": "loop", "step": -1, "parents": {}, "thread_id": "t"}


@pytest.mark.parametrize(
    "value",
    [
        CONVERSATION,
        CONVERSATION[2],
        {"messages": CONVERSATION, "n": [1, {2: 3}]},
        _DeltaSnapshot(CONVERSATION),
        BODY,
        METADATA,
        [2**64 - 1, -(2**63), 1.5, b"bytes", None, True, "é", (1,)],
    ],
    ids=["messages", "a message", "state", "a snapshot", "body", "metadata", "plain"],
)
def test_nothing_of_langgraph_is_called_for_what_is_known(value: Any) -> None:
    serde = JsonPlusSerializer()
    dumps, loads = fast(serde)
    data = written_alike(serde, value)
    assert data is not None
    read_alike(serde, data)
    assert is_fast(lambda: dumps(value))
    assert is_fast(lambda: loads(data))
    assert not is_fast(lambda: serde.dumps_typed(value))


def test_what_is_read_is_nobody_elses() -> None:
    dumps, loads = fast(JsonPlusSerializer())
    data = dumps(CONVERSATION)
    first, second = loads(data), loads(data)
    for one, other in zip(first, second, strict=True):
        for attribute in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__"):
            assert getattr(one, attribute) is not getattr(other, attribute)
        assert one.additional_kwargs is not other.additional_kwargs
        one.more = 1
        one.content = "changed"
        one.__pydantic_fields_set__.clear()
    assert exact(loads(data)) == exact(second)


def test_other_values_are_asked_for_their_dump_once_each_and_in_order() -> None:
    called: list[int] = []

    class Told:
        def __init__(self, n: int) -> None:
            self.n = n

        def model_dump(self) -> Any:
            called.append(self.n)
            return {"n": self.n}

    dumps, _ = fast(JsonPlusSerializer())
    told = [Told(n) for n in range(8)]
    value = [
        told[0],
        told[1],
        "x",
        {"k": told[2], "m": [told[3], 1]},
        (told[4], told[5]),
        *told[6:],
    ]
    data = dumps(value)
    assert called == list(range(8))
    assert data == JsonPlusSerializer().dumps_typed(value)
    with pytest.raises(Exception, match="Failing"):
        dumps([told[0], Failing(), told[1]])


# --- Bytes that nobody wrote ----------------------------------------------------------------------


def packed(text: str) -> bytes:
    return JsonPlusSerializer().dumps_typed(text)[1]


def extension(code: int, data: bytes) -> bytes:
    return b"\xc9" + len(data).to_bytes(4, "big") + bytes([code]) + data


SET = JsonPlusSerializer().dumps_typed({1})[1]
POINT = JsonPlusSerializer().dumps_typed(Point(1))[1]
FIELD_BYTES = [b"\xc0", b"\x01", b"\xa1x", b"\x80", b"\x90", b"\x91\xa1x", SET, POINT, b"\xc4\x01x"]
FIELD_BYTES += [b"\x81\xa1k" + POINT, b"\x91" + POINT, b"\x82\xa1k\x01\xa1k\x02", b"\x81\x01\x02"]
FIELD_BYTES += [b"\x81" + packed("tool_calls") + b"\x90", b"\x91\x81\xa1k" + POINT, b"\xc1"]


@pytest.mark.parametrize("message", CONVERSATION[:4], ids=lambda message: message.type)
def test_every_field_of_a_message_may_hold_anything(message: Any) -> None:
    serdes = [make() for make in SERDES.values()]
    module, name = type(message).__module__, type(message).__name__
    dumped = message.model_dump()
    known = {one: JsonPlusSerializer().dumps_typed([dumped[one]])[1][1:] for one in dumped}
    for field, put in itertools.product(dumped, FIELD_BYTES):
        fields = b"".join(packed(one) + (put if one == field else known[one]) for one in dumped)
        head = b"\x94" + packed(module) + packed(name) + bytes([0x80 | len(dumped)])
        data = extension(5, head + fields + packed("model_validate_json"))
        for serde, outer in itertools.product(serdes, (b"", b"\x92" + POINT)):
            read_alike(serde, ("msgpack", outer + data))


def test_other_shapes_of_a_message_are_read_alike(serde: JsonPlusSerializer) -> None:
    for message in CONVERSATION[:4]:
        module, name = type(message).__module__, type(message).__name__
        items = list(message.model_dump().items())
        for fields, method, count in (
            (items[:-1], "model_validate_json", 4),
            ([*items, ("more", 1)], "model_validate_json", 4),
            (items[::-1], "model_validate_json", 4),
            (items, "model_validate", 4),
            (items, None, 3),
            (items, "model_validate_json", 5),
        ):
            data = serde.dumps_typed((module, name, dict(fields), method, 1)[:count])[1]
            for more in (b"", b"\xc0"):
                read_alike(serde, ("msgpack", extension(5, data + more)))
                read_alike(serde, ("msgpack", b"\x91" + extension(5, data + more)))
                read_alike(serde, ("msgpack", b"\x91" + extension(7, extension(5, data) + more)))


@pytest.mark.parametrize("level", [b"\x91", b"\x81\xa1k", b"\x82\xa1k\xc0\xa1l", b"\xdc\x00\x01"])
@pytest.mark.parametrize("leaf", [b"\xc0", SET, b"\xc1", b""])
def test_deep_bytes_are_read_alike(level: bytes, leaf: bytes) -> None:
    for depth in (*range(95, 105), 250, 256, *range(1018, 1028), 50_000):
        read_alike(JsonPlusSerializer(), ("msgpack", level * depth + leaf))


def test_a_blob_that_turns_out_odd_causes_each_event_once() -> None:
    serde = JsonPlusSerializer()
    for rest in (b"\xc1", b"", b"\x81\xc0\xc0", b"\x82\xa1k\x01\xa1k\x02", b"\x91" + POINT):
        _, events, _, _ = read_alike(serde, ("msgpack", b"\x92" + POINT + rest))
        assert len(events) == (2 if POINT in rest else 1)


@pytest.mark.parametrize("first", [POINT, SET, b"\x01", b"\x91" + POINT])
@pytest.mark.parametrize("second", [POINT, SET, b"\x01", b"\x81\xa1k" + POINT])
def test_a_key_that_comes_twice_is_read_alike(first: bytes, second: bytes) -> None:
    twice = b"\x82\xa1k" + first + b"\xa1k" + second
    for data in (twice, b"\x92" + twice + POINT, b"\x81\xa1m" + twice):
        read_alike(JsonPlusSerializer(), ("msgpack", data))


def test_a_declared_length_costs_no_more_than_the_bytes_that_are_there() -> None:
    import tracemalloc

    _, loads = fast(JsonPlusSerializer())
    size = 200_000
    # Each of the nested lists could hold what is left; all of them together could not.
    blob = (b"\xdd" + size.to_bytes(4, "big")) * 90 + b"\xc0" * size
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="end of file"):
            loads(("msgpack", blob))
        ours = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        with pytest.raises(ValueError, match="end of file"):
            JsonPlusSerializer().loads_typed(("msgpack", blob))
        theirs = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ours <= theirs + 1_000_000


@pytest.mark.parametrize(
    "data",
    [
        ("null", b""),
        ("bytes", b"x"),
        ("bytearray", b"x"),
        ("json", b'{"a": 1}'),
        ("pickle", b"N."),
        ("unheard of", b""),
        ("msgpack", bytearray(b"\x91\x01")),
        ("msgpack", memoryview(b"\x91\x01")),
        ("msgpack", "text"),
        (Text("msgpack"), b"\x91\x01"),
        ("msg" + "pack", b"\x91\x01"),
        ["msgpack", b"\x91\x01"],
        ("msgpack", b""),
        ("msgpack",),
        ("msgpack", b"\x01", 1),
        {"msgpack": 1, b"\x01": 2},
        None,
        5,
    ],
)
def test_whatever_is_to_be_read_is_read_or_refused_alike(
    serde: JsonPlusSerializer, data: Any
) -> None:
    read_alike(serde, data)


@pytest.mark.parametrize(
    "value", [None, b"", b"x", bytearray(b"x"), object(), Failing(), [object()]]
)
def test_whatever_is_to_be_written_is_written_or_refused_alike(
    serde: JsonPlusSerializer, value: Any
) -> None:
    written_alike(serde, value)
    dumps, _ = fast(serde)
    if isinstance(value, (bytes, bytearray)):
        assert dumps(value)[1] is value


def test_large_heads_are_written_and_read_alike() -> None:
    serde = JsonPlusSerializer()
    for size in (65535, 65536, 70_000):
        for value in ([None] * size, {str(n): n for n in range(size)}, b"x" * size, "é" * size):
            data = written_alike(serde, [value])
            assert data is not None
            read_alike(serde, data)


# --- In the saver ---------------------------------------------------------------------------------


def functions_entered(call: Callable[[], Any]) -> set[tuple[str, str]]:
    """The Python functions that a call enters, each with its file."""
    entered: set[tuple[str, str]] = set()

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            code = frame.f_code
            entered.add((code.co_filename.replace("\\", "/"), code.co_name))

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered


def test_a_saver_writes_and_reads_values_body_and_metadata_with_it() -> None:
    def use(saver: SwarmStateSaver) -> set[str]:
        body = checkpoint({"messages": "1"}, {"messages": CONVERSATION, "n": 1}, "0001")
        found: list[Any] = []

        def calls() -> None:
            where = saver.put(config(), body, {"step": 1, "source": "loop"}, {"messages": "1"})
            saver.put_writes(where, [("messages", CONVERSATION[:1])], "task")
            found.extend([saver.get_tuple(where), *saver.list(config(), filter={"step": 1})])

        entered = functions_entered(calls)
        assert len(found) == 2
        for one in found:
            assert exact(one.checkpoint["channel_values"]["messages"]) == exact(
                JsonPlusSerializer().loads_typed(JsonPlusSerializer().dumps_typed(CONVERSATION))
            )
            assert one.metadata == {"step": 1, "source": "loop"}
            assert one.pending_writes == [("task", "messages", CONVERSATION[:1])]
        return {name for file, name in entered if file.endswith("serde/jsonplus.py")}

    saver = SwarmStateSaver()
    assert not use(saver)
    saver.serde = Subclass()
    assert {"dumps_typed", "loads_typed"} <= use(saver)
    saver.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    assert not use(saver)


class Subclass(JsonPlusSerializer):
    pass


@pytest.mark.parametrize("patched", ["dumps_typed", "loads_typed"])
def test_a_method_that_is_patched_on_a_savers_serializer_is_called(
    patched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = SwarmStateSaver(serde=JsonPlusSerializer())
    seen: list[Any] = []
    original = getattr(saver.serde, patched)
    body = checkpoint({"messages": "1"}, {"messages": CONVERSATION}, "0001")
    saver.put(config(), body, {}, {"messages": "1"})
    saver.get_tuple(config())
    with monkeypatch.context() as patches:
        patches.setattr(saver.serde, patched, lambda one: (seen.append(one), original(one))[1])
        saver.put(config(), body, {}, {"messages": "1"})
        saver.get_tuple(config())
    assert len(seen) == 3  # a value, the body and the metadata


def test_a_saver_that_refuses_blocked_types_refuses_them_within_what_is_known() -> None:
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    saver = SwarmStateSaver(serde=serde, on_blocked="error")
    message = ToolMessage("x", tool_call_id="c", artifact={"deep": [Color.RED]})
    for value in (message, [message, "after"], _DeltaSnapshot([message])):
        body = checkpoint({"messages": "1"}, {"messages": value}, "0001")
        saver.put(config(), body, {}, {"messages": "1"})
        with pytest.raises(CheckpointDecodeError, match="Color") as raised:
            saver.get_tuple(config())
        assert raised.value.channel == "messages"


@pytest.fixture(autouse=True)
def nothing_is_left_patched() -> Iterator[None]:
    yield
    assert _messages.accelerate(JsonPlusSerializer()) is not None
