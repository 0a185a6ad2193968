"""The example that writes with one framework and reads with another."""

from __future__ import annotations

import sys

import pytest
from built import execute
from documents import ROOT


def test_a_history_is_carried_from_one_framework_to_another() -> None:
    for framework in ("agents", "pydantic_ai.conversation_store"):
        pytest.importorskip(framework, reason=f"{framework} is not installed")
    printed = execute(sys.executable, str(ROOT / "examples/shared_history.py"), cwd=ROOT)
    assert printed.splitlines() == [
        "read 4 items, carried 4 as text",
        "user-prompt: I want a teapot.",
        "text: Which one?",
        "user-prompt: The green one.",
        "text: The green one is 20 EUR.",
        "user-prompt: Do you have it?",
        "text: It is in stock.",
    ]
