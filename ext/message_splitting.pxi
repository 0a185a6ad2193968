# Packed lists into segments, for the saver's format 2: lists that are stored once.
#
# Only the heads of values are looked at, so a list of messages, each an extension of a known length,
# takes a step a message. In Python it was 60 times as long, more than to serialize the list.
#
# How a list is cut depends on its elements alone, not on who wrote what before: as the digits of its
# length to the base `FAN` say, greatest first, so 30 elements are segments of 16, 4, 4, 4, 1 and 1.
# A list that grows thereby keeps all but its last segments, and each element is in one of O(log n)
# segments. What would be longer than `MOST` bytes is cut as its quarters are, and so is what holds
# elements of more than `LARGE` bytes on average: to send an image twice costs more than its name.

cdef enum:
    FAN = 4
    MOST = 1 << 24
    LARGE = 1 << 15


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
            size = lm_load(p, 1 << head) + code  # the code of an extension
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
            size = lm_load(p, 1 << head)
            p += 1 << head
        else:  # lists and dicts with 2 or 4 bytes of length
            left = 4 if head & 1 else 2
            if end - p < left:
                return NULL
            size = lm_load(p, left)
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
        count[0] = lm_load(p + 1, 2)
        return 3 if count[0] > 15 else 0
    if size >= 5 and p[0] == 0xDD:
        count[0] = lm_load(p + 1, 4)
        return 5 if count[0] > 0xFFFF else 0
    return 0


def split(bytes packed not None, /):
    """Return where the segments of a packed list end, or None where this is not a packed list
    with elements.

    Returns:
        How many elements there are, how long the head is, and a tuple of ends in the bytes.
    """
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(<PyObject *>packed)
    cdef Py_ssize_t size = size_of(<PyObject *>packed), count = 0, i, width
    cdef Py_ssize_t head = head_of_list(start, size, &count)
    cdef const uint8_t *p = start + head
    cdef Py_ssize_t *ends
    if not head or not count or size - head < count:
        return None
    ends = <Py_ssize_t *>realloc(NULL, (count + 1) * sizeof(Py_ssize_t))
    if ends == NULL:
        raise MemoryError
    try:
        ends[0] = head
        for i in range(count):
            p = after_value(p, start + size)
            if p == NULL:
                return None
            ends[i + 1] = p - start
        if ends[count] != size:
            return None
        found = []
        i = 0
        while i < count:
            width = 1
            while i % (width * FAN) == 0 and i + width * FAN <= count:
                width *= FAN
            while width > 1 and ends[i + width] - ends[i] > min(MOST, width * LARGE):
                width //= FAN
            i += width
            found.append(ends[i])
        return count, head, tuple(found)
    finally:
        free(ends)


def unchanged(bytes packed not None, tuple ends not None, Py_ssize_t head,
              bytes before not None, tuple ends_before not None, Py_ssize_t head_before, /):
    """Return how many segments at the start of a packed list are those of another one."""
    cdef const char *one = PyBytes_AS_STRING(<PyObject *>packed)
    cdef const char *other = PyBytes_AS_STRING(<PyObject *>before)
    cdef Py_ssize_t i = 0, at = 0, end, most = min(len(ends), len(ends_before))
    while i < most:
        end = <Py_ssize_t>ends[i] - head
        if end != <Py_ssize_t>ends_before[i] - head_before:
            break
        if end > size_of(<PyObject *>packed) - head or end > size_of(<PyObject *>before) - head_before:
            break
        if memcmp(one + head + at, other + head_before + at, end - at):
            break
        at = end
        i += 1
    return i
