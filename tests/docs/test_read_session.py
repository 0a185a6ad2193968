"""examples/read_session.mjs: a framework's session, read by a program in another language."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from documents import ROOT
from node import installed

pytest.importorskip("agents", reason="openai-agents is not installed")

from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.openai_agents import SwarmStateSession


def test_node_reads_a_session_with_a_plain_msgpack_library(server_url: str, tmp_path: Path) -> None:
    folder = installed("session", "@msgpack/msgpack@3.1.2", "ioredis@5")
    with RedisStore(server_url, prefix="node", codec="msgpack") as store:
        session = SwarmStateSession("customer-1", store)
        said = [{"role": "user", "content": f"número {n}"} for n in range(12)]
        asyncio.run(session.add_items([*said, {"role": "assistant", "content": "adiós"}]))
        store.set("openai-agents:customer-1", "another key", "not an item")
    program = tmp_path / "read_session.mjs"
    shutil.copy(ROOT / "examples" / "read_session.mjs", program)
    (tmp_path / "node_modules").symlink_to(folder / "node_modules")
    done = subprocess.run(
        ["node", str(program), server_url, "customer-1", "node"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    expected = [*(f"user: número {n}" for n in range(12)), "assistant: adiós"]
    assert done.stdout.splitlines() == expected
