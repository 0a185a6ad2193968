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
        (((PyDateTime_DateTime *)(o))->tzinfo == PyDateTimeAPI->TimeZone_UTC)
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


cdef int _scan(const uint8_t *p, Py_ssize_t size, int *fault, Py_ssize_t *where) noexcept nogil:
    """Say what one complete value in msgpack is made of; linear, without recursion.

    Everything but the UTF-8 of texts is checked. On _REFUSED, `fault` and `where` say why.
    """
    cdef uint64_t left[_MAX_DEPTH + 1]  # elements to come, for each open container
    cdef uint8_t is_map[_MAX_DEPTH + 1]
    cdef int top = 0  # open containers
    cdef int key_top = 0  # the level of the outermost array that is part of a key, or 0
    cdef int found = 0
    cdef Py_ssize_t i = 0  # the next byte
    cdef Py_ssize_t start = 0  # the first byte of the current element
    cdef uint64_t length = 0
    cdef int width = 0
    cdef uint8_t head
    cdef bint key, container, mapping
    left[0] = 1
    is_map[0] = False
    fault[0] = 0
    while True:
        # Close what is complete.
        while left[top] == 0:
            if top == 0:
                if i == size:
                    return found
                fault[0] = _TRAILING
                where[0] = i
                return _REFUSED
            top -= 1
            if top < key_top:
                key_top = 0
        start = i
        where[0] = start
        if i >= size:
            fault[0] = _TRUNCATED
            return _REFUSED
        key = is_map[top] and not left[top] & 1
        left[top] -= 1
        head = p[i]
        i += 1
        length = 0
        container = mapping = False
        if head < 0x80 or head >= 0xE0:  # small int
            if key:
                found |= _OTHER_KEYS
            continue
        if 0xA0 <= head <= 0xBF:  # short str
            i += head & 0x1F
            if i > size:
                fault[0] = _TRUNCATED
                return _REFUSED
            continue
        if head < 0xA0:  # small map or array
            container = True
            mapping = head < 0x90
            length = head & 0x0F
        elif head == 0xC0 or head == 0xC2 or head == 0xC3:  # nil, bool
            if key:
                found |= _OTHER_KEYS
            continue
        elif head == 0xC1:
            fault[0] = _RESERVED
            return _REFUSED
        elif 0xCA <= head <= 0xD3:  # float 32, 64, uint 8-64, int 8-64
            i += (4 << (head - 0xCA)) if head < 0xCC else (1 << (head & 3))
            if i > size:
                fault[0] = _TRUNCATED
                return _REFUSED
            if key:
                found |= _OTHER_KEYS
            continue
        else:
            # What remains has a length: in the head itself, or in the next 1, 2 or 4 bytes.
            if 0xD4 <= head <= 0xD8:
                length = 1 << (head - 0xD4)
            else:
                if head <= 0xC6:
                    width = 1 << (head - 0xC4)
                elif head <= 0xC9:
                    width = 1 << (head - 0xC7)
                elif head <= 0xDB:
                    width = 1 << (head - 0xD9)
                else:
                    width = 2 << (head & 1)
                if size - i < width:
                    fault[0] = _TRUNCATED
                    return _REFUSED
                length = _big_endian(p + i, width)
                i += width
            container = head >= 0xDC
            mapping = head >= 0xDE
        if not container:
            if 0xD9 <= head <= 0xDB or head <= 0xC6:  # str, bin
                if <uint64_t>(size - i) < length:
                    fault[0] = _TRUNCATED
                    return _REFUSED
                i += length
                if key and head <= 0xC6:
                    found |= _OTHER_KEYS
                continue
            # Extension: a type byte, then the body.
            if <uint64_t>(size - i) < length + 1:
                fault[0] = _TRUNCATED
                return _REFUSED
            if p[i] != 0xFF:
                fault[0] = _EXTENSION
                return _REFUSED
            fault[0] = _timestamp_fault(p + i + 1, length)
            if fault[0] == 0 and (key or key_top):
                fault[0] = _KEY_TYPE
            if fault[0]:
                return _REFUSED
            i += length + 1
            found |= _TIMES
            continue
        if key or key_top:
            if mapping:
                fault[0] = _KEY_TYPE
                return _REFUSED
            if key_top == 0:
                key_top = top + 1
            if top + 1 - key_top >= _MAX_KEY_DEPTH:
                fault[0] = _KEY_TOO_DEEP
                return _REFUSED
            found |= _OTHER_KEYS | _TUPLE_KEYS
        if top == _MAX_DEPTH:
            fault[0] = _TOO_DEEP
            return _REFUSED
        if top >= _SHALLOW:
            found |= _DEEP
        if mapping:
            length *= 2
        # Each element takes a byte at least.
        if <uint64_t>(size - i) < length:
            fault[0] = _TRUNCATED
            return _REFUSED
        top += 1
        left[top] = length
        is_map[top] = mapping


def scan(bytes data not None, /):
    """Return what bytes hold, as flags; all but the UTF-8 of texts is checked."""
    cdef int fault = 0
    cdef Py_ssize_t where = 0
    return _scan(<const uint8_t *><const char *>data, len(data), &fault, &where)


def scan_fault(bytes data not None, /):
    """Return (what is wrong, at which byte) for bytes that `scan` refuses."""
    cdef int fault = 0
    cdef Py_ssize_t where = 0
    _scan(<const uint8_t *><const char *>data, len(data), &fault, &where)
    return _FAULTS[fault], where


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
