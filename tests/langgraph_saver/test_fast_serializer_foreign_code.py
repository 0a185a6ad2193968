"""Foreign code in the middle of the serializer in C: nothing breaks, leaks or mixes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from documents import ROOT
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from serializer_values import Point, Values, exact

from swarmstate.integrations.langgraph.serde import fast

SERDE = JsonPlusSerializer()
DUMPS, LOADS = fast(SERDE)
CALL = {"name": "f", "args": {"a": [1]}, "id": "c", "type": "tool_call"}
CONVERSATION = [HumanMessage(f"question {n}", id=str(n)) for n in range(20)]
CONVERSATION += [AIMessage("answer", tool_calls=[CALL])]
WRITTEN = SERDE.dumps_typed(CONVERSATION)


class Dumped:
    """A model, as LangGraph sees it, that does something when it is dumped."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def model_dump(self) -> Any:
        self.act()
        return {"done": 1}


class Key:
    """A key that does something when it is hashed or compared."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def __hash__(self) -> int:
        self.act()
        return hash("type")

    def __eq__(self, other: object) -> bool:
        self.act()
        return self is other


def again() -> None:
    """Use the serializer from within itself."""
    assert DUMPS(CONVERSATION) == WRITTEN
    assert LOADS(WRITTEN) == CONVERSATION
    assert DUMPS({"large": "x" * 200_000, "m": CONVERSATION})[1].endswith(WRITTEN[1])


def result_of(call: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return call(argument)
    except Exception as error:
        return type(error), str(error)


def test_a_model_may_use_the_serializer_when_it_is_dumped() -> None:
    value = [
        "before",
        Dumped(again),
        {"k": Dumped(again)},
        CONVERSATION,
        _DeltaSnapshot(Dumped(again)),
    ]
    assert DUMPS(value) == SERDE.dumps_typed(value)
    assert DUMPS(Dumped(again)) == SERDE.dumps_typed(Dumped(again))


def test_a_key_may_use_the_serializer_when_it_is_compared() -> None:
    key = Key(again)
    # In a tool call, a usage and a dict: where keys are looked at to know a message.
    call = {"name": "f", "args": {}, "id": "c", key: "tool_call"}
    usage = {"input_tokens": 1, "output_tokens": 2, key: 3}
    for change in (
        {"tool_calls": [call]},
        {"usage_metadata": usage},
        {"additional_kwargs": {key: 1}},
    ):
        message = AIMessage("x")
        message.__dict__.update(change)
        for value in (message, [message, "after"], {"m": message}, {key: message}):
            assert result_of(DUMPS, value) == result_of(SERDE.dumps_typed, value)


def test_a_key_that_cannot_be_hashed_again_is_written_as_by_langgraph() -> None:
    class Once(str):
        hashed = False

        def __hash__(self) -> int:
            if self.hashed:
                raise RuntimeError("hashed before")
            self.hashed = True
            return 1

    assert DUMPS([{Once("a"): 1}]) == SERDE.dumps_typed([{"a": 1}])


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("times", [1, 2])
def test_a_container_that_changes_while_it_is_written_is_written_as_it_is_then(
    kind: type, times: int
) -> None:
    def change() -> None:
        if changes:
            changes.pop()
            if kind is list:
                del value[-1]
            else:
                value[f"more {len(changes)}"] = len(changes)

    changes = list(range(times))
    dumped = Dumped(change)
    value: Any = ["a", dumped, "b", "c", "d"] if kind is list else {"a": 1, "d": dumped, "b": 2}
    data = DUMPS({"outer": value})
    assert not changes
    assert data == SERDE.dumps_typed({"outer": value})


@pytest.mark.parametrize("kind", [list, dict])
def test_a_container_that_changes_every_time_is_refused(kind: type) -> None:
    value: Any = (
        [Dumped(lambda: value.pop()), *range(10)]
        if kind is list
        else {"d": Dumped(lambda: value.update({len(value): 1}))}
    )
    with pytest.raises(RuntimeError, match="changes whenever"):
        DUMPS([value])
    assert DUMPS(CONVERSATION) == WRITTEN


@pytest.mark.parametrize("kind", [dict, list, tuple])
def test_what_is_being_written_may_be_dropped_by_everybody_else(kind: type) -> None:
    junk: list[Any] = []

    def drop() -> None:
        outer[0] = None
        # Whatever memory became free is used again, for something else of the same kind.
        junk.extend(kind({str(n): n, "x": n, "y": n}) for n in range(200))

    parts = {"act": Dumped(drop), "rest": ["x" * 100, {"more": Point(1)}], "end": "y"}
    outer = [parts if kind is dict else kind(parts.values()), "after"]
    kept = {**parts, "act": Dumped(lambda: None)}
    del parts
    expected = SERDE.dumps_typed([kept if kind is dict else list(kept.values()), "after"])
    assert DUMPS(outer) == expected
    assert outer == [None, "after"]


def test_everything_may_be_dropped_while_it_is_written() -> None:
    def drop() -> None:
        value.clear()
        gc.collect()

    value: Any = {"only": [{"d": Dumped(drop), "rest": ["x" * 100, Point(1)]}, "y" * 100]}
    assert DUMPS({"outer": value}) == SERDE.dumps_typed({"outer": {}})


@pytest.fixture
def frequent_collections() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*thresholds)


def test_finalizers_may_use_the_serializer(frequent_collections: None) -> None:
    finished: list[int] = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            again()
            finished.append(1)

    value = [CONVERSATION, Point(1), {1, 2}, Dumped(Cycle), _DeltaSnapshot([Point(2)])]
    data = SERDE.dumps_typed(value)
    for _ in range(30):
        Cycle()
        assert DUMPS(value) == data
        Cycle()
        assert exact(LOADS(data)) == exact(SERDE.loads_typed(data))
    assert finished


def test_nobody_sees_a_value_before_it_is_whole(frequent_collections: None) -> None:
    """Not even a hook, nor a finalizer that looks at everything the collector knows."""
    seen: list[Any] = []

    def look() -> None:
        for one in gc.get_objects():
            if type(one) is HumanMessage:
                seen.append((vars(one).get("content"), repr(one.__pydantic_fields_set__)))
            elif type(one) is list and len(one) == 3:
                seen.append([type(part).__name__ for part in one])  # an empty slot would crash

    class Looking:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            look()

    data = DUMPS([CONVERSATION[:2], {1}, [1, 2, HumanMessage("x")]])
    for _ in range(3):
        Looking()
        assert LOADS(data)[0] == CONVERSATION[:2]
    assert seen


def test_threads_write_and_read_at_the_same_time() -> None:
    interval = sys.getswitchinterval()
    failures: list[BaseException] = []
    growing: list[Any] = [HumanMessage("first")]
    done = threading.Event()

    def work(seed: int) -> None:
        try:
            values = Values(seed)
            for _ in range(60):
                value = [values.message(), Point(seed), {"k": [CONVERSATION, {seed}]}]
                try:
                    data = SERDE.dumps_typed(value)
                except Exception:
                    continue
                assert DUMPS(value) == data
                assert exact(LOADS(data)) == exact(SERDE.loads_typed(data))
                try:
                    written = DUMPS(growing)
                except RuntimeError:  # it became shorter each time
                    continue
                assert LOADS(written)[0].content == "first"
        except BaseException as error:
            failures.append(error)

    def grow() -> None:
        while not done.is_set():
            growing.append(HumanMessage("more") if len(growing) % 2 else Point(1))
            if len(growing) > 50:
                del growing[1:]

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    grower = threading.Thread(target=grow)
    sys.setswitchinterval(1e-6)
    try:
        for one in (*workers, grower):
            one.start()
        for one in workers:
            one.join()
    finally:
        done.set()
        grower.join()
        sys.setswitchinterval(interval)
    assert not failures


# --- Memory, in a process of its own --------------------------------------------------------------

MEASURE = """
import gc, logging, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
import langgraph.checkpoint.serde.jsonplus as jsonplus
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from serializer_values import Failing, Model, Point, Values
from swarmstate import _messages
from swarmstate.integrations.langgraph.serde import fast
serde = jsonplus.JsonPlusSerializer(pickle_fallback=False)
dumps, loads = fast(serde)
assert _messages.accelerate(serde) is not None
call = {"name": "f", "args": {"a": [1]}, "id": "c", "type": "tool_call"}
chat = [HumanMessage("é" * 10, id="1", name="n"), AIMessage("x", tool_calls=[call]),
        ToolMessage([{"type": "text"}], tool_call_id="c", artifact={"k": (1, 2.5, 2**60)})]
blobs = [dumps(one) for one in (
    chat, {"m": chat, "p": [Point(1), {1: Point(2)}]}, _DeltaSnapshot([chat, Point(3)]),
    [ToolMessage("", tool_call_id="", artifact=Point(1))], [HumanMessage("x", more=1)], {1}
)]
def attempt(call, *arguments):
    try:
        call(*arguments)
    except Exception:
        pass
cut = [("msgpack", blob[:size]) for _, blob in blobs for size in range(0, len(blob), 23)]
if sys.version_info < (3, 11):
    cut = []  # ormsgpack before 1.13, the last for Python 3.10, leaks what it has read of them
def once():
    fast(serde)
    for blob in blobs:
        loads(blob)
    for one in (chat, {"k": [Model(), Point(1)], 5: {(1, 2): 3}}, _DeltaSnapshot(chat), "é\\ud800",
                "x" * 100_000, [b"x" * 2_000_000], None, b"x", [1.5, [Point(1), Point(2)]]):
        dumps(one)
    for one in ([1, Failing()], _DeltaSnapshot([object()]), {"\\ud800": 1}, 2**64, object(),
                [HumanMessage("x"), {"k": object()}]):
        attempt(dumps, one)
    for one in cut:
        attempt(loads, one)
    attempt(loads, ("unheard of", b""))
    attempt(loads, ("msgpack", blobs[0][1] + b"\\x00"))
    changing = [Model(), 1, 2]
    changing[0].__dict__["n"] = changing
    attempt(dumps, changing)
def measure():
    for _ in range(20):
        once()
    gc.collect()
    return sys.getallocatedblocks(), sum(map(sys.getrefcount, [HumanMessage, AIMessage, ToolMessage,
           serde, call, *chat, *chat[0].__dict__.values(), None.__class__, _DeltaSnapshot]))
for _ in range(10):
    measure()
measured = [measure() for _ in range(5)]
pairs = list(zip(measured, measured[1:]))
print(*(min(after[i] - before[i] for before, after in pairs) for i in range(2)))
"""


def run(program: str, **environment: str) -> str:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_leaks_whatever_is_written_read_or_refused() -> None:
    blocks, references = map(int, run(MEASURE).split())
    # Of 20 rounds each: a single object that leaks in one of the calls would be 20. The least of
    # four, because what libraries keep for themselves grows now and then.
    assert blocks < 20
    assert references < 20


CHECKED = """
import logging, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from serializer_values import Values, exact
from swarmstate.integrations.langgraph.serde import fast
serde = JsonPlusSerializer()
dumps, loads = fast(serde)
values = Values(7)
for _ in range(300):
    value = values.anything()
    try:
        data = dumps(value)
    except Exception:
        continue
    assert exact(loads(data)) == exact(serde.loads_typed(data))
    if data[1]:
        try:
            loads((data[0], values.damaged(data[1])))
        except Exception:
            pass
print("done")
"""


def test_no_byte_outside_a_buffer_is_touched() -> None:
    assert run(CHECKED, PYTHONMALLOC="debug") == "done\n"
