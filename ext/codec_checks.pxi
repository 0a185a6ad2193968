# What the codecs accept, checked at C speed.
#
# msgpack-python and ormsgpack each accept a little more than the contract of swarmstate.codecs, and
# not the same more. So a value is walked before either library packs it (`_survey`) and untrusted
# bytes are walked before either unpacks them (`_scan`). Neither walk allocates, runs Python code or
# follows more than the documented number of levels; anything out of the ordinary is left to the
# reference in swarmstate/codecs/_reference.py, which alone makes the errors.
#
# This file is self-contained: it is included by _core.pyx and uses nothing of it.

from cpython.datetime cimport import_datetime, PyDateTime_DateTime
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

import_datetime()


cdef extern from *:
    """
    /* Inlined here because the declarations that ship with Cython take references. */
    #define ss_type(o) Py_TYPE((PyObject *)(o))
    #define ss_dt_type (PyDateTimeAPI->DateTimeType)
    #define ss_dt_year(o) PyDateTime_GET_YEAR(o)
    #define ss_dt_zone_type(o) \\
        (((PyDateTime_DateTime *)(o))->hastzinfo \\
            ? Py_TYPE(((PyDateTime_DateTime *)(o))->tzinfo) : NULL)
    #define ss_dt_is_utc(o) \\
        (((PyDateTime_DateTime *)(o))->hastzinfo \\
            && ((PyDateTime_DateTime *)(o))->tzinfo == PyDateTimeAPI->TimeZone_UTC)
    #define ss_fixed_zone Py_TYPE(PyDateTimeAPI->TimeZone_UTC)
    """
    PyTypeObject *ss_type(PyObject *o) noexcept
    PyTypeObject *ss_dt_type
    int ss_dt_year(PyObject *o) noexcept
    PyTypeObject *ss_dt_zone_type(PyObject *o) noexcept
    bint ss_dt_is_utc(PyObject *o) noexcept
    PyTypeObject *ss_fixed_zone

cdef extern from "Python.h":
    PyTypeObject PyUnicode_Type, PyLong_Type, PyFloat_Type, PyBool_Type, PyBytes_Type
    PyTypeObject PyByteArray_Type, PyMemoryView_Type, PyList_Type, PyTuple_Type, PyDict_Type
    PyObject *Py_None
    Py_ssize_t _size "Py_SIZE"(PyObject *o) noexcept
    PyObject *_list_item "PyList_GET_ITEM"(PyObject *o, Py_ssize_t i) noexcept
    PyObject *_tuple_item "PyTuple_GET_ITEM"(PyObject *o, Py_ssize_t i) noexcept
    bint _dict_next "PyDict_Next"(
        PyObject *o, Py_ssize_t *position, PyObject **key, PyObject **value) noexcept
    Py_ssize_t _references "Py_REFCNT"(PyObject *o) noexcept
    int _pause_collector "PyGC_Disable"() noexcept
    int _resume_collector "PyGC_Enable"() noexcept
    object _vectorcall "PyObject_Vectorcall"(
        PyObject *function, PyObject **args, size_t count, PyObject *names)
    PyObject *_try_vectorcall "PyObject_Vectorcall"(
        PyObject *function, PyObject **args, size_t count, PyObject *names) noexcept
    void _drop "Py_DECREF"(PyObject *o) noexcept
    void _forget_error "PyErr_Clear"() noexcept


cdef enum:
    # How deep containers may nest. msgpack-python cannot read a level more.
    _MAX_DEPTH = 1024
    # How deep tuples may nest in a dict key. Hashing and comparing keys is recursive in CPython.
    _MAX_KEY_DEPTH = 64
    # What ormsgpack writes and reads without reaching a limit of its own.
    _SHALLOW = 255

    # What a walk found. Zero is what both libraries handle alike and fastest.
    _TIMES = 1        # aware datetimes
    _OTHER_KEYS = 2   # keys that are no str
    _TUPLE_KEYS = 4   # keys that are tuples; _OTHER_KEYS is set too
    _DEEP = 8         # more than _SHALLOW levels
    _REFUSED = 16     # nothing that the libraries may be shown

MAX_DEPTH = _MAX_DEPTH
MAX_KEY_DEPTH = _MAX_KEY_DEPTH
TIMES = _TIMES
OTHER_KEYS = _OTHER_KEYS
TUPLE_KEYS = _TUPLE_KEYS
DEEP = _DEEP
REFUSED = _REFUSED

# No msgpack length has more than 32 bits. What is packed into less holds no longer text or list.
cdef Py_ssize_t _MAX_SIZE = 0xFFFFFFFF


# ---- values ------------------------------------------------------------------------------------

cdef int _survey_key(PyObject *key, int depth, int key_depth) noexcept:
    cdef PyTypeObject *kind = ss_type(key)
    cdef Py_ssize_t i
    cdef int found
    if kind == &PyUnicode_Type:
        return 0
    if kind == &PyLong_Type or kind == &PyFloat_Type or kind == &PyBool_Type or key == Py_None:
        return _OTHER_KEYS
    if kind == &PyBytes_Type:
        return _OTHER_KEYS
    if kind != &PyTuple_Type or depth >= _MAX_DEPTH or key_depth >= _MAX_KEY_DEPTH:
        return _REFUSED
    found = _OTHER_KEYS | _TUPLE_KEYS
    if depth >= _SHALLOW:
        found |= _DEEP
    for i in range(_size(key)):
        found |= _survey_key(_tuple_item(key, i), depth + 1, key_depth + 1)
        if found & _REFUSED:
            break
    return found


cdef inline int _survey_item(PyObject *value, int depth) noexcept:
    """Say what an element is made of: most are plain, which needs no call."""
    cdef PyTypeObject *kind = ss_type(value)
    if kind == &PyUnicode_Type:
        return 0
    if kind == &PyLong_Type or kind == &PyFloat_Type or kind == &PyBool_Type or value == Py_None:
        return 0
    return _survey(value, kind, depth)


cdef int _survey(PyObject *value, PyTypeObject *kind, int depth) noexcept:
    """Say what anything but a text, number, bool or None is made of.

    `depth` is the number of containers around it. Only exact built-in types are known here. The
    range of an int and the surrogates of a str are not looked at: both libraries refuse what does
    not fit.
    """
    cdef Py_ssize_t i, position
    cdef PyObject *key
    cdef PyObject *item
    cdef PyTypeObject *zone
    cdef int found
    if kind == &PyDict_Type:
        if depth >= _MAX_DEPTH:
            return _REFUSED
        found = _DEEP if depth >= _SHALLOW else 0
        position = 0
        while _dict_next(value, &position, &key, &item):
            if ss_type(key) != &PyUnicode_Type:
                found |= _survey_key(key, depth + 1, 0)
            found |= _survey_item(item, depth + 1)
        return found
    if kind == &PyList_Type:
        if depth >= _MAX_DEPTH:
            return _REFUSED
        found = _DEEP if depth >= _SHALLOW else 0
        for i in range(_size(value)):
            found |= _survey_item(_list_item(value, i), depth + 1)
        return found
    if kind == &PyTuple_Type:
        if depth >= _MAX_DEPTH:
            return _REFUSED
        found = _DEEP if depth >= _SHALLOW else 0
        for i in range(_size(value)):
            found |= _survey_item(_tuple_item(value, i), depth + 1)
        return found
    if kind == &PyBytes_Type or kind == &PyByteArray_Type or kind == &PyMemoryView_Type:
        return 0
    if kind == ss_dt_type:
        zone = ss_dt_zone_type(value)
        if zone != NULL:
            if ss_dt_is_utc(value):
                return _TIMES
            # These zones run no Python code. In the first and the last year the offset could lead
            # out of the range that can be read back.
            if (zone == ss_fixed_zone or zone == _zone_info) and 1 < ss_dt_year(value) < 9999:
                return _TIMES
    return _REFUSED


# zoneinfo.ZoneInfo, once somebody has used it; see `know_zone_info`.
cdef PyTypeObject *_zone_info = NULL
cdef object _zone_info_owner = None


def know_zone_info(type zone_info, /):
    """Let datetimes in zones of exactly this type, which is written in C, go the fast way."""
    global _zone_info, _zone_info_owner
    _zone_info_owner = zone_info
    _zone_info = <PyTypeObject *>zone_info


def survey(object value, /):
    """Return what a value is made of, as flags."""
    return _survey_item(<PyObject *>value, 0)


cdef class MsgpackCalls:
    """msgpack-python, called without a Python frame and only with what it handles exactly."""

    cdef object _make_packer
    cdef object _packer_pack
    cdef object _unpackb
    cdef tuple _names
    cdef object _strict_map_key
    cdef object _timestamp

    def __init__(self, make_packer, unpackb):
        self._make_packer = make_packer
        self._packer_pack = make_packer().pack
        self._unpackb = unpackb
        # Timestamps become datetimes; keys may be of any type.
        self._names = ("strict_map_key", "timestamp")
        self._strict_map_key = False
        self._timestamp = 3

    cdef bytes _pack(self, object value):
        # One Packer serves everybody: nothing here runs Python code, so nobody can come in between,
        # provided that its allocations do not start the collector, whose finalizers are such code.
        cdef int collecting = _pause_collector()
        cdef bytes packed
        try:
            packed = self._packer_pack(value)
        finally:
            if collecting:
                _resume_collector()
        if len(packed) > 1 << 20:
            # A Packer never gives its buffer back.
            self._packer_pack = self._make_packer().pack
        return packed

    def pack(self, object value, /):
        """Return the value's bytes, or raise."""
        cdef bytes packed = pack_plain(value)
        if packed is not None:
            return packed
        if _survey_item(<PyObject *>value, 0) & _REFUSED:
            raise TypeError("for the reference")
        return self._pack(value)

    def unpack(self, object data, /):
        """Return the value of bytes that are known to be good, or raise."""
        cdef PyObject *args[3]
        args[0] = <PyObject *>data
        args[1] = <PyObject *>self._strict_map_key
        args[2] = <PyObject *>self._timestamp
        return _vectorcall(
            <PyObject *>self._unpackb, args, 1, <PyObject *>self._names)


cdef class OrmsgpackCalls:
    """ormsgpack in the same way; what it cannot do goes to msgpack-python.

    ormsgpack, told to pass everything else through, accepts nothing but the domain and instances of
    its own types `Ext` and `Fragment`, which no option refuses. A survey before each call finds
    them, but costs a quarter of the call. There is a shorter way to know that a value holds none:
    an instance keeps a reference to its type, so while the types have exactly the references that
    they had before anybody could make an instance, there is none in the whole process.
    """

    cdef object _packb
    cdef object _options
    cdef MsgpackCalls _other
    cdef type _ext, _fragment
    cdef Py_ssize_t _ext_references, _fragment_references

    def __init__(self, packb, options, MsgpackCalls other not None, type ext, type fragment):
        self._packb = packb
        self._options = options
        self._other = other
        self._ext = ext
        self._fragment = fragment
        self._ext_references = self._fragment_references = -1  # unknown: always survey

    def count_references(self):
        """Remember the types' references; to be called before anybody could make an instance.

        Returns whether they do tell.
        """
        cdef Py_ssize_t ext = _references(<PyObject *>self._ext)
        cdef Py_ssize_t fragment = _references(<PyObject *>self._fragment)
        cdef object one = self._ext(1, b"")
        cdef object other = self._fragment(b"\xc0")
        if (
            _references(<PyObject *>self._ext) == ext + 1
            and _references(<PyObject *>self._fragment) == fragment + 1
        ):
            self._ext_references = ext
            self._fragment_references = fragment
        return self._ext_references >= 0

    def pack(self, object value, /):
        """Return the value's bytes, or raise."""
        cdef PyObject *args[3]
        cdef PyObject *made
        cdef int found = 0
        cdef bytes packed = pack_plain(value)
        if packed is not None:
            return packed
        if (
            _references(<PyObject *>self._ext) != self._ext_references
            or _references(<PyObject *>self._fragment) != self._fragment_references
        ):
            found = _survey_item(<PyObject *>value, 0)
        if not found:
            args[0] = <PyObject *>value
            args[1] = Py_None
            args[2] = <PyObject *>self._options
            made = _try_vectorcall(<PyObject *>self._packb, args, 3, NULL)
            if made != NULL:
                packed = <object>made
                _drop(made)
                if len(<bytes>packed) <= _MAX_SIZE:
                    return packed
            else:
                _forget_error()
            found = _survey_item(<PyObject *>value, 0)
        if found & _REFUSED:
            raise TypeError("for the reference")
        return self._other._pack(value)


# ---- bytes -------------------------------------------------------------------------------------

cdef enum _Fault:
    _TRUNCATED = 1
    _TRAILING
    _RESERVED
    _TOO_DEEP
    _KEY_TOO_DEEP
    _KEY_TYPE
    _EXTENSION
    _TIMESTAMP_LENGTH
    _TIMESTAMP_RANGE

# datetime.min and datetime.max in seconds since the Unix epoch.
cdef int64_t _FIRST_SECOND = -62135596800
cdef int64_t _LAST_SECOND = 253402300799


cdef inline uint64_t _big_endian(const uint8_t *p, int size) noexcept nogil:
    cdef uint64_t number = 0
    cdef int i
    for i in range(size):
        number = number << 8 | p[i]
    return number


cdef int _timestamp_fault(const uint8_t *p, uint64_t size) noexcept nogil:
    """Check the body of extension type -1: seconds in 4 bytes, or with nanoseconds in 8 or 12."""
    cdef int64_t seconds
    cdef uint64_t nanoseconds = 0
    cdef uint64_t packed
    if size == 4:
        return 0
    if size == 8:
        packed = _big_endian(p, 8)
        nanoseconds = packed >> 34
        seconds = packed & ((<uint64_t>1 << 34) - 1)
    elif size == 12:
        nanoseconds = _big_endian(p, 4)
        seconds = <int64_t>_big_endian(p + 4, 8)
    else:
        return _TIMESTAMP_LENGTH
    if nanoseconds > 999999999 or seconds < _FIRST_SECOND or seconds > _LAST_SECOND:
        return _TIMESTAMP_RANGE
    return 0


# How many bytes an element takes whose head alone tells: numbers, nil, bools, short texts. Else 0.
cdef uint8_t _STEPS[256]


cdef void _fill_steps() noexcept:
    cdef int head
    for head in range(256):
        if head < 0x80 or head >= 0xE0 or head == 0xC0 or head == 0xC2 or head == 0xC3:
            _STEPS[head] = 1
        elif 0xA0 <= head <= 0xBF:
            _STEPS[head] = 1 + (head & 0x1F)
        elif head == 0xCA or head == 0xCB:  # float 32, 64
            _STEPS[head] = 5 if head == 0xCA else 9
        elif 0xCC <= head <= 0xD3:  # uint and int, 8 to 64
            _STEPS[head] = 1 + (1 << (head & 3))
        else:
            _STEPS[head] = 0

_fill_steps()


cdef int _scan(const uint8_t *p, Py_ssize_t size, int *fault, Py_ssize_t *where) noexcept nogil:
    """Say what one complete value in msgpack is made of; linear, without recursion.

    Everything but the UTF-8 of texts is checked. On _REFUSED, `fault` and `where` say why.
    """
    cdef uint64_t outer[_MAX_DEPTH + 1]  # elements to come in each container around the current
    cdef uint8_t outer_is_map[_MAX_DEPTH + 1]
    cdef uint64_t left = 1  # elements to come in the current container
    cdef bint is_map = False  # an even number left in a map: the next is a key
    cdef int top = 0  # open containers
    cdef int key_top = 0  # the level of the outermost array that is part of a key, or 0
    cdef int found = 0
    cdef int wrong = 0
    cdef Py_ssize_t i = 0  # the next byte
    cdef Py_ssize_t start = 0  # the first byte of the current element
    cdef uint64_t length
    cdef int width, step
    cdef uint8_t head
    cdef bint key, mapping
    while True:
        while left == 0:  # complete
            if top == 0:
                if i == size:
                    return found
                wrong = _TRAILING
                break
            top -= 1
            left = outer[top]
            is_map = outer_is_map[top]
            if top < key_top:
                key_top = 0
        start = i
        if wrong:
            break
        if i >= size:
            wrong = _TRUNCATED
            break
        head = p[i]
        key = is_map and not left & 1
        left -= 1
        # The most common heads each have a branch: one that is foreseen is faster than the table.
        if 0xA0 <= head <= 0xBF:  # short text
            i += 1 + (head & 0x1F)
            if i > size:
                wrong = _TRUNCATED
                break
            continue
        if head == 0xD9 and size - i >= 2:  # text of less than 256 bytes
            i += 2 + p[i + 1]
            if i > size:
                wrong = _TRUNCATED
                break
            continue
        if head == 0xCB:  # float 64
            i += 9
            if i > size:
                wrong = _TRUNCATED
                break
            if key:
                found |= _OTHER_KEYS
            continue
        step = _STEPS[head]
        if step:
            i += step
            if i > size:
                wrong = _TRUNCATED
                break
            if key and (head < 0xA0 or head > 0xBF):
                found |= _OTHER_KEYS
            continue
        if head == 0xC1:
            wrong = _RESERVED
            break
        # What remains has a length: in the head itself, or in the next 1, 2 or 4 bytes.
        i += 1
        if head < 0xA0 or 0xD4 <= head <= 0xD8:
            length = head & 0x0F if head < 0xA0 else 1 << (head - 0xD4)
        else:
            if head >= 0xDC:
                width = 2 << (head & 1)
            elif head >= 0xD9:
                width = 1 << (head - 0xD9)
            elif head >= 0xC7:
                width = 1 << (head - 0xC7)
            else:
                width = 1 << (head - 0xC4)
            if size - i < width:
                wrong = _TRUNCATED
                break
            length = _big_endian(p + i, width)
            i += width
        if 0xD9 <= head <= 0xDB or 0xC4 <= head <= 0xC6:  # str, bin
            if <uint64_t>(size - i) < length:
                wrong = _TRUNCATED
                break
            i += length
            if key and head <= 0xC6:
                found |= _OTHER_KEYS
            continue
        if 0xC7 <= head <= 0xD8:  # extension: a type, then the body
            if <uint64_t>(size - i) < length + 1:
                wrong = _TRUNCATED
            elif p[i] != 0xFF:
                wrong = _EXTENSION
            else:
                wrong = _timestamp_fault(p + i + 1, length)
                if not wrong and (key or key_top):
                    wrong = _KEY_TYPE
            if wrong:
                break
            i += length + 1
            found |= _TIMES
            continue
        # A container.
        mapping = head >= 0xDE or head < 0x90
        if key or key_top:
            if mapping:
                wrong = _KEY_TYPE
                break
            if key_top == 0:
                key_top = top + 1
            if top + 1 - key_top >= _MAX_KEY_DEPTH:
                wrong = _KEY_TOO_DEEP
                break
            found |= _OTHER_KEYS | _TUPLE_KEYS
        if top == _MAX_DEPTH:
            wrong = _TOO_DEEP
            break
        if top >= _SHALLOW:
            found |= _DEEP
        if mapping:
            length *= 2
        # Each element takes a byte at least.
        if <uint64_t>(size - i) < length:
            wrong = _TRUNCATED
            break
        outer[top] = left
        outer_is_map[top] = is_map
        top += 1
        left = length
        is_map = mapping
    fault[0] = wrong
    where[0] = start
    return _REFUSED


def scan(bytes data not None, /):
    """Return what bytes hold, as flags; all but the UTF-8 of texts is checked."""
    cdef int fault = 0
    cdef Py_ssize_t where = 0
    return _scan(<const uint8_t *><const char *>data, len(data), &fault, &where)


def examine(bytes data not None, /):
    """Return what `scan` does, what is wrong if it refuses, and at which byte."""
    cdef int fault = 0
    cdef Py_ssize_t where = 0
    cdef int found = _scan(<const uint8_t *><const char *>data, len(data), &fault, &where)
    return found, _FAULTS[fault], where


cdef tuple _FAULTS = (
    "",
    "the input ends within the value",
    "trailing bytes follow the value",
    "0xc1 is reserved",
    f"nested deeper than {_MAX_DEPTH} levels",
    f"a map key is nested deeper than {_MAX_KEY_DEPTH} levels",
    "unsupported type of a map key",
    "unsupported extension type",
    "a timestamp of unsupported length",
    "a timestamp out of range",
)
