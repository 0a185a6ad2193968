"""What Python lets one do with any object: copy it, subclass it, leave it half made."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from swarmstate import Snapshot, Store, codecs
from swarmstate.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DecodeError,
    InvalidArgumentError,
    StoreUnavailable,
    WireFormatError,
)
from swarmstate.protocols import FastPath

COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, pickle.dumps]


@pytest.mark.parametrize("duplicate", COPIES)
def test_stores_and_snapshots_refuse_to_be_copied_and_say_what_to_do(
    duplicate: Callable[[Any], Any],
) -> None:
    store = Store()
    with pytest.raises(TypeError, match=r"restore\(\) a snapshot into another"):
        duplicate(store)
    with pytest.raises(TypeError, match=r"keep its values\(\)"):
        duplicate(store.snapshot())


def test_no_class_derives_from_a_snapshot(registered: None) -> None:
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Derived", (Snapshot,), {})
    codecs.register("foreign", Foreign())
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Derived", (type(Store(codec="foreign").snapshot()),), {})


class Extended:
    """A codec of the same wire format as ours that writes more than ours read."""

    name, wire = "extended", "msgpack"
    fast = FastPath(lambda value: b"\xd4\x05x", (), lambda data: "more", ())

    def encode(self, value: object, *, default: Any = None) -> bytes:
        return b"\xd4\x05x"

    def decode(self, data: bytes) -> Any:
        return "more"


def test_what_a_codec_of_the_users_wrote_is_checked_by_a_store_with_another(
    registered: None, codec: str
) -> None:
    codecs.register("extended", Extended())
    theirs = Store(codec="extended")
    theirs.set("n", "k", 1)
    assert theirs.get("n", "k") == "more"
    ours = Store(codec=codec)
    ours.restore(theirs.snapshot())
    with pytest.raises(DecodeError, match="unsupported extension type"):
        ours.get("n", "k")
    with pytest.raises(DecodeError, match="unsupported extension type"):
        ours.snapshot().get("n", "k")


class Foreign:
    """A codec that is not one of ours."""

    name = wire = "foreign"

    def encode(self, value: object, *, default: Any = None) -> bytes:
        return repr(value).encode()

    def decode(self, data: bytes) -> Any:
        return ast.literal_eval(data.decode())


def test_a_snapshot_of_a_store_with_a_codec_of_the_users_is_like_any_other(
    registered: None,
) -> None:
    codecs.register("foreign", Foreign())
    store = Store(codec="foreign", max_history=2)
    store.set("n", "k", (1, "x"))
    first = store.snapshot()
    store.set("n", "k", 2j)
    second = store.snapshot()
    assert isinstance(first, Snapshot)
    assert (first.wire, first.size_bytes, len(first)) == ("foreign", 8, 1)
    assert first.get("n", "k") == (1, "x")
    assert second.diff(first)["changed"] == [("n", "k")]
    assert first.state["n"]["k"] == b"(1, 'x')"
    store.clear()
    store.restore(first)
    assert store.get("n", "k") == (1, "x")
    with pytest.raises(WireFormatError, match="snapshot has values of wire format 'foreign'"):
        Store().restore(first)
    with pytest.raises(WireFormatError, match="base has values of wire format 'foreign'"):
        Store().snapshot().diff(first)
    other = Store(codec="foreign")
    other.restore(second)
    assert other.get("n", "k") == 2j
    with pytest.raises(TypeError, match=r"keep its values\(\)"):
        copy.copy(first)
    assert repr(first) == f"<swarmstate.Snapshot {first.id}: 1 keys, 8 bytes>"


def test_stores_and_snapshots_are_true_also_when_empty_or_closed() -> None:
    store = Store()
    assert bool(store) is True
    assert bool(store.snapshot()) is True
    assert bool(Snapshot.from_values({})) is True
    store.close()
    assert bool(store) is True


@pytest.mark.parametrize("name", ["host", "url", "port", "prefix", "ttl", "client", "path"])
def test_an_argument_of_another_store_leads_to_that_store(name: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        Store(**{name: "x"})
    text = str(caught.value)
    assert text.startswith(f"Store() has no argument '{name}', only backend, codec, max_history")
    assert "open_store(url)" in text
    assert "RedisStore" in text


def test_a_positional_argument_too_many_is_told_in_our_words() -> None:
    with pytest.raises(ArgumentTypeError, match=r"^Store\(\) takes at most 3 positional"):
        Store("memory", "msgpack", 0, str)  # type: ignore[misc]


def test_a_subclass_takes_the_arguments_that_it_wants() -> None:
    class Named(Store):
        def __init__(self, host: str, *more: int) -> None:
            super().__init__(codec="ormsgpack")
            self.host = host

    store = Named("here", 1, 2, 3)
    store.set("n", "k", 1)
    assert (store.host, store.codec, store.get("n", "k")) == ("here", "ormsgpack", 1)


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("redis://:hunter2@h:1/0", "a URL of the scheme 'redis': "),
        ("valkeys://u:hunter2@h", "a URL of the scheme 'valkeys': "),
        ("sqlite:///hunter2.db", "a URL of the scheme 'sqlite': "),
        ("memory://", "a URL of the scheme 'memory': "),
        ("u:hunter2@h", "an address: "),
        ("redis", "'redis': "),
    ],
)
def test_a_url_as_backend_leads_to_open_store_and_is_not_shown(url: str, given: str) -> None:
    with pytest.raises(ArgumentValueError) as caught:
        Store(url)
    text = str(caught.value)
    assert text.startswith(f"backend must be 'memory', not {given}")
    assert "open_store(url)" in text
    assert "hunter2" not in text


class Forgetful(Store):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("make", [Forgetful, lambda: Store.__new__(Store)])
def test_a_store_that_was_never_initialised_counts_as_closed(make: Callable[[], Store]) -> None:
    store = make()
    for use in (
        lambda: store.set("n", "k", 1),
        lambda: store.set_many([("n", "k", 1)]),
        lambda: store.set_default("n", "k", 1),
        lambda: store.update("n", "k", lambda value: value),
        lambda: store.get("n", "k"),
        lambda: store.get_many([("n", "k")]),
        store.snapshot,
        store.history,
        store.clear,
    ):
        with pytest.raises(StoreUnavailable, match="the store is closed"):
            use()
    store.close()
    assert repr(store) == "<swarmstate.Store, closed>"


def test_a_store_initialised_again_is_empty_and_leaves_its_snapshots_alone() -> None:
    store = Store()
    store.set("n", "k", 1)
    snapshot = store.snapshot()
    store.__init__(codec="ormsgpack")  # type: ignore[misc]
    assert len(store) == 0
    assert snapshot.get("n", "k") == 1
    store.restore(snapshot)
    assert store.get("n", "k") == 1


def test_a_snapshot_that_no_store_made_is_empty_and_has_no_wire_format() -> None:
    blank = Snapshot.__new__(Snapshot)
    assert (len(blank), blank.values(), blank.get("n", "k")) == (0, {}, None)
    with pytest.raises(WireFormatError):
        Store().restore(blank)
    with pytest.raises(WireFormatError):
        Store().snapshot().diff(blank)


@pytest.mark.parametrize("parent", ["x", 1.5, True, 0, -1, 2**63])
def test_only_a_positive_number_is_a_parent(parent: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="parent must be"):
        Snapshot.from_values({}, parent=parent)


def test_a_value_that_cannot_be_decoded_is_told_with_its_place(codec: str) -> None:
    bad = Snapshot.from_values({"n": {"good": b"\x01", "bad": b"\xc1"}}, codec=codec)
    store = Store(codec=codec)
    store.restore(bad)
    text = r"^key 'bad' of namespace 'n': cannot decode 1 bytes: 0xc1 is reserved, at byte 0$"
    reads: list[Callable[[], Any]] = [
        lambda: store.get("n", "bad"),
        lambda: store.get_many([("n", "good"), ("n", "absent"), ("n", "bad")]),
        lambda: store.items("n"),
        lambda: store.update("n", "bad", lambda value: 1),
        lambda: bad.get("n", "bad"),
        lambda: store.snapshot().get("n", "bad"),
    ]
    for read in reads:
        with pytest.raises(DecodeError, match=text) as caught:
            read()
        assert isinstance(caught.value.__cause__, DecodeError)
    assert store.get("n", "good") == 1


class StoppedError(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [StopIteration("mine"), StopAsyncIteration(), GeneratorExit(), KeyboardInterrupt(),
     RuntimeError(), DecodeError("mine"), StoppedError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_a_hook_or_a_function_raises_arrives_as_it_is(error: Any, codec: str) -> None:
    def fail(*args: Any) -> Any:
        raise error

    def items() -> Any:
        yield ("n", "k", 1)
        raise error

    store = Store(codec=codec, default=fail)
    store.set("n", "k", 1)
    calls: list[Callable[[], Any]] = [
        lambda: store.set("n", "k", {1}),
        lambda: store.set("n", "k", {(1, 1j): 2}),
        lambda: store.set_many([("n", "k", 1), ("n", "k", {1})]),
        lambda: store.set_many((one, "k", {1}) for one in "ab"),
        lambda: store.set_default("n", "absent", {1}),
        lambda: store.update("n", "k", fail),
        lambda: store.update("n", "k", lambda value: {1}),
    ]
    if not isinstance(error, StopIteration):  # which ends any generator
        calls.append(lambda: store.set_many(items()))
    for call in calls:
        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error
        assert error.__cause__ is None
    assert store.snapshot().values() == {"n": {"k": b"\x01"}}


class OddSnapshot:
    """A snapshot of a store that a third party wrote."""

    wire = "msgpack"

    def __init__(self, state: Any) -> None:
        self.state = state


@pytest.mark.parametrize("state", [5, {"n": 5}, {"n": [1]}, {"n": None}], ids=repr)
def test_a_foreign_snapshot_without_a_content_is_refused_and_changes_nothing(state: Any) -> None:
    store = Store()
    store.set("n", "k", 1)
    with pytest.raises(InvalidArgumentError, match="snapshot must be a snapshot: the state of"):
        store.restore(OddSnapshot(state))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="base must be a snapshot: the state of"):
        store.snapshot().diff(OddSnapshot(state))  # type: ignore[arg-type]
    assert store.get("n", "k") == 1


def test_a_foreign_snapshot_is_restored_and_compared() -> None:
    store = Store()
    store.set("n", "k", 1)
    foreign: Any = OddSnapshot({"n": {"k": b"\x02"}, "m": {"j": b"\x01"}})
    assert store.snapshot().diff(foreign) == {
        "added": [], "removed": [("m", "j")], "changed": [("n", "k")]
    }  # fmt: skip
    store.restore(foreign)
    assert store.get("n", "k") == 2
