"""Processes that begin with the stores and frameworks imported, which takes each of them seconds.

They are forked by a server of multiprocessing, which imports once what is named here; what is not
installed is left out. There is one such server in a process, and what it imports is fixed when it
starts, so all tests share this list.
"""

from __future__ import annotations

import multiprocessing

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        *("swarmstate.backends.disk", "swarmstate.backends.redis"),
        *("pydantic_ai.conversation_store", "swarmstate.integrations.pydantic_ai"),
        *("google.adk.events.event", "swarmstate.integrations.google_adk"),
    ]
)
