# msgpack for what agents mostly store: exact built-in types, packed in one walk.
#
# The bytes are those of msgpack-python: every int, text and container in its shortest form, floats
# in eight bytes, datetimes in UTC as the timestamp extension. Whatever else is met (another time
# zone, a subclass, an int of 65 bits, a lone surrogate, too deep nesting) ends the walk, and the
# value is left to those who know it.
#
# The walk runs no Python code and allocates nothing that the collector knows, so nobody can come in
# between, and one buffer serves everybody. It costs a third of calling a library: no arguments to
# parse, no second walk for what the library would accept and the contract does not, and a result
# that is allocated once in its final size.

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.datetime cimport (
    datetime,
    datetime_day,
    datetime_hour,
    datetime_microsecond,
    datetime_minute,
    datetime_month,
    datetime_second,
    datetime_year,
)
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

cdef extern from *:
    """
    static inline void ss_store_big_endian(unsigned char *p, unsigned long long n) {
        p[0] = n >> 56; p[1] = n >> 48; p[2] = n >> 40; p[3] = n >> 32;
        p[4] = n >> 24; p[5] = n >> 16; p[6] = n >> 8; p[7] = n;
    }
    """
    void ss_store_big_endian(uint8_t *p, uint64_t n) noexcept


cdef enum:
    KEPT_BUFFER = 1 << 20  # a buffer that has grown beyond is given back
    LARGE = 1 << 16  # bytes of this size end the walk: to copy them twice costs more than a library

# A larger literal in an expression would be a Python int.
cdef long long LEAST_INT32 = -2147483648

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
    """Write an unsigned number in `size` bytes, the most significant first.

    There must be room for eight: that many are written always, which is one instruction.
    """
    ss_store_big_endian(end, number << 8 * (8 - size))
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
        if size >= LARGE:
            return NULL
        end = put_size(room(end, size + 9), size, 0, 0, 0xC4, 0xC5)
        memcpy(end, PyBytes_AS_STRING(<object>value), size)
        return end + size
    if kind == ss_dt_type and ss_dt_is_utc(value):
        return pack_moment(room(end, 15), value)
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
        size = 0 if number <= 0xFF else 1 if number <= 0xFFFF else 2 if number <= _MAX_SIZE else 3
        end[0] = 0xCC + size
    else:
        size = (
            0 if number >= -0x80 else 1 if number >= -0x8000
            else 2 if number >= LEAST_INT32 else 3)
        end[0] = 0xD0 + size
    return put_number(end + 1, <uint64_t>number, 1 << size)


cdef uint8_t *pack_float(uint8_t *end, PyObject *value) noexcept:
    cdef double number = PyFloat_AS_DOUBLE(<object>value)
    cdef uint64_t bits
    memcpy(&bits, &number, 8)
    end[0] = 0xCB
    return put_number(end + 1, bits, 8)


cdef int64_t DAYS_TO_1970 = 719162  # from the first day of the year 1
cdef int[12] DAYS_BEFORE_MONTH = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]


cdef uint8_t *pack_moment(uint8_t *end, PyObject *value) noexcept:
    """Extension type -1: seconds in 4 bytes, in 8 with nanoseconds, or in 12 where 8 are too few."""
    cdef datetime moment = <datetime>value
    cdef int year = datetime_year(moment), month = datetime_month(moment)
    cdef int64_t past = year - 1  # years
    cdef int64_t days = (
        past * 365 + past // 4 - past // 100 + past // 400
        + DAYS_BEFORE_MONTH[month - 1] + datetime_day(moment) - 1 - DAYS_TO_1970)
    cdef int64_t seconds
    cdef uint64_t nanoseconds = <uint64_t>datetime_microsecond(moment) * 1000
    if month > 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        days += 1
    seconds = (
        days * 86400 + datetime_hour(moment) * 3600
        + datetime_minute(moment) * 60 + datetime_second(moment))
    if seconds >> 34:  # more than 34 bits, or before 1970
        end[0] = 0xC7
        end[1] = 12
        end[2] = 0xFF
        return put_number(put_number(end + 3, nanoseconds, 4), <uint64_t>seconds, 8)
    end[1] = 0xFF
    if nanoseconds == 0 and seconds >> 32 == 0:
        end[0] = 0xD6
        return put_number(end + 2, seconds, 4)
    end[0] = 0xD7
    return put_number(end + 2, nanoseconds << 34 | <uint64_t>seconds, 8)


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
