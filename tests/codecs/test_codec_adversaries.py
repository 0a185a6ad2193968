"""Input that means harm: refused quickly, in little memory, without a crash.

Each case runs in a process of its own, in threads whose stack is only 1 MB, because a crash or a
flood of memory would otherwise take the test run with it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import resource, sys, threading, time
    from swarmstate import Store, codecs, errors

    codec = codecs.get({codec!r})
    wire = codec.wire
    for warm in (b"\\x92\\x01\\xa1a", b"\\xc1", b"\\x81\\x91\\x01\\xc0"):
        try:
            codec.decode(warm)
        except errors.DecodeError:
            pass

    def resident():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MB

    def attack():
        for name, data in cases.items():
            before, began = resident(), time.thread_time()
            try:
                codec.decode(data)
            except errors.DecodeError as error:
                outcome = "refused" if len(str(error)) < 300 else "a very long text"
            except BaseException as error:
                outcome = repr(error)
            else:
                outcome = "accepted"
            took, grew = time.thread_time() - began, resident() - before
            print(name, "|", outcome, "|", f"{{took:.3f}}", "|", grew, flush=True)

    threading.stack_size(1024 * 1024)
    thread = threading.Thread(target=attack)
    thread.start()
    thread.join()
"""

DECODED = r"""import itertools
cases = {
    "keys made to collide": b"\xde\x04\x00" + b"".join(
        b"\x9a" + bytes(key) + b"\xc0" for key in itertools.product(b"\xff\xfe", repeat=10)
    ),
    "deep arrays": b"\x91" * 10_000_000,
    "deep arrays, complete": b"\x91" * 1_000_000 + b"\xc0",
    "deep maps": b"\x81\xa1k" * 3_000_000,
    "deep keys": b"\x81" * 5_000_000,
    "deep array keys": b"\x81" + b"\x91" * 5_000_000,
    "deep, one level too many": b"\x91" * 1025 + b"\xc0",
    "array of 4 Gi": b"\xdd\xff\xff\xff\xff",
    "array of 4 Gi, much of it there": b"\xdd\xff\xff\xff\xff" + b"\xc0" * 20_000_000,
    "map of 4 Gi": b"\xdf\xff\xff\xff\xff",
    "text of 4 Gi": b"\xdb\xff\xff\xff\xff" + b"a" * 1000,
    "blob of 4 Gi": b"\xc6\xff\xff\xff\xff" + b"a" * 1000,
    "extension of 4 Gi": b"\xc9\xff\xff\xff\xff\xff" + b"a" * 1000,
    "arrays of arrays": (b"\xdd\x00\x0f\xff\xff" * 1000) + b"\xc0" * 1_000_000,
    "arrays of arrays of 4 Gi": b"\xdd\xff\xff\xff\xff" * 200_000,
    "maps of maps": b"\xdf\x00\x0f\xff\xff\xa1k" * 140_000,
    "wide, then cut": b"\xdd\x00\x1e\x84\x80" + b"\x90" * 1_999_999,
    "wide, then trailing": b"\xdd\x00\x1e\x84\x80" + b"\x90" * 2_000_001,
    "wide, then reserved": b"\xdd\x00\x1e\x84\x80" + b"\x90" * 1_999_999 + b"\xc1",
}"""

ENCODED = """
    import sys, threading
    from swarmstate import codecs, errors

    codec = codecs.get({codec!r})
    def nested(depth, make):
        value = None
        for _ in range(depth):
            value = make(value)
        return value

    class Text(str): pass

    def attack():
        makers = dict(
            lists=lambda v: [v], tuples=lambda v: (v,), dicts=lambda v: {{"k": v}},
            subclasses=lambda v: [Text("a"), v], keys=lambda v: {{(1, "a"): v}},
        )
        for name, make in makers.items():
            deepest = 1023 if name == "keys" else 1024  # a tuple in a key is a level too
            for depth in (1000, 1023, 1024, 1025, 5000, 50_000):
                value = nested(depth, make)
                for hook in (None, str):
                    try:
                        back = codec.decode(codec.encode(value, default=hook))
                    except errors.EncodeError:
                        assert depth > deepest, (name, depth)
                    else:
                        assert depth <= deepest, (name, depth)
                    back = None
                while value is not None:  # taken apart by hand, for it is deeper than the stack
                    value = [*value.values()][0] if type(value) is dict else value[-1]
        print("done", flush=True)

    threading.stack_size(1024 * 1024)
    thread = threading.Thread(target=attack)
    thread.start()
    thread.join()
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", ["msgpack", "ormsgpack"])
def test_hostile_bytes_are_refused_at_once_and_in_little_memory(name: str) -> None:
    lines = run(DECODED + textwrap.dedent(PROGRAM.format(codec=name))).splitlines()
    assert len(lines) == DECODED.count('": ')
    for line in lines:
        case, outcome, took, grew = line.split(" | ")
        assert outcome == "refused", line
        assert float(took) < 0.1, line  # seconds of this thread's processor time
        assert int(grew) < 200, line
    assert case == "wide, then reserved"


@pytest.mark.parametrize("name", ["msgpack", "ormsgpack"])
def test_any_depth_is_encoded_or_refused_on_a_small_stack(name: str) -> None:
    assert run(textwrap.dedent(ENCODED.format(codec=name))) == "done\n"
