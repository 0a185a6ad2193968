"""What SECURITY.md says a planted value can do, and what prevents it, is so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLANTED = """
import pickle, sys
import ormsgpack
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from swarmstate.errors import DecodeError
from swarmstate.integrations.langgraph import SwarmStateSaver

class Pickled:
    def __reduce__(self):
        import os
        return os.mkdir, (sys.argv[1],)

class Cipher:
    encrypt = staticmethod(lambda data: ("none", data))
    decrypt = staticmethod(lambda name, data: data)

call = ormsgpack.packb(("os", "mkdir", sys.argv[1]))
msgpacked = ["msgpack", ormsgpack.packb(ormsgpack.Ext(0, call))]
pickled = ["pickle", pickle.dumps(Pickled())]

planted, saver = eval(sys.argv[2])
versions = {"channel": saver.get_next_version(None, None)}
checkpoint = {**empty_checkpoint(), "channel_values": {"channel": 1}, "channel_versions": versions}
config = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
saver.put(config, checkpoint, {}, versions)
(values,) = saver.store.namespaces("langgraph:values:")
(field,) = saver.store.keys(values)
saver.store.set(values, field, planted)
try:
    found = saver.get_tuple(config).checkpoint["channel_values"]["channel"]
except DecodeError:
    found = "an error"
print(found)
"""

PERMISSIVE, STRICT = "false", "true"
STRICTLY = "JsonPlusSerializer(allowed_msgpack_modules=[('my_agent.models', 'Order')])"


@pytest.mark.parametrize(
    ("mode", "made", "runs", "read"),
    [
        (PERMISSIVE, "msgpacked, SwarmStateSaver()", True, "None"),
        (PERMISSIVE, "msgpacked, SwarmStateSaver(on_blocked='error')", True, "an error"),
        (
            PERMISSIVE,
            "msgpacked, SwarmStateSaver(serde=EncryptedSerializer(Cipher()))",
            True,
            "None",
        ),
        (PERMISSIVE, f"msgpacked, SwarmStateSaver(serde={STRICTLY})", False, "the data"),
        (STRICT, "msgpacked, SwarmStateSaver()", False, "the data"),
        (STRICT, "msgpacked, SwarmStateSaver(on_blocked='error')", False, "an error"),
        (STRICT, "pickled, SwarmStateSaver()", False, "an error"),
        (
            STRICT,
            "pickled, SwarmStateSaver(serde=JsonPlusSerializer(pickle_fallback=True))",
            True,
            "None",
        ),
    ],
)
def test_a_planted_value_runs_code_only_where_the_page_says_so(
    tmp_path: Path, mode: str, made: str, runs: bool, read: str
) -> None:
    trace = tmp_path / "trace"
    done = subprocess.run(
        [sys.executable, "-I", "-c", PLANTED, str(trace), made],
        env={"LANGGRAPH_STRICT_MSGPACK": mode},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert trace.exists() is runs
    assert done.stdout.strip() == (str(trace) if read == "the data" else read)
