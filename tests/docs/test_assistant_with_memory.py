"""The example remembers its user across threads and processes, and looks nothing up twice."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import run, run_here


@pytest.mark.parametrize("kind", ["file", "server"])
def test_it_knows_its_user_in_every_thread_and_process(
    kind: str, server_url: str, tmp_path: Path
) -> None:
    store = [] if kind == "file" else ["--store", server_url]
    ana = f"ana-{uuid.uuid4().hex}"

    def say(
        message: str, thread: str = "first", user: str = ana, how: Callable[..., str] = run_here
    ) -> str:
        arguments = [*store, "--thread", thread, "--user", user, message]
        return how("assistant_with_memory", *arguments, cwd=tmp_path)

    question = f"When are figs ripe, {ana}?"
    assert (
        say("I like figs", how=run)
        == "(looking up figs)\nfigs are in season in August. (message 1 of this thread)\n"
    )
    assert say("I drink tea") == "Noted. (message 2 of this thread)\n"
    known = say("What do you know about me?", thread="second", how=run)
    assert known == "I know that you drink tea, you like figs. (message 1 of this thread)\n"
    assert say("What do you know about me?", user=f"ben-{ana}").startswith("I know nothing")
    assert "(looking up figs)" in say(question)
    assert "(looking up figs)" not in say(question, thread="third")
    assert list(tmp_path.glob("assistant.db")) == ([] if store else [tmp_path / "assistant.db"])
