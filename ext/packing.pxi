# msgpack for exact built-in types, packed in one walk: the encoder of both built-in codecs.
#
# The bytes are those of msgpack-python: every int, text and container in its shortest form, floats
# in eight bytes, datetimes as the timestamp extension. Whatever else is met (a subclass, an int of
# 65 bits, a lone surrogate, a time zone written in Python, too deep nesting) ends the walk, and the
# value is left to the reference in swarmstate/codecs/_reference.py.
#
# While the walk goes on, it runs no Python code and allocates nothing that the collector knows, so
# nothing can come in between and one buffer serves all threads. Where an exception is raised (and may
# start the collector), the walk has ended. This costs a third of calling a library: no arguments to
# parse, no second walk for what the library would accept and the contract does not.

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.datetime cimport (
    datetime,
    datetime_day,
    datetime_fold,
    datetime_hour,
    datetime_microsecond,
    datetime_minute,
    datetime_month,
    datetime_new,
    datetime_second,
    datetime_tzinfo,
    datetime_year,
    import_datetime,
    timedelta,
    timedelta_days,
    timedelta_microseconds,
    timedelta_seconds,
)
from cpython.object cimport PyObject_Hash, PyTypeObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, strcmp

import_datetime()


cdef extern from *:
    """
    /* Inlined here because the declarations that ship with Cython take references. */
    #define ss_type(o) Py_TYPE((PyObject *)(o))
    #define ss_dt_type (PyDateTimeAPI->DateTimeType)
    #define ss_dt_zone_type(o) \\
        (((PyDateTime_DateTime *)(o))->hastzinfo \\
            ? Py_TYPE(((PyDateTime_DateTime *)(o))->tzinfo) : NULL)
    #define ss_dt_is_utc(o) \\
        (((PyDateTime_DateTime *)(o))->hastzinfo \\
            && ((PyDateTime_DateTime *)(o))->tzinfo == PyDateTimeAPI->TimeZone_UTC)
    #define ss_fixed_zone Py_TYPE(PyDateTimeAPI->TimeZone_UTC)

    static inline void ss_store_big_endian(unsigned char *p, unsigned long long n) {
        p[0] = n >> 56; p[1] = n >> 48; p[2] = n >> 40; p[3] = n >> 32;
        p[4] = n >> 24; p[5] = n >> 16; p[6] = n >> 8; p[7] = n;
    }

    /* An int as sign and magnitude; false where that takes more than 64 bits. By the digits, since
       the functions of CPython take twice as long and raise where a number does not fit. */
    static inline int ss_magnitude(
            PyObject *number, int *negative, unsigned long long *magnitude) {
    #if PY_VERSION_HEX >= 0x030C0000
        uintptr_t tag = ((PyLongObject *)number)->long_value.lv_tag;
        const digit *digits = ((PyLongObject *)number)->long_value.ob_digit;
        Py_ssize_t count = tag >> 3;
        *negative = (tag & 3) == 2;
    #else
        Py_ssize_t count = Py_SIZE(number);
        const digit *digits = ((PyLongObject *)number)->ob_digit;
        *negative = count < 0;
        if (count < 0) count = -count;
    #endif
        unsigned long long found = 0;
        while (count > 0) {
            if (found >> (64 - PyLong_SHIFT)) return 0;
            found = found << PyLong_SHIFT | digits[--count];
        }
        *magnitude = found;
        return 1;
    }
    """
    PyTypeObject *ss_type(PyObject *o) noexcept
    PyTypeObject *ss_dt_type
    PyTypeObject *ss_dt_zone_type(PyObject *o) noexcept
    bint ss_dt_is_utc(PyObject *o) noexcept
    PyTypeObject *ss_fixed_zone
    void ss_store_big_endian(uint8_t *p, uint64_t n) noexcept
    bint ss_magnitude(PyObject *number, int *negative, unsigned long long *magnitude) noexcept

cdef extern from "Python.h":
    PyTypeObject PyUnicode_Type, PyLong_Type, PyFloat_Type, PyBool_Type, PyBytes_Type
    PyTypeObject PyByteArray_Type, PyMemoryView_Type, PyList_Type, PyTuple_Type, PyDict_Type
    PyObject *Py_None
    PyObject *Py_True
    Py_ssize_t _size "Py_SIZE"(PyObject *o) noexcept
    PyObject *_list_item "PyList_GET_ITEM"(PyObject *o, Py_ssize_t i) noexcept
    PyObject *_tuple_item "PyTuple_GET_ITEM"(PyObject *o, Py_ssize_t i) noexcept
    bint _dict_next "PyDict_Next"(
        PyObject *o, Py_ssize_t *position, PyObject **key, PyObject **value) noexcept
    const char *_as_utf8 "PyUnicode_AsUTF8AndSize"(PyObject *text, Py_ssize_t *size) noexcept
    PyObject *_new_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject **data, Py_ssize_t size) except -1
    double PyFloat_AS_DOUBLE(object number)
    void *PyUnicode_DATA(object text)
    char *PyBytes_AS_STRING(PyObject *data) noexcept
    char *PyByteArray_AS_STRING(PyObject *data) noexcept
    Py_buffer *PyMemoryView_GET_BUFFER(PyObject *view) noexcept


# No msgpack length has more than 32 bits.
cdef Py_ssize_t _MAX_SIZE = 0xFFFFFFFF
# The magnitude of the least int; as a literal in an expression it would be a Python int.
cdef uint64_t MOST_NEGATIVE = <uint64_t>1 << 63

cdef enum:
    KEPT_BUFFER = 1 << 14  # bytes; a buffer that had to grow becomes the result itself

cdef PyObject *buffer = NULL  # bytes to which there is no other reference
cdef uint8_t *buffer_end = NULL


def pack(object value, /):
    """Return the value's bytes, or raise TypeError where it takes more than this to pack it."""
    global buffer
    cdef uint8_t *end
    cdef PyObject *grown
    cdef Py_ssize_t size
    if buffer == NULL:
        resize(KEPT_BUFFER)
    end = pack_one(<uint8_t *>PyBytes_AS_STRING(buffer), <PyObject *>value, 0)
    if end == NULL:
        drop_grown_buffer()
        raise TypeError("for the reference")
    size = end - <uint8_t *>PyBytes_AS_STRING(buffer)
    if _size(buffer) == KEPT_BUFFER:
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(buffer), size)
    grown, buffer = buffer, NULL
    _PyBytes_Resize(&grown, size)
    packed = <object>grown
    Py_XDECREF(grown)
    return packed


cdef void drop_grown_buffer() noexcept:
    global buffer
    if buffer != NULL and _size(buffer) != KEPT_BUFFER:
        Py_XDECREF(buffer)
        buffer = NULL


cdef int resize(Py_ssize_t size) except -1:
    global buffer, buffer_end
    if buffer == NULL:
        buffer = _new_bytes(NULL, size)
    else:
        _PyBytes_Resize(&buffer, size)  # which leaves NULL when it fails
    buffer_end = <uint8_t *>PyBytes_AS_STRING(buffer) + size
    return 0


cdef uint8_t *grow(uint8_t *end, Py_ssize_t more) except? NULL:
    """Make room for `more` bytes at `end`; the buffer may move, so use what is returned."""
    cdef Py_ssize_t used = end - <uint8_t *>PyBytes_AS_STRING(buffer)
    resize(max(2 * _size(buffer), used + more))
    return <uint8_t *>PyBytes_AS_STRING(buffer) + used


cdef inline uint8_t *room(uint8_t *end, Py_ssize_t more) except? NULL:
    return end if buffer_end - end >= more else grow(end, more)


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
    cdef bint tuples = False  # among the keys of a large dict
    end = room(end, 15)
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
                if size > _MAX_SAME_HASH and ss_type(key) == &PyTuple_Type:
                    tuples = True
                end = pack_one(end, key, depth + 1)
            else:
                return NULL
            if end == NULL:
                return NULL
            end = pack_one(end, item, depth + 1)
            if end == NULL:
                return NULL
        return NULL if tuples and too_many_of_one_hash(value) else end
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
        end[0] = 0xC3 if value == Py_True else 0xC2
        return end + 1
    if kind == &PyFloat_Type:
        return pack_float(end, value)
    if kind == &PyBytes_Type:
        return pack_bytes(end, PyBytes_AS_STRING(value), _size(value))
    if kind == ss_dt_type:
        if ss_dt_is_utc(value):
            return pack_moment(end, value, None)
        return pack_zoned(end, value)
    if kind == &PyByteArray_Type:
        return pack_bytes(end, PyByteArray_AS_STRING(value), _size(value))
    if kind == &PyMemoryView_Type:
        return pack_view(end, value)
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


cdef bint too_many_of_one_hash(PyObject *items) except? True:
    """Whether more tuple keys of a dict than may be have one hash. All its keys are plain."""
    cdef PyObject *key
    cdef PyObject *item
    cdef Py_ssize_t position = 0, count = 0
    cdef int64_t *hashes = <int64_t *>malloc(len(<dict>items) * sizeof(int64_t))
    if hashes == NULL:
        raise MemoryError
    while _dict_next(items, &position, &key, &item):
        if ss_type(key) == &PyTuple_Type:
            hashes[count] = PyObject_Hash(<object>key)
            count += 1
    return is_crowded(hashes, count)


cdef bint is_crowded(int64_t *hashes, Py_ssize_t count) except? True:
    """Whether more numbers than may be are the same; frees the array.

    They are counted in a table with a byte for each, which takes a tenth of the time of sorting
    them. Only where too many share a byte, sorting tells whether they are the same.
    """
    cdef int bits = 1
    cdef Py_ssize_t position, same = 1, most = 0
    cdef uint64_t place
    cdef uint8_t *table
    while bits < 30 and <Py_ssize_t>1 << bits < count:
        bits += 1
    table = <uint8_t *>calloc(<size_t>1 << bits, 1)
    if table == NULL:
        free(hashes)
        raise MemoryError
    for position in range(count):
        place = <uint64_t>hashes[position] * <uint64_t>0x9E3779B97F4A7C15 >> (64 - bits)
        table[place] += 1
        if table[place] > _MAX_SAME_HASH:
            most = _MAX_SAME_HASH + 1
            break
    free(table)
    if most > _MAX_SAME_HASH:
        qsort(hashes, count, sizeof(int64_t), by_value)
        most = 1
        for position in range(1, count):
            same = same + 1 if hashes[position] == hashes[position - 1] else 1
            most = max(most, same)
    free(hashes)
    return most > _MAX_SAME_HASH


cdef int by_value(const void *left, const void *right) noexcept nogil:
    cdef int64_t a = (<const int64_t *>left)[0], b = (<const int64_t *>right)[0]
    return (a > b) - (a < b)


def same_hash(list keys not None, /):
    """Return whether more of some tuples than may be keys of one dict have the same hash."""
    cdef Py_ssize_t position, count = PyList_GET_SIZE(keys)
    cdef int64_t *hashes
    if count <= _MAX_SAME_HASH:
        return False
    hashes = <int64_t *>malloc(count * sizeof(int64_t))
    if hashes == NULL:
        raise MemoryError
    try:
        for position in range(count):
            hashes[position] = hash(keys[position])
    except:
        free(hashes)
        raise
    return is_crowded(hashes, count)


def frozen(list items not None, /):
    """Return a list as a tuple, with the lists in it as tuples too."""
    return tuple([frozen(item) if type(item) is list else item for item in items])


cdef uint8_t *pack_int(uint8_t *end, PyObject *value) noexcept:
    cdef int negative, size
    cdef unsigned long long magnitude
    if not ss_magnitude(value, &negative, &magnitude):
        return NULL
    if not negative:
        if magnitude <= 0x7F:
            end[0] = <uint8_t>magnitude
            return end + 1
        size = (
            0 if magnitude <= 0xFF else 1 if magnitude <= 0xFFFF
            else 2 if magnitude <= 0xFFFFFFFFU else 3)
        end[0] = 0xCC + size
        return put_number(end + 1, magnitude, 1 << size)
    if magnitude > MOST_NEGATIVE:
        return NULL
    if magnitude <= 32:
        end[0] = <uint8_t>(0x100 - magnitude)
        return end + 1
    size = (
        0 if magnitude <= 0x80 else 1 if magnitude <= 0x8000
        else 2 if magnitude <= 0x80000000U else 3)
    end[0] = 0xD0 + size
    return put_number(end + 1, <uint64_t>0 - magnitude, 1 << size)


cdef uint8_t *pack_float(uint8_t *end, PyObject *value) noexcept:
    cdef double number = PyFloat_AS_DOUBLE(<object>value)
    cdef uint64_t bits
    memcpy(&bits, &number, 8)
    end[0] = 0xCB
    return put_number(end + 1, bits, 8)


cdef uint8_t *pack_text(uint8_t *end, PyObject *value) except? NULL:
    cdef Py_ssize_t size
    cdef const char *data
    if PyUnicode_IS_ASCII(<object>value):
        size = PyUnicode_GET_LENGTH(<object>value)
        data = <const char *>PyUnicode_DATA(<object>value)
    else:
        # Kept in the text from now on, so that to pack an unchanged state again costs a copy.
        data = _as_utf8(value, &size)
        if data == NULL:  # a lone surrogate
            PyErr_Clear()
            return NULL
    if size > _MAX_SIZE:
        return NULL
    end = put_size(room(end, size + 9), size, 0xA0, 32, 0xD9, 0xDA)
    memcpy(end, data, size)
    return end + size


cdef uint8_t *pack_bytes(uint8_t *end, const char *data, Py_ssize_t size) except? NULL:
    if size > _MAX_SIZE:
        return NULL
    end = put_size(room(end, size + 9), size, 0, 0, 0xC4, 0xC5)
    memcpy(end, data, size)
    return end + size


cdef uint8_t *pack_view(uint8_t *end, PyObject *value) except? NULL:
    cdef Py_buffer view
    cdef const char *format
    try:
        PyObject_GetBuffer(<object>value, &view, PyBUF_SIMPLE)
    except Exception:  # released, or not contiguous
        return NULL
    try:
        format = PyMemoryView_GET_BUFFER(value).format
        if format != NULL and strcmp(format, "B") != 0:
            return NULL  # the reference knows which others hold data, and which addresses
        return pack_bytes(end, <const char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


# zoneinfo.ZoneInfo, once a datetime has had one; see `know_zone_info`.
cdef PyTypeObject *_zone_info = NULL
cdef object _zone_info_owner = None


def know_zone_info(type zone_info, /):
    """Let datetimes in zones of exactly this type, which is written in C, go the fast way."""
    global _zone_info, _zone_info_owner
    _zone_info_owner = zone_info
    _zone_info = <PyTypeObject *>zone_info


cdef uint8_t *pack_zoned(uint8_t *end, PyObject *value) except? NULL:
    """A datetime in a zone other than UTC, if its type is known to run no Python code."""
    cdef PyTypeObject *zone = ss_dt_zone_type(value)
    cdef bint was_enabled
    if zone == NULL or (zone != ss_fixed_zone and zone != _zone_info):
        return NULL
    # In the first and the last year the offset could lead out of what can be read back.
    if not 1 < datetime_year(<object>value) < 9999:
        return NULL
    was_enabled = PyGC_Disable()
    try:
        offset = (<object>value).utcoffset()
    finally:
        if was_enabled:
            PyGC_Enable()
    return pack_moment(end, value, <timedelta>offset) if isinstance(offset, timedelta) else NULL


def plain_datetime(value, /):
    """Return a copy of exactly the built-in type, in the same zone, or None for other values.

    Written in C because a test that freezes the clock replaces `datetime.datetime` in every module
    that has it. The class used here is CPython's, whatever was replaced.
    """
    if not isinstance(value, datetime):
        return None
    return datetime_new(
        datetime_year(value), datetime_month(value), datetime_day(value),
        datetime_hour(value), datetime_minute(value), datetime_second(value),
        datetime_microsecond(value), datetime_tzinfo(value), datetime_fold(value))


cdef int64_t DAYS_TO_1970 = 719162  # from the first day of the year 1
cdef int[12] DAYS_BEFORE_MONTH = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]


cdef uint8_t *pack_moment(uint8_t *end, PyObject *value, timedelta offset) noexcept:
    """Extension type -1: seconds in 4 bytes, in 8 with nanoseconds, or in 12 where 8 are too few.

    `offset` is what the time zone is ahead of UTC; None for UTC itself.
    """
    cdef datetime moment = <datetime>value
    cdef int year = datetime_year(moment), month = datetime_month(moment)
    cdef int64_t past = year - 1  # years
    cdef int64_t days = (
        past * 365 + past // 4 - past // 100 + past // 400
        + DAYS_BEFORE_MONTH[month - 1] + datetime_day(moment) - 1 - DAYS_TO_1970)
    cdef int64_t seconds
    cdef int microseconds = datetime_microsecond(moment)
    cdef uint64_t nanoseconds
    if month > 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        days += 1
    seconds = (
        days * 86400 + datetime_hour(moment) * 3600
        + datetime_minute(moment) * 60 + datetime_second(moment))
    if offset is not None:
        seconds -= <int64_t>timedelta_days(offset) * 86400 + timedelta_seconds(offset)
        microseconds -= timedelta_microseconds(offset)
        if microseconds < 0:
            microseconds += 1000000
            seconds -= 1
    nanoseconds = <uint64_t>microseconds * 1000
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
