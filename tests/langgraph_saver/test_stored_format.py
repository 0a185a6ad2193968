"""What a store holds of a thread, and that it can be told apart and read back."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st
from threads import checkpoint, config

from swarmstate.checkpoints import field
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

digits = st.text("0123456789", min_size=31, max_size=33)
versions = (
    st.builds("{}.{}".format, digits, st.text("0.1az", max_size=4))
    | st.text("0.1:z+", max_size=40)
    | st.integers()
    | st.floats(allow_nan=False)
)
places = st.tuples(st.text("a:z0.", max_size=4), versions)


@given(places, places)
@example(("a", "0" * 31 + "1.5"), ("a", "1.5"))
@example(("a", "0" * 32 + ".5"), ("a", "0" * 31 + ".5"))
@example(("a", 1), ("a", 1.0))
@example(("a", "0." + "0" * 30 + ".5"), ("a", "." + "0" * 30 + ".5"))
def test_no_two_channels_and_versions_share_a_key(
    one: tuple[str, str | int | float], other: tuple[str, str | int | float]
) -> None:
    same = one == other and type(one[1]) is type(other[1]) and repr(one[1]) == repr(other[1])
    assert (field(*one) == field(*other)) is same


def test_the_padding_of_versions_is_not_stored_with_every_value() -> None:
    version = SwarmStateSaver().get_next_version(None, None)
    assert len(version.partition(".")[0]) == 32
    assert len(field("channel", version)) < len(version)


def test_a_checkpoint_holds_the_values_it_was_put_with_and_no_others(
    make_store: Callable[..., StoreLike],
) -> None:
    saver = SwarmStateSaver(make_store())
    both = {"kept": "1.0", "gone": "1.0"}
    first = saver.put(config(), checkpoint(both, {"kept": 1, "gone": 2}, "0001"), {}, both)
    second = saver.put(first, checkpoint(both, {"kept": 1}, "0002"), {}, {})
    for where, values in ((first, {"kept": 1, "gone": 2}), (second, {"kept": 1})):
        found = saver.get_tuple(where)
        assert found is not None
        assert found.checkpoint["channel_values"] == values
        assert found.checkpoint["channel_versions"] == both


def test_what_a_caller_changes_in_place_and_puts_on_unchanged_leaves_older_checkpoints_alone(
    make_store: Callable[..., StoreLike],
) -> None:
    saver = SwarmStateSaver(make_store())
    versions = {"kept": "1.0", "own": "1.0"}
    kept = ["first"]
    body = checkpoint(versions, {"kept": kept, "own": 1}, "0001")
    first = saver.put(config(), body, {}, dict(versions))
    kept.append("changed in place")
    versions["own"] = "2.0"
    body = checkpoint(versions, {"kept": kept, "own": 2}, "0002")
    second = saver.put(first, body, {}, {"own": "2.0"})
    for where, own in ((first, 1), (second, 2)):
        found = saver.get_tuple(where)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"kept": ["first"], "own": own}
    # A new version of it is another value, and one that is put again replaces what was there.
    versions["kept"] = "2.0"
    for again in (kept, ["replaced"]):
        third = saver.put(
            second, checkpoint(versions, {"kept": again}, "0003"), {}, {"kept": "2.0"}
        )
        found = saver.get_tuple(third)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"kept": again}
