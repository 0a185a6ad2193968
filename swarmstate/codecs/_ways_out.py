"""What to do with a value of a type that no codec accepts, for the error that refuses it."""

from __future__ import annotations

from inspect import getattr_static

__all__ = ["way_out"]

# By top-level module and name, so that naming a library's type imports no library.
_CONVERSIONS = {
    "_asyncio.Future": "await",
    "builtins.BaseException": "str()",
    "builtins.complex": "str()",
    "builtins.coroutine": "await",
    "builtins.dict_items": "list()",
    "builtins.dict_keys": "list()",
    "builtins.dict_values": "list()",
    "builtins.enumerate": "list()",
    "builtins.filter": "list()",
    "builtins.frozenset": "list()",
    "builtins.generator": "list()",
    "builtins.list_iterator": "list()",
    "builtins.map": "list()",
    "builtins.mappingproxy": "dict()",
    "builtins.memoryview": "bytes()",
    "builtins.range": "list()",
    "builtins.set": "list()",
    "builtins.zip": "list()",
    "array.array": ".tolist()",
    "collections.UserDict": "dict()",
    "collections.UserList": "list()",
    "collections.UserString": "str()",
    "collections.deque": "list()",
    "datetime.date": ".isoformat()",
    "datetime.time": ".isoformat()",
    "datetime.timedelta": ".total_seconds()",
    "decimal.Decimal": "str()",
    "enum.Enum": ".value",
    "fractions.Fraction": "str()",
    "ipaddress._IPAddressBase": "str()",
    "msgpack.Timestamp": ".to_datetime()",
    "msgspec.Struct": "msgspec.to_builtins()",
    "numpy.generic": ".item()",
    "numpy.ndarray": ".tolist()",
    "pandas.DataFrame": ".to_dict('records')",
    "pandas.Index": ".tolist()",
    "pandas.Series": ".tolist()",
    "pathlib.PurePath": "str()",
    "pydantic.BaseModel": ".model_dump()",
    "pyrsistent.PMap": "pyrsistent.thaw()",
    "pyrsistent.PVector": "pyrsistent.thaw()",
    "re.Pattern": ".pattern",
    "torch.Tensor": ".tolist()",
    "types.SimpleNamespace": "vars()",
    "uuid.UUID": "str()",
}
# By an attribute of the class, for types that have no base in common.
_MARKS = {
    "__dataclass_fields__": "dataclasses.asdict()",
    "__attrs_attrs__": "attrs.asdict()",
}


def way_out(kind: type) -> str:
    """Return how to convert a value of this type to one that can be stored, or an empty text."""
    try:
        for base in kind.__mro__:
            name = f"{base.__module__.partition('.')[0]}.{base.__qualname__}"
            if name in _CONVERSIONS:
                return _CONVERSIONS[name]
        for mark, conversion in _MARKS.items():
            if getattr_static(kind, mark, None) is not None:
                return conversion
    except Exception:  # noqa: BLE001, S110 - a metaclass may raise anything; the error goes without advice
        pass
    return ""
