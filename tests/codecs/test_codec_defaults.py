"""``default=``: encoding anything else the user's way, alike with every codec."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import uuid
from typing import Any

import pytest
from codec_values import many, wild_values
from exactness import outcome
from hypothesis import given

from swarmstate import Store, codecs, dumps, loads
from swarmstate.errors import EncodeError, InvalidArgumentError

ID = uuid.UUID(int=5)


def tagged(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__, **vars(value)}
    return str(value)


@dataclasses.dataclass
class Order:
    number: int
    price: decimal.Decimal


def test_values_are_encoded_the_users_way_wherever_they_are(codec: str) -> None:
    value = {"order": [Order(1, decimal.Decimal("2.50")), {3, 1}], "id": ID}
    assert loads(dumps(value, codec, default=tagged), codec) == {
        "order": [{"type": "Order", "number": 1, "price": "2.50"}, [1, 3]],
        "id": str(ID),
    }


def test_keys_are_encoded_the_users_way(codec: str) -> None:
    value = {ID: 1, (ID, 2): 3}
    assert loads(dumps(value, codec, default=str), codec) == {str(ID): 1, (str(ID), 2): 3}


def test_keys_that_the_hook_makes_one_are_refused(codec: str) -> None:
    with pytest.raises(EncodeError, match="another key of the same dict becomes"):
        dumps({ID: 1, str(ID): 2}, codec, default=str)


def test_the_hook_is_not_asked_about_what_is_supported(codec: str) -> None:
    def never(value: Any) -> Any:
        raise AssertionError(value)

    value = [1, "a", {"b": (b"c", None)}, datetime.datetime.now(datetime.timezone.utc), {1: 2}]
    assert dumps(value, codec, default=never) == dumps(value, codec)


@pytest.mark.parametrize(
    "value", [2**64, datetime.datetime(2020, 1, 1), "\ud800", memoryview(b"x").cast("B"), {1}, 1j]
)
def test_the_hook_is_asked_about_everything_that_is_refused(value: Any, codec: str) -> None:
    asked = []

    def note(item: Any) -> Any:
        asked.append(item)
        return "noted"

    if isinstance(value, memoryview):
        value.release()
    assert loads(dumps([value], codec, default=note), codec) == ["noted"]
    assert asked[0] is value
    assert len(asked) == 1


class StopNowError(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [TypeError("mine"), ValueError(), KeyError(1), EncodeError("own"), RecursionError("deep"),
     MemoryError(), StopIteration(3), StopNowError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_the_hook_raises_arrives_unchanged(error: BaseException, codec: str) -> None:
    def fail(value: Any) -> Any:
        raise error

    for value in ({1}, [[{1}]], {"a": {ID: 1}}, {(1, ID): 2}):
        with pytest.raises(type(error)) as caught:
            dumps(value, codec, default=fail)
        assert caught.value is error
        assert error.__cause__ is None
        assert error.__context__ is None


def test_what_the_hook_raises_passes_through_a_store(codec: str) -> None:
    error = LookupError("mine")

    def fail(value: Any) -> Any:
        raise error

    with Store(codec=codec, default=fail) as store:
        with pytest.raises(LookupError) as caught:
            store.set("n", "k", [{1}])
        assert caught.value is error
        assert len(store) == 0


def test_a_hook_may_answer_with_what_it_will_be_asked_about_again(codec: str) -> None:
    def step(value: Any) -> Any:
        return value + 1j if value.imag < 5 else [decimal.Decimal(1)]

    def last(value: Any) -> Any:
        return step(value) if isinstance(value, complex) else str(value)

    assert loads(dumps(0j, codec, default=last), codec) == ["1"]


@pytest.mark.parametrize(
    "hook",
    [lambda value: value, lambda value: {1}, lambda value: object()],
    ids=["itself", "set", "new"],
)
def test_a_hook_that_never_answers_with_something_supported_is_named(hook: Any, codec: str) -> None:
    with pytest.raises(
        EncodeError, match=r"^cannot encode set at value\['a'\]: default= returned "
    ):
        dumps({"a": {2}}, codec, default=hook)


def test_a_hook_that_nests_without_end_stops_at_the_limit_of_depth(codec: str) -> None:
    with pytest.raises(EncodeError, match="nested deeper than 1024 levels"):
        dumps({1}, codec, default=lambda value: [value])


def test_a_hook_that_changes_the_containers_being_encoded_does_no_harm(codec: str) -> None:
    items: list[Any] = [1, {1}, 2, {2}, 3]
    names: dict[Any, Any] = {"a": {1}, "b": items, ID: {2}, "c": 4}
    value = {"items": items, "names": names, "after": [5]}

    def destroy(item: Any) -> Any:
        items.clear()
        names.clear()
        names.update((str(n), n) for n in range(100))
        value["after"] = "changed"
        return "hooked"

    back = loads(dumps(value, codec, default=destroy), codec)
    # Each container was read when it was met.
    assert back["items"] == [1, "hooked", 2, "hooked", 3]
    assert back["names"] == {str(n): n for n in range(100)}
    assert back["after"] == [5]


def test_a_hook_that_grows_the_list_it_is_called_from_ends(codec: str) -> None:
    items: list[Any] = [{1}] * 3

    def grow(item: Any) -> Any:
        items.extend([{1}] * 1000)
        return 0

    assert loads(dumps(items, codec, default=grow), codec) == [0, 0, 0]


def test_a_hook_may_use_the_codec_itself(codec: str) -> None:
    def inner(value: Any) -> Any:
        return dumps(sorted(value), codec, default=inner)

    assert loads(loads(dumps([{2, 1}], codec, default=inner), codec)[0], codec) == [1, 2]


@pytest.mark.parametrize("hook", [5, "str", []])
def test_a_hook_that_cannot_be_called_is_refused(hook: Any, codec: str) -> None:
    with pytest.raises(InvalidArgumentError, match="default must be None or a function"):
        dumps([1], codec, default=hook)


@many
@given(wild_values)
def test_anything_goes_through_the_hook_alike(value: Any) -> None:
    def run(name: str) -> tuple[Any, list[Any]]:
        asked: list[Any] = []

        def hook(item: Any) -> Any:
            asked.append(type(item))
            return ["hooked", type(item).__name__, len(asked)]

        return outcome(lambda: codecs.get(name).encode(value, default=hook)), asked

    assert run("msgpack") == run("ormsgpack")
