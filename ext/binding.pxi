# A codec, bound to one store: its two directions, as a store uses them.
#
# They are two objects, because a snapshot needs only to decode. So it does not keep the store's
# `default` hook alive, which may well be a method of the object that holds the snapshot.


cdef enum:
    MAX_ARGUMENTS = 6  # of a fast path, after the value; a codec that needs more goes without


cdef object call(object function, object first, tuple rest):
    """Return `function(first, *rest)`, by vectorcall."""
    cdef PyObject *arguments[MAX_ARGUMENTS + 2]
    cdef Py_ssize_t index, count = PyTuple_GET_SIZE(rest)
    arguments[1] = <PyObject *>first
    for index in range(count):
        arguments[index + 2] = PyTuple_GET_ITEM(rest, index)
    return PyObject_Vectorcall(
        <PyObject *>function, arguments + 1, (count + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)


cdef object fast_path(object codec):
    """The FastPath of a codec, or None."""
    path = getattr(codec, "fast", None)
    if path is None:
        return None
    pack, pack_args, unpack, unpack_args = path
    return path if max(len(pack_args), len(unpack_args)) <= MAX_ARGUMENTS else None


@cython.final
cdef class Encoder:
    """Turns values into bytes.

    `codec` is None in a store that was never initialised, which counts as closed, and `pack` where
    the codec has no FastPath.
    """

    cdef object codec, default, pack
    cdef tuple pack_args

    cdef int bind(self, object codec, object default) except -1:
        path = fast_path(codec)
        if path is not None:
            self.pack, self.pack_args, _, _ = path
        self.codec = codec
        self.default = default
        return 0

    cdef bytes encode(self, object value):
        """May run foreign code."""
        if self.pack is not None:
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
                f"codec {shown(self.codec.name)} returned {type(data).__name__} from encode(): "
                "expected bytes")
        return <bytes>data


@cython.final
cdef class Decoder:
    """Turns bytes into values.

    `unpack` is None where the codec has no FastPath. Only with one are there bytes that can be
    trusted: it is for what this process encoded.
    """

    cdef object codec, unpack
    cdef tuple unpack_args
    cdef str name, wire
    cdef bint lasting  # the codec lives as long as the package, so it is part of no cycle

    cdef int bind(self, str name, object codec) except -1:
        path = fast_path(codec)
        if path is not None:
            _, _, self.unpack, self.unpack_args = path
        self.codec = codec
        self.name = name
        self.wire = str(codec.wire)
        self.lasting = registry.lasts(codec)
        return 0

    cdef object decode(self, bytes data, bint trusted, object namespace, object key):
        """May run foreign code; the caller holds a reference to `data`."""
        if trusted and self.unpack is not None:
            try:
                return call(self.unpack, data, self.unpack_args)
            except Exception:  # what the fast path leaves out, decode() can do
                pass
        try:
            return self.codec.decode(data)
        except DecodeError as error:
            raise DecodeError(f"{place(namespace, key)}: {error}") from error


cdef Decoder new_decoder(object name):
    """A decoder of the codec that has this name, or an error that says what is wrong with it."""
    cdef Decoder decoder = Decoder.__new__(Decoder)
    codec = registry.get(name)
    decoder.bind(str.__str__(name), codec)
    return decoder
