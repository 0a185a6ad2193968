"""How a store is made, and how it is not."""

from __future__ import annotations

from typing import Any

import pytest

from swarmstate import Store
from swarmstate.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    InvalidArgumentError,
    UnknownCodecError,
)
from swarmstate.protocols import SnapshotLike, StoreLike


def test_the_defaults_are_msgpack_and_no_history(make_store: Any) -> None:
    store: StoreLike = make_store()
    assert store.codec == "msgpack"
    assert store.max_history == 0


def test_a_store_and_its_snapshots_offer_the_protocols(store: StoreLike) -> None:
    assert isinstance(store, StoreLike)
    assert isinstance(store.snapshot(), SnapshotLike)


def test_an_unknown_codec_is_named_beside_the_known_ones(make_store: Any) -> None:
    with pytest.raises(UnknownCodecError, match=r"'yaml'.*'msgpack'.*'ormsgpack'"):
        make_store(codec="yaml")


@pytest.mark.parametrize("codec", [None, 1, b"msgpack", ["msgpack"]], ids=repr)
def test_a_codec_is_given_by_its_name(make_store: Any, codec: Any) -> None:
    with pytest.raises((UnknownCodecError, InvalidArgumentError)):
        make_store(codec=codec)


@pytest.mark.parametrize("bound", ["1", 1.0, True, [1]], ids=repr)
def test_a_history_bound_of_another_type_is_refused(make_store: Any, bound: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="max_history must be None or an int >= 0"):
        make_store(max_history=bound)


def test_a_negative_history_bound_is_refused(make_store: Any) -> None:
    with pytest.raises(ArgumentValueError, match="max_history must be None or an int >= 0, not -1"):
        make_store(max_history=-1)


@pytest.mark.parametrize("default", [1, "hook", []], ids=repr)
def test_a_default_that_cannot_be_called_is_refused(make_store: Any, default: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="default must be None or a function"):
        make_store(default=default)


def test_the_memory_store_knows_no_other_backend() -> None:
    with pytest.raises(ArgumentValueError, match="backend must be 'memory', not 'redis'"):
        Store("redis")
    with pytest.raises(ArgumentTypeError, match="backend must be 'memory', not NoneType"):
        Store(None)  # type: ignore[arg-type]
