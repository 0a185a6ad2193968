# msgpack for what agents mostly store: exact built-in types, packed in one walk.
#
# The bytes are those of msgpack-python: every int, text and container in its shortest form, floats
# in eight bytes. Whatever else is met (a datetime, a subclass, an int of 65 bits, a lone surrogate,
# too deep nesting) ends the walk, and the value is left to those who know it.
#
# The walk runs no Python code and allocates nothing that the collector knows, so nobody can come in
# between, and one buffer serves everybody. It costs a third of calling a library: no arguments to
# parse, no second walk for what the library would accept and the contract does not, and a result
# that is allocated once in its final size.

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint16_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow)
    unsigned long long PyLong_AsUnsignedLongLong(object number) except? -1
    double PyFloat_AS_DOUBLE(object number)
    int PyUnicode_KIND(object text)
    void *PyUnicode_DATA(object text)
    char *PyBytes_AS_STRING(object data)


cdef enum:
    KEPT_BUFFER = 1 << 20  # a buffer that has grown beyond is given back

cdef uint8_t *buffer = NULL
cdef Py_ssize_t buffer_size = 0


cdef bytes pack_plain(object value):
    """The value's bytes, or None where it takes more than this to pack it."""
    global buffer, buffer_size
    cdef uint8_t *end
    cdef bytes packed = None
    if buffer == NULL:
        grow(NULL, 1024)
    end = pack_one(buffer, <PyObject *>value, 0)
    if end != NULL:
        packed = PyBytes_FromStringAndSize(<char *>buffer, end - buffer)
    if buffer_size > KEPT_BUFFER:
        free(buffer)
        buffer = NULL
        buffer_size = 0
    return packed


cdef uint8_t *grow(uint8_t *end, Py_ssize_t more) except? NULL:
    """Make room for `more` bytes at `end`; the buffer may move, so use what is returned."""
    global buffer, buffer_size
    cdef Py_ssize_t used = end - buffer if end != NULL else 0
    cdef Py_ssize_t size = max(2 * buffer_size, used + more)
    cdef uint8_t *moved = <uint8_t *>realloc(buffer, size)
    if moved == NULL:
        raise MemoryError
    buffer = moved
    buffer_size = size
    return moved + used


cdef inline uint8_t *room(uint8_t *end, Py_ssize_t more) except? NULL:
    return end if buffer + buffer_size - end >= more else grow(end, more)


cdef inline uint8_t *put_number(uint8_t *end, uint64_t number, int size) noexcept:
    """Write an unsigned number in `size` bytes, the most significant first."""
    cdef int i
    for i in range(size):
        end[i] = <uint8_t>(number >> 8 * (size - 1 - i))
    return end + size


cdef inline uint8_t *put_size(
    uint8_t *end, Py_ssize_t size, int fix, int short, int head8, int head16
) noexcept:
    """Write the head of a text, bytes, list or dict.

    `fix` is the head that holds sizes below `short` itself (0: none does), `head8` the one followed
    by one byte (0: there is none), `head16` by two, and the one after that by four.
    """
    if size < short:
        end[0] = <uint8_t>(fix | size)
        return end + 1
    if head8 and size <= 0xFF:
        end[0] = <uint8_t>head8
        return put_number(end + 1, size, 1)
    if size <= 0xFFFF:
        end[0] = <uint8_t>head16
        return put_number(end + 1, size, 2)
    end[0] = <uint8_t>(head16 + 1)
    return put_number(end + 1, size, 4)


cdef uint8_t *pack_one(uint8_t *end, PyObject *value, int depth) except? NULL:
    """Pack a value that stands in `depth` containers; NULL where it is not plain."""
    cdef PyTypeObject *kind = ss_type(value)
    cdef PyObject *key
    cdef PyObject *item
    cdef Py_ssize_t size, position = 0
    end = room(end, 9)
    if kind == &PyUnicode_Type:
        return pack_text(end, value)
    if kind == &PyLong_Type:
        return pack_int(end, value)
    if kind == &PyDict_Type:
        size = len(<dict>value)
        if depth >= _MAX_DEPTH or size > _MAX_SIZE:
            return NULL
        end = put_size(end, size, 0x80, 16, 0, 0xDE)
        while _dict_next(value, &position, &key, &item):
            if ss_type(key) == &PyUnicode_Type:
                end = pack_text(room(end, 9), key)
            elif is_plain_key(key, 0):
                end = pack_one(end, key, depth + 1)
            else:
                return NULL
            if end == NULL:
                return NULL
            end = pack_one(end, item, depth + 1)
            if end == NULL:
                return NULL
        return end
    if kind == &PyList_Type or kind == &PyTuple_Type:
        size = _size(value)
        if depth >= _MAX_DEPTH or size > _MAX_SIZE:
            return NULL
        end = put_size(end, size, 0x90, 16, 0, 0xDC)
        for position in range(size):
            item = _list_item(value, position) if kind == &PyList_Type else _tuple_item(value, position)
            end = pack_one(end, item, depth + 1)
            if end == NULL:
                return NULL
        return end
    if value == Py_None:
        end[0] = 0xC0
        return end + 1
    if kind == &PyBool_Type:
        end[0] = 0xC3 if <object>value is True else 0xC2
        return end + 1
    if kind == &PyFloat_Type:
        return pack_float(end, value)
    if kind == &PyBytes_Type:
        size = _size(value)
        if size > _MAX_SIZE:
            return NULL
        end = put_size(room(end, size + 9), size, 0, 0, 0xC4, 0xC5)
        memcpy(end, PyBytes_AS_STRING(<object>value), size)
        return end + size
    return NULL


cdef bint is_plain_key(PyObject *key, int depth) noexcept:
    """Whether a dict key is of the contract: keys compare and hash recursively, so not too deep."""
    cdef PyTypeObject *kind = ss_type(key)
    cdef Py_ssize_t i
    if kind == &PyTuple_Type:
        if depth >= _MAX_KEY_DEPTH:
            return False
        for i in range(_size(key)):
            if not is_plain_key(_tuple_item(key, i), depth + 1):
                return False
        return True
    return (
        kind == &PyUnicode_Type or kind == &PyLong_Type or kind == &PyFloat_Type
        or kind == &PyBool_Type or kind == &PyBytes_Type or key == Py_None
    )


cdef uint8_t *pack_int(uint8_t *end, PyObject *value) except? NULL:
    cdef int overflow = 0, size
    cdef long long number = PyLong_AsLongLongAndOverflow(<object>value, &overflow)
    cdef unsigned long long large
    if overflow > 0:
        try:
            large = PyLong_AsUnsignedLongLong(<object>value)
        except OverflowError:
            return NULL
        end[0] = 0xCF
        return put_number(end + 1, large, 8)
    if overflow < 0:
        return NULL
    if -32 <= number <= 127:
        end[0] = <uint8_t>number
        return end + 1
    if number > 0:
        size = 0 if number <= 0xFF else 1 if number <= 0xFFFF else 2 if number <= 0xFFFFFFFF else 3
        end[0] = 0xCC + size
    else:
        size = (
            0 if number >= -0x80 else 1 if number >= -0x8000
            else 2 if number >= -<long long>0x80000000 else 3)
        end[0] = 0xD0 + size
    return put_number(end + 1, <uint64_t>number, 1 << size)


cdef uint8_t *pack_float(uint8_t *end, PyObject *value) noexcept:
    cdef double number = PyFloat_AS_DOUBLE(<object>value)
    cdef uint64_t bits
    memcpy(&bits, &number, 8)
    end[0] = 0xCB
    return put_number(end + 1, bits, 8)


cdef uint8_t *pack_text(uint8_t *end, PyObject *value) except? NULL:
    """Not by PyUnicode_AsUTF8, which would leave a copy of the text in the caller's object."""
    cdef object text = <object>value
    cdef Py_ssize_t length = PyUnicode_GET_LENGTH(text), size, i
    cdef int kind = PyUnicode_KIND(text)
    cdef void *data = PyUnicode_DATA(text)
    cdef uint32_t char
    if kind == 0:  # a text made by C functions of long ago, not yet in its final form
        return NULL
    if PyUnicode_IS_ASCII(text):
        if length > _MAX_SIZE:
            return NULL
        end = put_size(room(end, length + 9), length, 0xA0, 32, 0xD9, 0xDA)
        memcpy(end, data, length)
        return end + length
    size = 0
    for i in range(length):
        char = read(kind, data, i)
        if 0xD800 <= char <= 0xDFFF:
            return NULL
        size += 1 + (char >= 0x80) + (char >= 0x800) + (char >= 0x10000)
    if size > _MAX_SIZE:
        return NULL
    end = put_size(room(end, size + 9), size, 0xA0, 32, 0xD9, 0xDA)
    for i in range(length):
        char = read(kind, data, i)
        if char < 0x80:
            end[0] = <uint8_t>char
            end += 1
        elif char < 0x800:
            end[0] = 0xC0 | char >> 6
            end[1] = 0x80 | char & 0x3F
            end += 2
        elif char < 0x10000:
            end[0] = 0xE0 | char >> 12
            end[1] = 0x80 | char >> 6 & 0x3F
            end[2] = 0x80 | char & 0x3F
            end += 3
        else:
            end[0] = 0xF0 | char >> 18
            end[1] = 0x80 | char >> 12 & 0x3F
            end[2] = 0x80 | char >> 6 & 0x3F
            end[3] = 0x80 | char & 0x3F
            end += 4
    return end


cdef inline uint32_t read(int kind, const void *data, Py_ssize_t i) noexcept:
    if kind == 1:
        return (<const uint8_t *>data)[i]
    if kind == 2:
        return (<const uint16_t *>data)[i]
    return (<const uint32_t *>data)[i]
