"""Random values for LangGraph's serializer, and what "the same" means for what it gives back."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import math
import os
import pathlib
import random
import re
import struct
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import numpy
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, SecretStr

EXAMPLES = int(os.environ.get("SWARMSTATE_TEST_EXAMPLES", "2000"))
"""How many examples each property is tried on."""


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Kind(str, enum.Enum):
    HUMAN = "human"


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Real(float):
    pass


class Items(list[Any]):
    pass


class Table(dict[Any, Any]):
    pass


class Question(HumanMessage):
    pass


class Model(BaseModel):
    n: int = 1
    items: list[Any] = []


class Nested(BaseModel):
    message: Any = None


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any


class Pair(collections.namedtuple("Pair", "a b")):
    pass


class Failing:
    """A model whose dump raises, as LangGraph sees it."""

    def model_dump(self) -> Any:
        raise LookupError("no dump")


NUMBERS = [
    sign * 2**power + step
    for power in (0, 5, 7, 8, 15, 16, 31, 32, 62, 63, 64)
    for step in (-1, 0, 1)
    for sign in (1, -1)
]
REALS = [0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 1e300, 5e-324]
REALS.append(struct.unpack(">d", b"\xff\xf8\x00\x00\x00\x00\x12\x34")[0])
SIZES = [0, 1, 2, 5, 15, 16, 17, 31, 32, 33, 200, 255, 256, 257]

KEYS = [1, -5, 2**40, 2**64, None, True, 1.5, (1, ("a",)), b"k", Kind.HUMAN, Number(3), Color.RED]
KEYS += [uuid.UUID(int=1), datetime.date(2025, 1, 1), Text("k"), frozenset(), memoryview(b"m")]
INPUT_DETAILS: list[dict[str, int]] = [{}, {"cache_read": 1}, {"ephemeral": 3}]
INPUT_DETAILS += [{"audio": 1, "cache_creation": 2, "cache_read": 3}, {"cache_read": 3, "audio": 1}]

UTC = datetime.timezone.utc
ODD: list[Callable[[], Any]] = [
    lambda: Color.RED,
    lambda: Color.PAIR,
    lambda: Kind.HUMAN,
    lambda: Level.LOW,
    lambda: Text("text"),
    lambda: Text("\ud800"),
    lambda: Number(5),
    lambda: Real(1.5),
    lambda: Items([1, Items()]),
    lambda: Table(a=Text("b")),
    lambda: collections.OrderedDict(a=1),
    lambda: collections.defaultdict(list, a=[1]),
    lambda: collections.Counter("aab"),
    lambda: collections.deque([1, (2,)]),
    lambda: datetime.datetime(2025, 1, 1, tzinfo=UTC),
    lambda: datetime.datetime(2025, 1, 1, 2, 3, 4, 5),
    lambda: datetime.datetime(2025, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Rome")),
    lambda: datetime.date(2025, 1, 2),
    lambda: datetime.time(1, 2, 3, 4, tzinfo=UTC, fold=1),
    lambda: datetime.timedelta(1, 2, 3),
    lambda: datetime.timezone(datetime.timedelta(hours=2)),
    lambda: uuid.UUID(int=5),
    lambda: decimal.Decimal("1.50"),
    lambda: {1},
    lambda: {("a", 1)},
    lambda: frozenset([1]),
    lambda: frozenset([object()]),
    lambda: Model(n=3),
    lambda: Model.model_construct(n="wrong"),
    lambda: Nested(message=HumanMessage("inside")),
    lambda: Point(1, [2]),
    lambda: Point(HumanMessage("inside"), Point(None)),
    lambda: Frozen({1: 2}),
    lambda: Pair(1, b"2"),
    lambda: pathlib.PurePosixPath("/x"),
    lambda: pathlib.Path("/x/y"),
    lambda: re.compile("a+", re.IGNORECASE),
    lambda: ipaddress.ip_address("10.0.0.1"),
    lambda: ipaddress.ip_network("fe80::/10"),
    lambda: SecretStr("secret"),
    lambda: Send("node", {"a": HumanMessage("sent")}),
    lambda: Interrupt("value", id="i"),
    lambda: Command(update={"a": 1}),
    lambda: ValueError("told"),
    lambda: object(),
    lambda: Failing(),
    lambda: b"bytes",
    lambda: bytearray(b"array"),
    lambda: memoryview(b"view"),
    lambda: memoryview(b"strided")[::2],
    lambda: Document("page", metadata={"n": 1}),
    lambda: range(3),
    lambda: 1 + 2j,
    lambda: int,
    lambda: numpy.float64(1.5),
    lambda: numpy.int32(7),
    lambda: numpy.arange(6, dtype="i2").reshape(2, 3),
    lambda: numpy.asfortranarray(numpy.ones((2, 2))),
    lambda: numpy.ones((4, 4))[::2, ::2],
    lambda: numpy.array(["a", None], dtype=object),
    lambda: ChatMessage("chat", role="r"),
    lambda: FunctionMessage("f", name="n"),
    lambda: RemoveMessage(id="x"),
    lambda: Question("asked", more=1),
    lambda: AIMessageChunk(
        "c", tool_call_chunks=[{"name": "f", "args": "{}", "id": "1", "index": 0}]
    ),
]


class Values:
    """Makes random values, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def one_of(self, *makers: Callable[[], Any]) -> Any:
        return self.random.choice(makers)()

    def text(self) -> str:
        dice = self.random.random()
        if dice < 0.55:
            return "".join(self.random.choices("abc xyz0", k=self.random.choice(SIZES)))
        if dice < 0.9:
            alphabet = self.random.choice(["aé", "aÿĀ", "漢字a", "😀é", "\x00\x7f\x80"])
            return "".join(self.random.choices(alphabet, k=self.random.choice(SIZES)))
        if dice < 0.93:
            return self.random.choice(["\ud800", "bad\udfff", "é\ud900é"])
        if dice < 0.96:
            return Text("of a subclass")
        return "x" * self.random.choice([1000, 65535, 65536, 70000])

    def plain_leaf(self) -> Any:
        return self.one_of(
            self.text,
            lambda: self.random.choice(NUMBERS),
            lambda: self.random.choice(REALS),
            lambda: self.random.choice([None, True, False, "", b"", b"raw" * 100]),
            lambda: self.random.randrange(1000),
        )

    def odd(self) -> Any:
        return self.random.choice(ODD)()

    def key(self) -> Any:
        if self.chance(0.85):
            return self.text()
        return self.random.choice(KEYS)

    def value(self, depth: int = 0) -> Any:
        dice = self.random.random()
        if depth > 3 or dice < 0.4:
            return self.plain_leaf()
        if dice < 0.5:
            return self.odd()
        if dice < 0.55:
            return self.message()
        sizes = [0, 1, 2, 3, 15, 16, 17] if depth < 2 else [0, 1, 2]
        size = self.random.choice(sizes)
        if dice < 0.7:
            return {self.key(): self.value(depth + 1) for _ in range(size)}
        if dice < 0.9:
            return [self.value(depth + 1) for _ in range(size)]
        if dice < 0.92:
            return [self.odd() for _ in range(size)]
        if dice < 0.94:
            return _DeltaSnapshot(self.value(depth + 1))
        if dice < 0.96:
            return self.deep()
        return tuple(self.value(depth + 1) for _ in range(2))

    def deep(self) -> Any:
        """Something nested about as deep as one of the limits."""
        value = self.one_of(
            lambda: None, self.odd, self.message, lambda: [self.message()], lambda: {"k": [{1, 2}]}
        )
        limit = self.random.choice([90, 100, 240, 255])
        for level in range(limit + self.random.randrange(-8, 9)):
            value = [value] if level % 3 else {"k": value}
        return value

    def plain(self, depth: int = 0) -> Any:
        dice = self.random.random()
        if depth > 2 or dice < 0.5:
            return self.plain_leaf()
        if dice < 0.75:
            return {self.text(): self.plain(depth + 1) for _ in range(3)}
        if dice < 0.95:
            return [self.plain(depth + 1) for _ in range(3)]
        return (self.plain(depth + 1), self.odd() if self.chance(0.3) else 1)

    def block(self) -> Any:
        return self.one_of(
            self.text,
            lambda: {"type": "text", "text": self.text()},
            lambda: {"type": "image_url", "image_url": {"url": self.text()}},
            lambda: {"type": "tool_use", "id": "i", "input": self.plain(), "name": "n"},
            lambda: {self.text(): self.value(2)},
            lambda: {self.key(): 1},
        )

    def content(self) -> Any:
        if self.chance(0.65):
            return self.text()
        return [self.block() for _ in range(self.random.choice([0, 1, 2, 17]))]

    def tool_call(self) -> dict[str, Any]:
        call: dict[str, Any] = {
            "name": self.text(),
            "args": self.one_of(
                dict, lambda: {"a": self.plain()}, lambda: {self.text(): self.value(2)}
            ),
            "id": self.one_of(lambda: None, lambda: "call_1", self.text),
        }
        if self.chance(0.7):
            call["type"] = "tool_call"
        if self.chance(0.05):
            call["extras"] = {}
        return call

    def usage(self) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "input_tokens": self.random.randrange(10**6),
            "output_tokens": 5,
            "total_tokens": self.random.choice([7, 2**63, True]),
        }
        if self.chance(0.4):
            usage["input_token_details"] = self.random.choice(INPUT_DETAILS)
        if self.chance(0.3):
            usage["output_token_details"] = self.random.choice(
                [{}, {"reasoning": 1}, {"audio": 1, "reasoning": 4}]
            )
        return usage

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.chance(0.5):
            options["id"] = self.one_of(self.text, lambda: None, lambda: "run--1", lambda: 12)
        if self.chance(0.2):
            options["name"] = self.text()
        if self.chance(0.3):
            call = {"name": "f", "arguments": self.random.choice(["{}", '{"a":1}', "{"])}
            options["additional_kwargs"] = self.one_of(
                dict,
                lambda: {"a": self.plain()},
                lambda: {"tool_calls": [{"id": "1", "type": "function", "function": call}]},
                lambda: {"tool_calls": []},
                lambda: {self.key(): self.value(2)},
            )
        if self.chance(0.3):
            options["response_metadata"] = self.one_of(
                dict,
                lambda: {"finish_reason": "stop", "token_usage": {"prompt": 1}},
                lambda: {self.key(): self.value(2)},
            )
        if self.chance(0.05):
            options["more"] = self.value(2)
        return options

    def _new_message(self) -> Any:
        dice = self.random.random()
        options = self._options()
        if dice < 0.3:
            return HumanMessage(self.content(), **options)
        if dice < 0.7:
            if self.chance(0.5):
                options["tool_calls"] = [
                    self.tool_call() for _ in range(self.random.choice([0, 1, 2]))
                ]
            if self.chance(0.1):
                options["invalid_tool_calls"] = [
                    {"name": "f", "args": "{", "id": "x", "error": "e"}
                ]
            if self.chance(0.4):
                options["usage_metadata"] = self.usage()
            return AIMessage(self.content(), **options)
        if dice < 0.9:
            if self.chance(0.4):
                options["artifact"] = self.value(1)
            if self.chance(0.3):
                options["status"] = "error"
            call = self.random.choice(["c1", 5, uuid.UUID(int=1), self.text()])
            content = self.one_of(self.content, self.content, lambda: self.value(2))
            return ToolMessage(content, tool_call_id=call, **options)
        return SystemMessage(self.content(), **options)

    def message(self) -> Any:
        """A message, now and then changed in a way that validation never sees."""
        while True:
            with contextlib.suppress(Exception):
                message = self._new_message()
                break
        if self.chance(0.25):
            message = self._changed(message)
        return message

    def _changed(self, message: Any) -> Any:
        fields = message.__dict__
        match self.random.randrange(22):
            case 0:
                message.content = self.random.choice([5, None, ("a",), [1, 2], {"a": 1}, ["a", ()]])
            case 1:
                message.additional_kwargs = self.value(1)
            case 2:
                message = type(message).model_construct(content="only this")
            case 3:
                message = message.model_copy(update={"id": self.value(2), "new": 1})
            case 4:
                fields["not a field"] = 1
            case 5:
                fields.pop(self.random.choice(list(fields)))
            case 6:
                fields["tool_calls"] = self.random.choice(
                    [
                        [{"name": "f", "args": {}, "id": "i", "type": "tool_call", "more": 1}],
                        [{"type": "tool_call", "id": "i", "args": {}, "name": "n"}],
                        [{"name": "f", "args": {1: 2}, "id": "i", "type": "tool_call"}],
                        [{"name": "f", "args": {}, "id": "i", "type": Text("tool_call")}],
                        [{"name": "f", "args": {}, "id": "i", "type": "other"}],
                        ({"name": "f", "args": {}, "id": None, "type": "tool_call"},),
                        [self.tool_call()],
                        None,
                    ]
                )
            case 7:
                fields["usage_metadata"] = self.random.choice(
                    [
                        {"output_tokens": 1, "input_tokens": 2, "total_tokens": 3},
                        {"input_tokens": 1, "output_tokens": 2, "total_tokens": 2.0},
                        {"input_tokens": 1, "output_tokens": 2},
                        {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "more": 1},
                        {
                            "input_tokens": 1,
                            "output_tokens": 2,
                            "total_tokens": 3,
                            "output_token_details": {},
                            "input_token_details": {},
                        },
                        {},
                    ]
                )
            case 8:
                message.type = self.random.choice(["human", "ai", "other", Text("ai"), None])
            case 9:
                message.id = self.random.choice([5, Text("x"), b"x"])
            case 10:
                reordered = dict(reversed(list(fields.items())))
                object.__setattr__(message, "__dict__", reordered)
            case 11:
                object.__setattr__(message, "__pydantic_extra__", self.random.choice([None, {}]))
            case 12:
                object.__setattr__(message, "__pydantic_extra__", {"more": self.value(2)})
            case 13:
                object.__setattr__(message, "__pydantic_fields_set__", {"content"})
            case 14:
                object.__setattr__(message, "__dict__", Table(fields))
            case 15:
                fields["name"] = self.random.choice([Text("n"), 5, ""])
            case 16:
                fields["status"] = self.random.choice(["other", Text("error"), None, "error"])
            case 17:
                fields["response_metadata"] = Table(a=1)
            case 18:
                # Names that are equal to the fields' and not the same objects, as pickle makes.
                renamed = {"".join(list(name)): value for name, value in fields.items()}
                object.__setattr__(message, "__dict__", renamed)
            case 19:
                fields["additional_kwargs"] = {"deep": self.deep()}
            case 20:
                fields["tool_call_id"] = self.random.choice([None, 5, Text("c")])
            case 21:
                fields["artifact"] = self.odd()
        return message

    def anything(self) -> Any:
        dice = self.random.random()
        if dice < 0.45:
            return [self.message() for _ in range(self.random.choice([1, 1, 2, 5]))]
        if dice < 0.65:
            return self.message()
        if dice < 0.75:
            return {"messages": [self.message(), self.message()], "n": self.value()}
        return self.value()

    def damaged(self, data: bytes) -> bytes:
        """Bytes with a few of them changed, cut off, doubled or added."""
        raw = bytearray(data)
        if self.chance(0.75):
            for _ in range(self.random.choice([1, 1, 2, 3])):
                at = self.random.randrange(len(raw))
                raw[at] = self.random.choice(
                    [self.random.randrange(256), raw[at] ^ 1 << self.random.randrange(8)]
                )
        if self.chance(0.3):
            raw = raw[: self.random.randrange(len(raw) + 1)]
        if self.chance(0.2):
            raw += self.random.choice([b"\x00", b"\xc0", data])
        if self.chance(0.2):
            at, size = self.random.randrange(len(raw) + 1), self.random.randrange(20)
            raw[at:at] = raw[at : at + size]
        return bytes(raw)


def exact(value: Any) -> list[Any]:
    """Turn a value into something that is equal only if the value is the same in every respect.

    A flat list, because comparing deep structures is recursive.
    """
    tokens: list[Any] = []
    todo = [value]
    while todo:
        value = todo.pop()
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if kind in (str, bytes, int, bool, type(None), bytearray):
            tokens.append((name, value))
        elif isinstance(value, float):
            tokens.append((name, struct.pack(">d", value)))
        elif isinstance(value, BaseModel):
            # Where a slot is empty, reading it fails.
            slots = ["__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"]
            tokens.append((name, "model"))
            todo += [value.__dict__, *(getattr(value, slot, "unset") for slot in slots)]
        elif isinstance(value, dict):
            tokens.append((name, len(value)))
            todo.extend(part for pair in reversed(value.items()) for part in reversed(pair))
        elif isinstance(value, (list, tuple, collections.deque)):
            tokens.append((name, len(value)))
            todo.extend(reversed(value))
        elif isinstance(value, (set, frozenset)):
            tokens.append((name, sorted(repr(exact(item)) for item in value)))
        elif isinstance(value, numpy.ndarray):
            tokens.append((name, value.dtype.str, value.shape, value.tobytes(), value.flags.num))
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            tokens.append((name, "dataclass"))
            todo += [getattr(value, one.name, None) for one in dataclasses.fields(value)]
        else:
            tokens.append((name, repr(value)))
    return tokens
