# What is installed, compared with what this module was written for, once.
#
# The fields of the four classes with their types and defaults, the fields of the dicts within them,
# their configuration and validators, and the functions of LangGraph and pydantic that are passed
# over. Python code, since it runs once; whatever is missing or different ends it.

cdef tuple COUNTS = ("input_tokens", "output_tokens", "total_tokens")
cdef tuple INPUT_DETAILS = ("audio", "cache_creation", "cache_read")
cdef tuple OUTPUT_DETAILS = ("audio", "reasoning")

cdef set SERDE_ATTRIBUTES = {
    "pickle_fallback",
    "_allowed_json_modules",
    "_allowed_msgpack_modules",
    "_custom_unpack_ext_hook",
    "_unpack_ext_hook",
}

# What LangGraph and pydantic look up on the way out and in.
cdef tuple OF_SERIALIZER = ("dumps_typed", "loads_typed", "__getattribute__", "__getattr__")
cdef tuple OF_MODEL = (
    "__class__",
    "__module__",
    "__new__",
    "__init__",
    "__getattribute__",
    "__getattr__",
    "model_dump",
    "model_post_init",
    "__pydantic_decorators__",
    "__pydantic_extra__",
    "__pydantic_fields__",
    "__pydantic_fields_set__",
    "__pydantic_post_init__",
    "__pydantic_private__",
    "__pydantic_serializer__",
    "__pydantic_validator__",
)


class Different(Exception):
    """Something is not as this module knows it."""


cdef int require(bint condition, what) except -1:
    if not condition:
        raise Different(f"{what} is not as expected")
    return 0


cdef bint is_defined_in(function, module):
    """Whether it is a plain function of the module's own source, not a replacement."""
    return type(function) is types.FunctionType and function.__globals__ is vars(module)


def prepare():
    """Learn what is installed and try it; return why it is not what this module knows, or None."""
    try:
        learn_langgraph()
        learn_messages()
        compare_with_langgraph()
    except Exception as error:  # a name that is missing, a difference: LangGraph does all the work
        return f"{type(error).__name__}: {error}"
    return None


cdef int learn_langgraph() except -1:
    global encode_error, langgraph_pack, ormsgpack_unpack, unpack_option, snapshot_class
    global hook_code, hook_globals, attribute_count
    import importlib

    import ormsgpack
    from langgraph.checkpoint.serde import _msgpack, jsonplus

    kind = jsonplus.JsonPlusSerializer
    serde = kind()
    hook = serde._unpack_ext_hook
    require(set(vars(serde)) == SERDE_ATTRIBUTES, "what a JsonPlusSerializer holds")
    for function in (
        kind.dumps_typed, kind.loads_typed, jsonplus._msgpack_enc, jsonplus._msgpack_default, hook
    ):
        require(is_defined_in(function, jsonplus), function)
    require(hook.__code__.co_name == "ext_hook", hook)
    require(
        jsonplus._option == (
            ormsgpack.OPT_NON_STR_KEYS | ormsgpack.OPT_PASSTHROUGH_DATACLASS
            | ormsgpack.OPT_PASSTHROUGH_DATETIME | ormsgpack.OPT_PASSTHROUGH_ENUM
            | ormsgpack.OPT_PASSTHROUGH_UUID | ormsgpack.OPT_REPLACE_SURROGATES),
        "what LangGraph asks of ormsgpack")
    require(jsonplus.EXT_PYDANTIC_V2 == EXT_MODEL, "EXT_PYDANTIC_V2")
    require(jsonplus.EXT_DELTA_SNAPSHOT == EXT_SNAPSHOT, "EXT_DELTA_SNAPSHOT")
    for function in (ormsgpack.packb, ormsgpack.unpackb):
        require(type(function) is types.BuiltinFunctionType, function)
    require(type(_msgpack.SAFE_MSGPACK_TYPES) is frozenset, "SAFE_MSGPACK_TYPES")
    snapshot = jsonplus._DeltaSnapshot
    require(snapshot.__bases__ == (tuple,) and snapshot._fields == ("value",), snapshot)

    encode_error = ormsgpack.MsgpackEncodeError
    langgraph_pack = jsonplus._msgpack_enc
    ormsgpack_unpack = ormsgpack.unpackb
    unpack_option = ormsgpack.OPT_NON_STR_KEYS
    hook_code = hook.__code__
    attribute_count = len(SERDE_ATTRIBUTES)
    hook_globals = vars(jsonplus)
    snapshot_class = <PyTypeObject *>own(snapshot)
    remember(&serializer_class, kind, OF_SERIALIZER)
    watch(&to_write, jsonplus, ("_msgpack_enc", "_option", "ormsgpack"))
    watch(&to_write, ormsgpack, ("packb",))
    watch(&to_read, jsonplus, ("ormsgpack",))
    watch(&to_read, ormsgpack, ("unpackb",))
    watch(&to_write_messages, jsonplus, ("_msgpack_default", "_DeltaSnapshot"))
    watch(&to_write_messages, ormsgpack, ("Ext",))
    watch(&to_read_messages, jsonplus, ("_DeltaSnapshot", "_lg_msgpack", "importlib"))
    watch(&to_read_messages, _msgpack, ("SAFE_MSGPACK_TYPES",))
    watch(&to_read_messages, importlib, ("import_module",))
    return 0


cdef int learn_messages() except -1:
    global extra_member, fields_set_member, private_member, model_tail
    import ormsgpack
    from langchain_core.messages import ai, human, system, tool
    from pydantic import BaseModel, main

    require(is_defined_in(BaseModel.model_dump, main), BaseModel.model_dump)
    members = [
        vars(BaseModel)[name]
        for name in ("__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")
    ]
    for member in members:
        require(type(member) is types.MemberDescriptorType, member)
    extra_member, fields_set_member, private_member = own(members[0]), own(members[1]), own(members[2])
    model_tail = ormsgpack.packb("model_validate_json")

    require_typed_dict(
        tool.ToolCall,
        {
            "name": str,
            "args": dict[str, typing.Any],
            "id": typing.Optional[str],
            "type": typing.Literal["tool_call"],
        },
        {"name", "args", "id"},
    )
    require_typed_dict(ai.InputTokenDetails, dict.fromkeys(INPUT_DETAILS, int), set())
    require_typed_dict(ai.OutputTokenDetails, dict.fromkeys(OUTPUT_DETAILS, int), set())
    details = {
        "input_token_details": ai.InputTokenDetails,
        "output_token_details": ai.OutputTokenDetails,
    }
    require_typed_dict(
        ai.UsageMetadata, {**dict.fromkeys(COUNTS, int), **details}, set(COUNTS))
    for i, name in enumerate(COUNTS):
        usage_names[i] = own(sys.intern(name))
    for i, name in enumerate(INPUT_DETAILS):
        input_names[i] = own(sys.intern(name))
    for i, name in enumerate(OUTPUT_DETAILS):
        output_names[i] = own(sys.intern(name))
    require(is_defined_in(tool.tool_call, tool), tool.tool_call)
    require(ai.create_tool_call is tool.tool_call, "create_tool_call")
    watch(&to_read_messages, ai, ("create_tool_call",))

    learn_model(human, human.HumanMessage, "human", {}, set())
    learn_model(system, system.SystemMessage, "system", {}, set())
    learn_model(
        ai,
        ai.AIMessage,
        "ai",
        {
            "tool_calls": (TOOL_CALLS, list, list[tool.ToolCall]),
            "invalid_tool_calls": (NO_ITEMS, list, list[ai.InvalidToolCall]),
            "usage_metadata": (USAGE, None, typing.Optional[ai.UsageMetadata]),
        },
        {"_backwards_compat_tool_calls"},
    )
    learn_model(
        tool,
        tool.ToolMessage,
        "tool",
        {
            "tool_call_id": (TEXT, ..., str),
            "artifact": (ANYTHING, None, typing.Any),
            "status": (STATUS, "success", typing.Literal["success", "error"]),
        },
        {"coerce_args"},
    )
    return 0


cdef int require_typed_dict(kind, dict fields, set required) except -1:
    from typing_extensions import get_type_hints, is_typeddict

    require(is_typeddict(kind) and not hasattr(kind, "__pydantic_config__"), kind)
    hints = get_type_hints(kind)
    require(list(hints.items()) == list(fields.items()), kind)
    require(set(kind.__required_keys__) == required, kind)
    return 0


cdef int learn_model(module, kind, str text, dict more, set validators) except -1:
    """Require that a class is as known, and fill in its table."""
    global model_count
    import dataclasses

    import ormsgpack
    from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
    from pydantic import BaseModel
    from pydantic_core import SchemaSerializer, SchemaValidator

    cdef Model *model = &models[model_count]
    cdef Field *field
    mapping = dict[typing.Any, typing.Any]
    fields = {
        "content": (
            CONTENT, ..., typing.Union[str, list[typing.Union[str, mapping]]],
            typing.Union[str, list[typing.Union[str, dict]]]),
        "additional_kwargs": (PLAIN_DICT, dict, mapping, dict),
        "response_metadata": (PLAIN_DICT, dict, mapping, dict),
        "type": (TYPE, text, typing.Literal[text]),
        "name": (OPTIONAL_TEXT, None, typing.Optional[str]),
        "id": (OPTIONAL_TEXT, None, typing.Optional[str]),
        **more,
    }
    module_name, name = module.__name__, kind.__name__
    require((module_name, name) in SAFE_MSGPACK_TYPES, kind)
    require(kind.__module__ == module_name and vars(module)[name] is kind, kind)
    require(kind.__new__ is object.__new__, kind)
    for one in kind.__mro__:
        function = vars(one).get("__init__")
        require(
            one is object or function is None or is_defined_in(function, sys.modules[one.__module__]),
            f"__init__ of {one}")
    require(
        kind.model_dump is BaseModel.model_dump
        and kind.__get_pydantic_core_schema__.__func__
        is BaseModel.__get_pydantic_core_schema__.__func__, kind)
    require(kind.model_config == {"extra": "allow"}, f"model_config of {kind}")
    require(not kind.__private_attributes__ and kind.__pydantic_post_init__ is None, kind)
    require(
        type(kind.__pydantic_validator__) is SchemaValidator
        and type(kind.__pydantic_serializer__) is SchemaSerializer, f"what pydantic made of {kind}")
    decorators = {
        one.name: getattr(kind.__pydantic_decorators__, one.name)
        for one in dataclasses.fields(kind.__pydantic_decorators__)
    }
    found = decorators.pop("model_validators")
    require(not any(decorators.values()) and set(found) == validators, f"validators of {kind}")
    for one in found.values():
        require(
            one.info.mode == "before" and is_defined_in(one.func.__func__, module),
            f"a validator of {kind}")
    require(list(kind.model_fields) == list(fields), f"the fields of {kind}")
    for name_of_field, (what, default, *annotations) in fields.items():
        require_field(kind, name_of_field, kind.model_fields[name_of_field], default, annotations)

    remember(&model.known, kind, OF_MODEL)
    head = b"\x94" + ormsgpack.packb(module_name) + ormsgpack.packb(name)
    head += bytes([0x80 | len(fields)])
    require(len(head) <= MAX_HEAD, f"the name of {kind}")
    model.head_size = len(head)
    memcpy(model.head, PyBytes_AS_STRING(<PyObject *>head), len(head))
    model.module, model.name = own(sys.intern(module_name)), own(sys.intern(name))
    model.type = own(sys.intern(text))
    model.count = 0
    model.has_tool_calls = "tool_calls" in fields
    for name_of_field, (what, *_) in fields.items():
        field = &model.fields[model.count]
        packed = ormsgpack.packb(name_of_field)
        require(len(packed) <= MAX_NAME, name_of_field)
        field.name = own(sys.intern(name_of_field))
        field.what = what
        field.size = len(packed)
        memcpy(field.packed, PyBytes_AS_STRING(<PyObject *>packed), len(packed))
        model.count += 1
    names = [sys.intern(one) for one in fields]
    model.empty = own(dict.fromkeys(names))
    # A copy of a copy is laid out as the next copy will be, which then takes a loop without hashing.
    model.names = own(set(set(names)))
    model_count += 1
    return 0


cdef int require_field(kind, str name, field, default, list annotations) except -1:
    what = f"{kind.__name__}.{name}"
    require(any(field.annotation == one for one in annotations), f"the type of {what}")
    if default is ...:
        require(field.is_required(), f"whether {what} is required")
    elif default is list or default is dict:
        require(
            field.default_factory is default or field.default == default(),
            f"the default of {what}")
    else:
        require(
            not field.is_required() and field.default_factory is None and field.default == default,
            f"the default of {what}")
    require(
        field.alias is None and field.validation_alias is None
        and field.serialization_alias is None and not field.exclude
        and not field.validate_default and field.discriminator is None,
        f"how {what} is validated")
    # Numbers may become an id; what is a text already stays as it is.
    known = "[_PydanticGeneralMetadata(coerce_numbers_to_str=True)]" if name == "id" else "[]"
    require(repr(field.metadata) in (known, "[]"), f"what constrains {what}")
    return 0
