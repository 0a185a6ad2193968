# What msgpack bytes that came from elsewhere hold, checked at C speed.
#
# msgpack-python and ormsgpack each read a little more than the contract of swarmstate.codecs, and not
# the same more. So untrusted bytes are walked before either is shown them. The walk neither allocates
# nor runs Python code nor follows more than the documented number of levels; what it refuses is left
# to the reference in swarmstate/codecs/_reference.py, which alone makes the errors.

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    # How deep containers may nest. msgpack-python cannot read a level more.
    _MAX_DEPTH = 1024
    # How deep tuples may nest in a dict key. Hashing and comparing keys is recursive in CPython.
    _MAX_KEY_DEPTH = 64
    # How many tuple keys of one dict may have the same hash. Each is compared with all the others,
    # and anyone can make such keys: hash(-1) == hash(-2), so 2**n tuples of n of these have one.
    _MAX_SAME_HASH = 32
    # What ormsgpack reads without reaching a limit of its own.
    _SHALLOW = 255

    # What the walk found. Zero is what both libraries handle alike and fastest.
    _TIMES = 1        # timestamps
    _OTHER_KEYS = 2   # keys that are not text
    _TUPLE_KEYS = 4   # keys that are arrays; _OTHER_KEYS is set as well
    _DEEP = 8         # more than _SHALLOW levels
    _REFUSED = 16     # nothing that the libraries may be shown
    _MANY_KEYS = 32   # a map with so many keys, arrays among them, that they could exceed _MAX_SAME_HASH

MAX_DEPTH = _MAX_DEPTH
MAX_KEY_DEPTH = _MAX_KEY_DEPTH
MAX_SAME_HASH = _MAX_SAME_HASH
TIMES = _TIMES
OTHER_KEYS = _OTHER_KEYS
TUPLE_KEYS = _TUPLE_KEYS
DEEP = _DEEP
REFUSED = _REFUSED
MANY_KEYS = _MANY_KEYS

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
                if left > 2 * _MAX_SAME_HASH - 1:
                    found |= _MANY_KEYS
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


@cython.final
cdef class MsgpackUnpacker:
    """msgpack-python's `unpackb` with our options, called without a Python frame."""

    cdef object unpackb, strict_map_key, timestamp
    cdef tuple names

    def __cinit__(self, unpackb):
        self.unpackb = unpackb
        # Timestamps become datetimes; keys may be of any type.
        self.names = ("strict_map_key", "timestamp")
        self.strict_map_key = False
        self.timestamp = 3

    def unpack(self, object data, /):
        """Return the value of bytes that are known to be good, or raise."""
        cdef PyObject *arguments[3]
        arguments[0] = <PyObject *>data
        arguments[1] = <PyObject *>self.strict_map_key
        arguments[2] = <PyObject *>self.timestamp
        return PyObject_Vectorcall(<PyObject *>self.unpackb, arguments, 1, <PyObject *>self.names)
