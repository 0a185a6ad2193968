"""Errors travel: from a worker's process to the one that waits for its result."""

from __future__ import annotations

import copy
import pickle

import pytest

from swarmstate import errors
from swarmstate.backends.redis.commands import CommandRefused
from swarmstate.checkpoints.protocol import CheckpointName
from swarmstate.errors import SwarmStateError
from swarmstate.integrations.langgraph import CheckpointDecodeError, CopyMismatchError

PLAIN = [getattr(errors, name)("what it says") for name in errors.__all__]
DETAILED = [
    CommandRefused("OOM", "SET", "what it says"),
    CheckpointDecodeError("why", CheckpointName("thread", "namespace", "id"), "channel", "type"),
    CopyMismatchError("thread", "namespace", "id", "part"),
]


@pytest.mark.parametrize("error", [*PLAIN, *DETAILED], ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_it_was_pickled_or_copied(error: SwarmStateError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
