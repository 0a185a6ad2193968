# A packed list in segments, as format 2 stores it: where it is cut, and which segments are new.
#
# Only the heads of values are looked at, so a list of messages, each an extension of a known length,
# takes a step a message. In Python it was 60 times as long, more than to serialize the list.
#
# How a list is cut depends on its elements alone, not on who wrote what before: as the digits of its
# length to the base `FAN` say, greatest first, so 30 elements are segments of 16, 4, 4, 4, 1 and 1.
# A list that grows thereby keeps all but its last segments, and each element is in one of O(log n)
# segments. What would be longer than `MOST` bytes is cut as its quarters are, and so is what holds
# elements of more than `LARGE` bytes on average: to send an image twice costs more than its name.
#
# A list that loses its head as it gains a tail, a sliding window, has other segments each time. It
# costs what storing it whole does, and the names of O(log n) segments.

cdef enum:
    FAN = 4
    MOST = 1 << 24
    LARGE = 1 << 15


cdef inline uint64_t big_endian(const uint8_t *p, Py_ssize_t size) noexcept:
    cdef uint64_t number = 0
    cdef Py_ssize_t i
    for i in range(size):
        number = number << 8 | p[i]
    return number


cdef const uint8_t *after_value(const uint8_t *p, const uint8_t *end) noexcept:
    """Where the value that starts here ends; NULL if that is not within the bytes."""
    cdef Py_ssize_t owed = 1, left
    cdef bint code
    cdef uint64_t size
    cdef uint8_t head
    while owed:
        left = end - p
        if left < owed:  # each is a byte at least
            return NULL
        head = p[0]
        p += 1
        left -= 1
        owed -= 1
        size = 0
        if head <= 0x7F or head >= 0xE0 or head == 0xC0 or head == 0xC2 or head == 0xC3:
            continue
        if head <= 0x8F:
            owed += 2 * (head & 0x0F)
        elif head <= 0x9F:
            owed += head & 0x0F
        elif head <= 0xBF:
            size = head & 0x1F
        elif head == 0xC1:
            return NULL
        elif head <= 0xC9:  # bytes and extensions with 1, 2 or 4 bytes of length
            code = head >= 0xC7
            head -= 0xC7 if code else 0xC4
            if left < 1 << head:
                return NULL
            size = big_endian(p, 1 << head) + code  # the code of an extension
            p += 1 << head
        elif head <= 0xD3:  # numbers
            size = (
                4 if head == 0xCA else 8 if head == 0xCB
                else 1 << (head - 0xCC if head <= 0xCF else head - 0xD0))
        elif head <= 0xD8:  # extensions of 1, 2, 4, 8 or 16 bytes
            size = 1 + (1 << (head - 0xD4))
        elif head <= 0xDB:  # texts
            head -= 0xD9
            if left < 1 << head:
                return NULL
            size = big_endian(p, 1 << head)
            p += 1 << head
        else:  # lists and dicts with 2 or 4 bytes of length
            left = 4 if head & 1 else 2
            if end - p < left:
                return NULL
            size = big_endian(p, left)
            p += left
            owed += size if head <= 0xDD else 2 * size
            size = 0
        if size > <uint64_t>(end - p):
            return NULL
        p += size
    return p


cdef Py_ssize_t head_of_list(const uint8_t *p, Py_ssize_t size, Py_ssize_t *count) noexcept:
    """How long the head of a list is, as short as can be, and how many elements follow; or 0."""
    if size >= 1 and p[0] & 0xF0 == 0x90:
        count[0] = p[0] & 0x0F
        return 1
    if size >= 3 and p[0] == 0xDC:
        count[0] = big_endian(p + 1, 2)
        return 3 if count[0] > 15 else 0
    if size >= 5 and p[0] == 0xDD:
        count[0] = big_endian(p + 1, 4)
        return 5 if count[0] > 0xFFFF else 0
    return 0


@cython.final
cdef class Cut:
    """A packed list and where its segments end.

    Attributes:
        packed: the list.
        count: how many elements it has.
        size: how many segments.
        ends: where these end in the bytes, after where the first starts.
    """

    cdef bytes packed
    cdef Py_ssize_t count, size
    cdef Py_ssize_t *ends

    def __dealloc__(self):
        free(self.ends)

    cdef inline Py_ssize_t start(self, Py_ssize_t at) noexcept:
        """Where a segment starts, from the end of the head: lists of other lengths have others."""
        return self.ends[at] - self.ends[0]

    cdef bytes elements(self, Py_ssize_t at):
        """The bytes of one segment."""
        return PyBytes_FromStringAndSize(
            PyBytes_AS_STRING(self.packed) + self.ends[at], self.ends[at + 1] - self.ends[at])

    cdef Py_ssize_t same(self, Cut before) noexcept:
        """How many segments at the start are those of another list."""
        cdef const char *one = PyBytes_AS_STRING(self.packed) + self.ends[0]
        cdef const char *other = PyBytes_AS_STRING(before.packed) + before.ends[0]
        cdef Py_ssize_t at = 0, most = min(self.size, before.size), start
        while at < most:
            start = self.start(at)
            if self.start(at + 1) != before.start(at + 1):
                break
            if memcmp(one + start, other + start, self.start(at + 1) - start):
                break
            at += 1
        return at


cdef Cut cut(bytes packed):
    """How to cut a packed list; None where this is not exactly one with elements."""
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(packed)
    cdef Py_ssize_t size = len(packed), count = 0, i, width
    cdef Py_ssize_t head = head_of_list(start, size, &count)
    cdef const uint8_t *p = start + head
    cdef Py_ssize_t *ends
    cdef Cut made
    if not head or not count or size - head < count:
        return None
    made = Cut.__new__(Cut)
    made.ends = ends = <Py_ssize_t *>malloc((count + 1) * sizeof(Py_ssize_t))
    if ends == NULL:
        raise MemoryError
    ends[0] = head
    for i in range(count):
        p = after_value(p, start + size)
        if p == NULL:
            return None
        ends[i + 1] = p - start
    if ends[count] != size:
        return None
    made.packed = packed
    made.count = count
    i = 0
    while i < count:
        width = 1
        while i % (width * FAN) == 0 and i + width * FAN <= count:
            width *= FAN
        while width > 1 and ends[i + width] - ends[i] > min(MOST, width * LARGE):
            width //= FAN
        i += width
        made.size += 1
        ends[made.size] = ends[i]  # never after what is still read: there are no more than elements
    p = <const uint8_t *>realloc(ends, (made.size + 1) * sizeof(Py_ssize_t))
    if p != NULL:
        made.ends = <Py_ssize_t *>p
    return made


def split(bytes packed not None, bytes before=None):
    """Return how a packed list is cut, or None where this is not exactly one with elements.

    Args:
        packed: The list.
        before: Another one.

    Returns:
        How many elements there are, the bytes of the head and of each segment, and how many of the
        first ones are those of the other list.
    """
    cdef Cut found = cut(packed), other = None if before is None else cut(before)
    if found is None:
        return None
    rows = [packed[:found.ends[0]]]
    for at in range(found.size):
        rows.append(found.elements(at))
    return found.count, rows, 0 if other is None else found.same(other)


def segment_of(bytes elements not None) -> str:
    """Return the name of a segment, made of what it holds."""
    # 120 bits, of which base64 needs no padding.
    return (<bytes>b2a_base64(sha256(elements).digest()[:15], newline=False)).decode()
