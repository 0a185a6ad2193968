# A codec, bound to one store together with the store's `default` hook.


cdef enum:
    MAX_ARGUMENTS = 6  # of a fast path, beside the value; a codec that needs more goes without


cdef object call(object function, object first, tuple rest):
    """Return `function(first, *rest)`, by vectorcall."""
    cdef PyObject *arguments[MAX_ARGUMENTS + 2]
    cdef Py_ssize_t index, count = PyTuple_GET_SIZE(rest)
    arguments[1] = <PyObject *>first
    for index in range(count):
        arguments[index + 2] = PyTuple_GET_ITEM(rest, index)
    return PyObject_Vectorcall(
        <PyObject *>function, arguments + 1, (count + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)


@cython.final
cdef class Binding:
    """What a store needs of its codec.

    `fast` is set for a codec with a FastPath. Only such a codec has bytes that can be trusted: its
    `unpack` is for what `pack` and `encode` wrote in this process. `codec` is None in a store that was
    never initialised, which counts as closed.
    """

    cdef object codec, default, pack, unpack
    cdef tuple pack_args, unpack_args
    cdef str name, wire
    cdef bint fast

    def __init__(self, str name not None, object default):
        self.codec = codecs.get(name)
        self.name = name
        self.wire = str(self.codec.wire)
        self.default = default
        path = getattr(self.codec, "fast", None)
        if path is not None:
            self.pack, self.pack_args, self.unpack, self.unpack_args = path
            self.fast = max(len(self.pack_args), len(self.unpack_args)) <= MAX_ARGUMENTS

    cdef bytes encode(self, object value):
        """May run foreign code."""
        if self.fast:
            try:
                data = call(self.pack, value, self.pack_args)
                if type(data) is bytes:
                    return <bytes>data
            except Exception:  # encode() alone decides what is accepted and what an error says
                pass
        if self.codec is None:
            raise StoreUnavailable("the store is closed")
        data = self.codec.encode(value, default=self.default)
        if type(data) is not bytes:
            raise EncodeError(
                f"codec {self.name!r} returned {type(data).__name__} from encode(): expected bytes")
        return <bytes>data

    cdef object decode(self, bytes data, bint trusted):
        """May run foreign code; the caller holds a reference to `data`."""
        if trusted and self.fast:
            try:
                return call(self.unpack, data, self.unpack_args)
            except Exception:  # what the fast path leaves out, decode() can do
                pass
        return self.codec.decode(data)
