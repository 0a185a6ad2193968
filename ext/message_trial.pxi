# The comparison with LangGraph's serializer that runs once, on import.
#
# The tables say that fields look as they did; this says that LangGraph, LangChain and pydantic still
# do with them what they did. It stays within a few milliseconds: each message once in each direction.


def trial_values():
    """Yield values of every kind that is written and read here."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

    numbers = [
        sign * (1 << power) + step
        for power in (0, 5, 7, 8, 15, 16, 31, 32, 62) for step in (-1, 0, 1) for sign in (1, -1)
    ]
    yield numbers
    yield [1 << 63, (1 << 64) - 1, -(1 << 63), 0.0, -1.5, float("inf"), None, True, False]
    yield ["x" * size for size in (0, 1, 31, 32, 255, 256, 65535, 65536)]
    yield ["é", "ÿ", "漢", "\U0001f600", "\x00", "a\ud800", b"", b"x" * 256, (1, ("t",))]
    yield [[None] * size for size in (15, 16)]
    yield {str(n): {n: n} for n in range(20)}
    nested = []
    for depth in range(120):
        nested = [nested, depth] if depth % 2 else {"k": nested}
    yield nested
    yield {1, 2}
    plain = {"n": [1, 2.5, None, True, "é", {"k": (1, b"b")}], "": {}}
    contents = [
        "", " text\n", "漢" * 100, [], ["a", "b"],
        [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "u"}}, "s"],
        [{"type": "tool_use", "id": "i", "name": "n", "input": {}, "index": 0}, plain],
    ]
    call = {"name": "f", "args": plain, "id": "c1", "type": "tool_call"}
    usage = {"input_tokens": 1, "output_tokens": 0, "total_tokens": 1}
    details = {
        "input_token_details": {"audio": 1, "cache_creation": 2, "cache_read": 3},
        "output_token_details": {"audio": 4, "reasoning": 5},
    }
    raw = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    # Built without validation, so that what validation would do to a field is seen when it is read.
    for content in contents:
        for kind in (HumanMessage, SystemMessage, AIMessage):
            yield kind.model_construct(content=content)
            yield kind.model_construct(
                content=content, id=" lc_run--1", name="n ", additional_kwargs=plain,
                response_metadata={"model_provider": "openai", "output_version": "v1", **plain})
        yield ToolMessage.model_construct(content=content, tool_call_id="")
        yield ToolMessage.model_construct(
            content=content, tool_call_id=" c1", id="i", name="n", artifact=plain, status="error",
            additional_kwargs=plain, response_metadata=plain)
    for calls in ([call], [call, {**call, "name": " ", "args": {}, "id": None}]):
        yield AIMessage.model_construct(content="", tool_calls=calls, usage_metadata=usage)
        yield AIMessage.model_construct(
            content="", tool_calls=calls, additional_kwargs={"tool_calls": [raw]})
    yield AIMessage.model_construct(content="", additional_kwargs={"tool_calls": []})
    yield AIMessage.model_construct(
        content="", additional_kwargs={"tool_calls": [raw], "refusal": None})
    for more in ({}, {"input_token_details": {"cache_read": 1}}, details):
        yield AIMessage.model_construct(content="x", usage_metadata={**usage, **more})
    yield AIMessage("x" * 70000)
    changed = AIMessage("x", more=1)
    changed.content = "y"
    yield [changed, HumanMessage("z"), {"m": [ToolMessage("a", tool_call_id="b")]}]
    yield (<object>snapshot_class)([HumanMessage("s"), 1])


cdef int compare_with_langgraph() except -1:
    reference = (<object>serializer_class.kind)()
    cdef Accelerated ours = Accelerated.__new__(Accelerated)
    ours.serde = reference
    require(ours.is_untouched(text_dumps_typed, False), "the serializer")
    require(ours.is_untouched(text_loads_typed, True), "the serializer")
    for value in trial_values():
        expected = reference.dumps_typed(value)
        require(ours.dumps_typed(value) == expected, f"how {type(value)} is written")
        require(
            same(ours.loads_typed(expected), reference.loads_typed(expected)),
            f"how {type(value)} is read")
    return 0


def same(ours, expected):
    """Whether two values are equal in everything that can be seen of them."""
    if type(ours) is not type(expected):
        return False
    if isinstance(expected, dict):
        return list(ours) == list(expected) and all(
            same(one, other) for one, other in zip(ours.values(), expected.values()))
    if isinstance(expected, (list, tuple)):
        return len(ours) == len(expected) and all(map(same, ours, expected))
    if hasattr(expected, "__pydantic_fields_set__"):
        return (
            same(ours.__dict__, expected.__dict__)
            and ours.__pydantic_fields_set__ == expected.__pydantic_fields_set__
            and same(ours.__pydantic_extra__, expected.__pydantic_extra__)
            and same(ours.__pydantic_private__, expected.__pydantic_private__))
    return ours == expected
