"""The language of conditions: what holds for which state, and what is refused."""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from enum import Enum, IntEnum
from typing import Any

import pytest
from codec_values import EXAMPLES
from conditions import conditions, holds, states, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmstate import HandoffGraph
from swarmstate.errors import ArgumentValueError


def routed(condition: str, state: dict[str, Any] | None = None) -> bool:
    """Whether an edge with this condition is taken."""
    graph = HandoffGraph()
    graph.add_edge("here", "there", when=condition)
    found = graph.route("here", state)
    assert found in ("there", None)
    return found == "there"


STATE: dict[str, Any] = {
    "yes": True,
    "no": False,
    "none": None,
    "one": 1,
    "zero": 0,
    "float": 1.0,
    "minus": -3,
    "text": "abc",
    "empty": "",
    "quote": "it's",
    "list": [1, "a", [2]],
    "pair": (1, "a"),
    "big": 2**53,
    "huge": 10**400,
    "nan": float("nan"),
    "infinite": float("inf"),
    "data": b"x",
    "set": {1, "a"},
    "nothing": [],
    "no_keys": {},
    "größe": 4,
    "नाम": "x",
    "user": {"name": "ada", "plan": {"tier": "gold"}, 1: "x", None: 0},
    "key": "name",
}

TRUE = """
true
True
not false
not null
not None
not missing
not (missing and yes)
'0'
0.5
yes
one
minus
text
list
user
data
set
user.plan.tier
user . plan. tier == 'gold'
nan
one == 1
one == 1.0
float == 1
1.5 == 1.50
1e3 == 1000
1E+3 == 1000.0
25e-1 == 2.5
minus == -3
-3.0 == minus
big == 9007199254740992
big != 9007199254740993
huge > 1e308
huge > infinite or infinite > huge
yes == true
no == false
none == null
missing == null
missing == none
null == null
null != false
text == "abc"
quote == 'it\\'s'
quote == "it's"
'\\n' != 'n'
'\\q' == 'q'
'a\\\\b' == "a\\\\b"
text != 'abd'
text < 'abd'
'Z' < 'a'
text >= 'abc'
one != text
one != yes
yes != 1
zero != no
missing != 1
missing.deep.down == null
text.length == null
1 < 2 and 2 < 3
minus < 0
zero <= 0.0
0 >= zero
'b' in text
text in text
'' in text
'a' in list
1 in list
1.0 in list
'a' in pair
1 in set
'a' in set
'name' in user
key in user
1 in user
1.0 in user
null in user
list == list
user == user
nothing == nothing
data == data
(one == 1) == yes
(one == 2) == false
(yes and one) == true
(one) == 1
not one == 2
not not yes
no or yes and yes
yes or no and no
(no or yes) and not no
one==1and yes
größe>3
नाम == 'x'
minus in(list) or yes
"""

FALSE = """
false
False
null
none
''
0
-0.0
zero
no
empty
nothing
no_keys
missing
user.plan.price
TRUE
one == true
yes == 1
yes == 1.0
zero == false
zero == null
empty == null
one == '1'
missing == 0
missing == ''
data == 'x'
nan == nan
nan < 1
nan >= 1
yes < 2
no < yes
yes <= true
null <= null
none < 1
one < text
one >= text
text > 1
list < list
list <= list
user < user
data <= data
'x' in data
true in list
false in nothing
null in list
'2' in list
'a' in yes
1 in one
1 in text
null in text
null in missing
'ada' in user
true in user
true in set
list == pair
list == nothing
set == set
not yes
not (one == 1)
not one == 1
no and missing
(no or yes) and no
"""


def lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


@pytest.mark.parametrize("condition", [*lines(TRUE), "\tone\u00a0==\n1\u3000"])
def test_a_condition_that_holds_takes_its_edge(condition: str) -> None:
    assert routed(condition, STATE)


@pytest.mark.parametrize("condition", lines(FALSE))
def test_a_condition_that_does_not_hold_leaves_its_edge(condition: str) -> None:
    assert not routed(condition, STATE)


REFUSED = {
    "": (0, "empty"),
    " \n ": (3, "empty"),
    "x ==": (4, "expected a value, but the condition ends"),
    "x = 1": (2, "write =="),
    "x ! 1": (2, "write != or not"),
    "x && y": (2, "write and"),
    "x | y": (2, "write or"),
    "x >== 1": (4, "write =="),
    "foo(1)": (3, "expected the end, 'and' or 'or', not '('"),
    "1 < 2 < 3": (6, "cannot be chained"),
    "x in y == true": (7, "cannot be chained"),
    "x and": (5, "expected a value"),
    "and": (0, "expected a value, not 'and'"),
    "x or or y": (5, "expected a value, not 'or'"),
    "x == not y": (5, "expected a value, not 'not'"),
    "not": (3, "expected a value"),
    "x not in y": (2, "expected the end"),
    "(x": (2, "expected ')', but the condition ends"),
    "(x y)": (3, "expected ')', not 'y'"),
    "()": (1, "expected a value, not ')'"),
    "x)": (1, "not ')'"),
    "x.": (2, "a name after the dot, but the condition ends"),
    "x.0 == 1": (2, "a name after the dot, not '0'"),
    "x.in": (2, "a name after the dot, not 'in'"),
    "x..y": (2, "a name after the dot, not '.'"),
    ".5 == x": (0, "expected a value, not '.'"),
    "5. == x": (1, "not '.'"),
    "1.2.3": (3, "not '.'"),
    "- 1 == x": (0, "unexpected character '-'"),
    "+1 == x": (0, "unexpected character '+'"),
    "a-b == 1": (1, "unexpected character '-'"),
    "1e == x": (1, "not 'e'"),
    "0x10": (1, "not 'x10'"),
    "1_000": (1, "not '_000'"),
    "x == 1e999": (5, "too large"),
    "x == -1e999": (5, "too large"),
    "x in ['a']": (5, "unexpected character '['"),
    "x in (1, 2)": (7, "unexpected character ','"),
    "x == 'abc": (5, "not closed"),
    "x == \"abc'": (5, "not closed"),
    "x == 'abc\\'": (5, "not closed"),
    "x == “abc”": (5, "unexpected character '“'"),
    "x” == 1": (1, "unexpected character '”'"),
    "x\u200b == 1": (1, "unexpected character"),
    "x² and ²": (7, "unexpected character '²'"),
    "٣ == 3": (0, "unexpected character '٣'"),
    "x == 1; y": (6, "unexpected character ';'"),
    "x\0": (1, "unexpected character"),
    "lambda: 1": (6, "unexpected character ':'"),
    "x == \ud800": (5, "unexpected character"),
}


@pytest.mark.parametrize("condition", REFUSED)
def test_what_is_no_condition_is_refused_by_position_and_leaves_the_graph_alone(
    condition: str,
) -> None:
    index, problem = REFUSED[condition]
    graph = HandoffGraph()
    with pytest.raises(ArgumentValueError) as caught:
        graph.add_edge("here", "there", when=condition)
    text = str(caught.value)
    assert text.startswith("edge 'here' -> 'there': invalid condition ")
    assert f" at index {index}: " in text
    assert problem in text
    assert repr(condition) in text
    assert graph.nodes() == []


def test_an_int_may_have_as_many_digits_as_python_reads() -> None:
    assert routed("10" + "0" * 400 + " > huge", {"huge": 10**400})
    limit = sys.get_int_max_str_digits() if hasattr(sys, "get_int_max_str_digits") else 0
    if limit:
        with pytest.raises(ArgumentValueError, match="at index 1: the number has too many digits"):
            routed(" " + "1" * (limit + 1))


# --- Size ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "closing", "repeats"),
    [("(", ")", 64), ("not ", "", 64), ("not (", ")", 32), ("(true == ", ")", 64)],
)
def test_sixty_four_levels_are_accepted_and_one_more_is_refused(
    opening: str, closing: str, repeats: int
) -> None:
    deepest = opening * repeats + "x" + closing * repeats
    assert routed(deepest, {"x": True})
    for one_more in (f"({deepest})", f"not {deepest}"):
        with pytest.raises(ArgumentValueError, match="nested deeper than 64 levels"):
            routed(one_more)


def test_levels_that_were_left_do_not_count() -> None:
    assert routed(" and ".join(["(not (x == 1))"] * 1000), {"x": 2})


@pytest.mark.parametrize("parts", [100_000])
def test_a_condition_may_be_long(parts: int) -> None:
    assert routed(" or ".join(["x == 1"] * parts + ["x == 2"]), {"x": 2})
    assert not routed(" and ".join(["x == 2"] * parts + ["x == 1"]), {"x": 2})
    path = ".".join(["x"] * parts)
    assert routed(f"{path} == null", {"x": {"x": {}}})
    assert routed(f"x == '{'y' * parts}'", {"x": "y" * parts})
    assert routed(f"x == '{chr(92) * 2 * parts}'", {"x": chr(92) * parts})


# --- Values of other types -----------------------------------------------------------------------


class Colour(str, Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Lying(str):
    """Says that it equals everything."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __len__(self) -> int:
        return 0

    __hash__ = str.__hash__


def test_a_value_of_a_subclass_counts_as_the_built_in_value_that_it_extends() -> None:
    made = defaultdict(lambda: "made", {"b": 1})
    state = OrderedDict(colour=Colour.RED, level=Level.HIGH, lying=Lying("a"), made=made)
    state |= {"real": type("Real", (float,), {})(1.5), "raw": type("Raw", (bytes,), {})(b"x")}
    state |= {"array": bytearray(b"x"), "items": type("Items", (list,), {})([Level.HIGH])}
    state |= {"tuple": type("Items", (tuple,), {})([3]), "set": type("Set", (set,), {})("a")}
    for condition in (
        "colour == 'red' and 'red' == colour and colour > 'blue' and 'e' in colour",
        "level == 3 and level == 3.0 and level > 2 and level",
        "lying != 'b' and lying == 'a' and 'b' != lying and lying",
        "made.b == 1 and made.c == null and made and 'b' in made and not ('c' in made)",
        "real > 1 and real == 1.5 and real",
        "raw == array and raw and array",
        "3 in items and 3 in tuple and items == tuple and items and tuple",
        "'a' in set and set",
    ):
        assert routed(condition, state), condition
    assert list(made) == ["b"]
    assert routed(Lying("lying == 'a'"), state)


class Armed:
    """Every way to run code of this class fails the test."""

    def __getattribute__(self, name: str) -> Any:
        pytest.fail(f"{name} was read")

    __hash__ = object.__hash__

    def _armed(self, *_: Any) -> Any:
        pytest.fail("a method was called")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _armed  # type: ignore[assignment]
    __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = __call__ = _armed
    __index__ = __int__ = __float__ = __str__ = __bytes__ = __instancecheck__ = _armed


ARMED_BASES: list[type[Any]] = [object, str, int, float, bytes, bytearray, list, tuple, dict, set]


@pytest.mark.parametrize("base", [*ARMED_BASES, frozenset])
def test_no_code_of_a_value_runs(base: type[Any]) -> None:
    # Keys are found as dicts find them: they are asked only where hashes are equal.
    hashed = {} if base.__hash__ is None else {"__hash__": lambda self: 987654321}
    armed_class = type("ArmedValue", (Armed, base), hashed)
    value = armed_class()
    inner: dict[str, Any] = {"list": [value], "tuple": (value,), "dict": {"x": value, "y": 1}}
    state = {"x": value, "other": armed_class(), **inner}
    if hashed:
        state |= {"set": {value}, "keys": {value: 1}}
    names = [*state, "dict.x", "x.y", "missing"]
    literals = ["'a'", "''", "1", "0", "1.5", "true", "null"]
    for name in names:
        routed(name, state)
        for sign in ("==", "!=", "<", "<=", ">", ">=", "in"):
            for other in [*names, *literals]:
                routed(f"{name} {sign} {other}", state)
                routed(f"{other} {sign} {name}", state)


def test_a_value_of_a_foreign_type_is_true_and_equals_nothing() -> None:
    state = {"x": object(), "items": [object()], "number": 3 + 0j}
    assert routed("x and number and x != x and x != null and items != items", state)
    for condition in ("x == x", "x < x", "x in items", "'a' in x", "x.y", "number == 3"):
        assert not routed(condition, state)


# --- Containers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "are_equal"),
    [
        ([1, "a"], (1.0, "a"), True),
        ([1], [True], False),
        ([1], [1, 1], False),
        ([[], {}], [(), {}], True),
        ([None], [0], False),
        ([b"x"], ["x"], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, {}, False),
        ({1: "x"}, {1.0: "x"}, True),
        ({1: "x"}, {True: "x"}, False),
        ({(1,): "x"}, {(1,): "x"}, False),
        ([{1}], [{1}], False),
        ([float("nan")], [float("nan")], False),
    ],
)
def test_lists_and_dicts_are_equal_in_content(left: Any, right: Any, are_equal: bool) -> None:
    for pair in ({"a": left, "b": right}, {"a": right, "b": left}, {"a": [left], "b": [right]}):
        assert routed("a == b", pair) is are_equal
        assert routed("a != b", pair) is not are_equal
    assert routed("a in b", {"a": left, "b": [0, right]}) is are_equal


def test_no_depth_and_no_cycle_is_too_much() -> None:
    def deep(levels: int) -> list[Any]:
        found: list[Any] = []
        for _ in range(levels):
            found = [found]
        return found

    assert routed("a == b and a in c", {"a": deep(20_000), "b": deep(20_000), "c": [deep(20_000)]})
    assert not routed("a == b", {"a": deep(20_000), "b": deep(19_999)})
    cycle: list[Any] = []
    cycle.append(cycle)
    other: list[Any] = [[]]
    other[0].append(other)
    assert routed("a == a and a == b and a in a", {"a": cycle, "b": other})
    shared: list[Any] = []
    for _ in range(64):
        shared = [shared, shared]
    assert routed("a == a", {"a": shared})


# --- Against a model -----------------------------------------------------------------------------


@settings(max_examples=max(EXAMPLES // 4, 1), deadline=None)
@given(conditions, states(st.just(b"x") | st.none(), st.sampled_from([1, True, None, 0.5])))
def test_conditions_mean_what_a_plain_model_of_them_means(
    condition: Any, state: dict[str, Any]
) -> None:
    assert routed(text_of(condition), state) is holds(condition, state)


@settings(max_examples=max(EXAMPLES // 20, 1), deadline=None)
@given(conditions, st.randoms(use_true_random=False))
def test_white_space_between_tokens_means_nothing(condition: Any, random: Any) -> None:
    text = text_of(condition)
    if "'" not in text:  # strings are kept as they are
        spaced = text.replace(" ", random.choice("  \t\n\u3000") * 2)
        assert routed(f" {spaced}\n", {}) is routed(text, {})


PARTS = ["x", "yy", "'a'", '"', "'", "\\", "1", "-1", ".", "2.5", "1e5", "e", "true", "null", "in"]
PARTS += ["and", "or", "not", "(", ")", "==", "=", "!", "!=", "<", ">=", ",", " ", "é", "\u200b"]


@settings(max_examples=max(EXAMPLES // 4, 1), deadline=None)
@given(st.lists(st.sampled_from(PARTS) | st.characters(), max_size=12).map("".join))
def test_any_text_is_a_condition_or_refused_by_our_error(text: str) -> None:
    try:
        routed(text, {"x": 1, "yy": "a"})
    except ArgumentValueError as error:
        told = str(error)
    else:
        told = " at index "
    assert " at index " in told
