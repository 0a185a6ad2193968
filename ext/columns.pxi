# Columns: of many small values of one shape, only what a choice among them needs.
#
# A search looks at every item of a namespace and returns ten. To decode them all is most of its
# time, so the few elements and fields that decide are copied into one value, which is decoded at
# once; what is chosen is then decoded whole.

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcmp, memcpy


cdef const uint8_t *_after(const uint8_t *p) noexcept nogil:
    """Return where the element ends that begins here. It was scanned, so it does end."""
    cdef uint64_t left = 1
    cdef uint64_t length
    cdef int width
    cdef uint8_t head
    while left:
        left -= 1
        head = p[0]
        if _STEPS[head]:
            p += _STEPS[head]
        elif head < 0xA0:  # a short map or array
            left += (head & 0x0F) << (head < 0x90)
            p += 1
        elif head >= 0xDC:  # array and map, 16 and 32
            width = 2 << (head & 1)
            left += _big_endian(p + 1, width) << (head >= 0xDE)
            p += 1 + width
        elif 0xD4 <= head <= 0xD8:  # extensions of fixed length
            p += 2 + (1 << (head - 0xD4))
        else:  # text, extension, binary: its length, for an extension a type, the body
            width = 1 << (head - (0xD9 if head >= 0xD9 else 0xC7 if head >= 0xC7 else 0xC4))
            length = _big_endian(p + 1, width)
            p += 1 + width + (0xC7 <= head <= 0xC9) + length
    return p


cdef inline const uint8_t *_map_body(const uint8_t *p, uint64_t *count) noexcept nogil:
    """Return where the first key of a map is, and how many there are; NULL if it is not a map."""
    if 0x80 <= p[0] <= 0x8F:
        count[0] = p[0] & 0x0F
        return p + 1
    if p[0] == 0xDE or p[0] == 0xDF:
        count[0] = _big_endian(p + 1, 2 << (p[0] & 1))
        return p + 1 + (2 << (p[0] & 1))
    return NULL


cdef inline const uint8_t *_text_body(const uint8_t *p, uint64_t *length) noexcept nogil:
    """Return where the bytes of a text are, and how many; NULL if it is not a text."""
    if 0xA0 <= p[0] <= 0xBF:
        length[0] = p[0] & 0x1F
        return p + 1
    if 0xD9 <= p[0] <= 0xDB:
        length[0] = _big_endian(p + 1, 1 << (p[0] - 0xD9))
        return p + 1 + (1 << (p[0] - 0xD9))
    return NULL


cdef inline uint8_t *_array_head(uint8_t *to, Py_ssize_t length) noexcept nogil:
    to[0] = 0xDD
    cdef int byte
    for byte in range(4):
        to[1 + byte] = length >> (24 - 8 * byte) & 0xFF
    return to + 5


cdef inline uint8_t *_copied(uint8_t *to, const uint8_t *p, const uint8_t *end) noexcept nogil:
    memcpy(to, p, end - p)
    return to + (end - p)


cdef uint8_t *_field(uint8_t *to, const uint8_t *p, bytes name) noexcept:
    """Copy the value of a field of a map, nil where there is none."""
    cdef uint64_t count = 0
    cdef uint64_t length = 0
    cdef uint64_t wanted = len(name)
    cdef uint8_t *after = to + 1
    cdef const uint8_t *text
    cdef const uint8_t *value
    p = _map_body(p, &count)
    to[0] = 0xC0
    while count:
        count -= 1
        value = _after(p)
        text = _text_body(p, &length)
        p = _after(value)
        if text != NULL and length == wanted and not memcmp(text, <const char *>name, length):
            after = _copied(to, value, p)  # the last of several counts
    return after


cdef inline bint _is_of(uint8_t kind, uint8_t head) noexcept nogil:
    """Whether an element that begins like this is of a kind of `columns`, in small letters."""
    if kind == c"a":
        return True
    if head == 0xC0:
        return kind == c"n" or kind == c"f"
    if kind == c"f":
        return head == 0xCA or head == 0xCB
    return head <= 0x7F or head >= 0xE0 or 0xCC <= head <= 0xD3


def columns(list blobs not None, bytes kinds not None, tuple fields not None, /):
    """Return columns of a table as one value in msgpack, or None where it has another shape.

    Each blob is a row: an array with an element of each kind, and a map at its end. The kinds are
    letters, capital ones for the columns that are returned: ``i`` an integer, ``n`` an integer or
    nil, ``f`` a float or nil, ``a`` anything. Then come columns of the fields of the maps that are
    named (in UTF-8), where what is missing is nil.
    """
    cdef Py_ssize_t count = len(blobs)
    cdef int width = len(kinds) + 1
    cdef uint8_t kind
    cdef Py_ssize_t room = 5 * (width + len(fields) + 1)
    cdef Py_ssize_t row
    cdef bint returned
    cdef int fault = 0
    cdef uint64_t entries = 0
    cdef Py_ssize_t where = 0
    cdef const uint8_t *p
    cdef const uint8_t *end
    cdef uint8_t *to
    if not 0 < width < 16 or count >= 1 << 31:
        return None
    for field in fields:
        if type(field) is not bytes:
            raise TypeError(f"fields must be bytes, not {type(field).__name__}")
    for blob in blobs:
        if type(blob) is not bytes:
            return None
        p = <const uint8_t *><const char *><bytes>blob
        if p[0] != 0x90 | width or _scan(p, len(<bytes>blob), &fault, &where) & _REFUSED:
            return None
        # A field may be named twice, and one that is missing takes a byte.
        room += len(<bytes>blob) + len(fields) * (len(<bytes>blob) + 1)
    cdef const uint8_t **at = <const uint8_t **>PyMem_Malloc((count + 1) * sizeof(uint8_t *))
    cdef uint8_t *made = <uint8_t *>PyMem_Malloc(room)
    try:
        if at == NULL or made == NULL:
            raise MemoryError
        for row in range(count):
            at[row] = <const uint8_t *><const char *><bytes>blobs[row] + 1
        to = _array_head(made, len(fields) + sum([c"A" <= kind <= c"Z" for kind in kinds]))
        for kind in kinds:
            returned = c"A" <= kind <= c"Z"
            if returned:
                kind += 32
                to = _array_head(to, count)
            for row in range(count):
                p = at[row]
                if not _is_of(kind, p[0]):
                    return None
                end = _after(p)
                if returned:
                    to = _copied(to, p, end)
                at[row] = end
        for row in range(count):
            if _map_body(at[row], &entries) == NULL:
                return None
        for field in fields:
            to = _array_head(to, count)
            for row in range(count):
                to = _field(to, at[row], field)
        return (<char *>made)[: to - made]
    finally:
        PyMem_Free(<void *>at)
        PyMem_Free(made)
