# Commands in the wire format (RESP), written in one pass.


# Values from here on are not copied once more.
cdef Py_ssize_t CHUNK = 64 * 1024


cdef inline bint is_script(object head) except -1:
    kind = type(head)
    return kind is not str and kind is not bytes and hasattr(head, "sha")


cdef str name_of(object command):
    head = command[0]
    if is_script(head):
        return "EVALSHA"
    return head.decode() if isinstance(head, bytes) else str(head)


cdef object plain(object argument, object command):
    """Return an argument as bytes, or as text that is ASCII."""
    kind = type(argument)
    if kind is str:
        return argument if PyUnicode_IS_ASCII(argument) else (<str>argument).encode()
    if kind is int:
        return b"%d" % argument
    if isinstance(argument, str):
        return str.encode(argument)
    if isinstance(argument, bytes | bytearray):
        return bytes(argument)
    raise ArgumentTypeError(
        f"{name_of(command)} takes bytes, str or int, not {type(argument).__name__} "
        f"({shown(argument)})"
    )


cdef inline Py_ssize_t length_of(object part):
    return len(<bytes>part) if type(part) is bytes else PyUnicode_GET_LENGTH(part)


cdef inline Py_ssize_t digits_of(Py_ssize_t number) noexcept:
    cdef Py_ssize_t digits = 1
    while number >= 10:
        number //= 10
        digits += 1
    return digits


cdef inline char *put_length(char *at, char kind, Py_ssize_t number) noexcept:
    """Write `$5\r\n` or `*5\r\n`, and return where it ends."""
    cdef Py_ssize_t digits = digits_of(number), place
    at[0] = kind
    for place in range(digits, 0, -1):
        at[place] = <char>(48 + number % 10)
        number //= 10
    at[digits + 1] = 13
    at[digits + 2] = 10
    return at + digits + 3


def pack(object commands, *, bint source=False):
    """Return the commands in the wire format, in chunks that are worth a system call each.

    Args:
        commands: the commands; a script becomes EVALSHA, or EVAL with ``source``.
        source: send the text of scripts instead of their hash.

    Raises:
        ArgumentTypeError: what cannot be an argument of a command.
        UnicodeEncodeError: text with a lone surrogate.
    """
    return packed(commands, source)


cdef list packed(object commands, bint source):
    # The number of a command's arguments, then these as bytes or ASCII text, command by command.
    cdef list parts = []
    for command in commands:
        parts.append(len(command))
        head = command[0]
        if is_script(head):
            parts[len(parts) - 1] += 1
            parts += (b"EVAL", head.source) if source else (b"EVALSHA", head.sha)
        else:
            parts.append(head if type(head) is bytes else plain(head, command))
        for argument in command[1:]:
            if type(argument) is not bytes:
                argument = plain(argument, command)
            parts.append(argument)
    return chunks_of(parts)


cdef list chunks_of(list parts):
    """Return what is to be sent: one piece, but for large values, which go out uncopied."""
    cdef list chunks = []
    cdef Py_ssize_t at = 0, count = len(parts), stop, size, length
    cdef bytes chunk
    cdef char *to
    cdef bint pending = False
    while at < count or pending:
        # As far as the next large value, whose length still belongs to this chunk.
        size = 2 if pending else 0
        stop = at
        length = 0
        while stop < count:
            part = parts[stop]
            stop += 1
            if type(part) is int:
                size += digits_of(part) + 3
                continue
            length = length_of(part)
            size += digits_of(length) + 3
            if length >= CHUNK:
                break
            size += length + 2
        chunk = PyBytes_FromStringAndSize(NULL, size)
        to = PyBytes_AS_STRING(chunk)
        if pending:
            to[0] = 13
            to[1] = 10
            to += 2
            pending = False
        while at < stop:
            part = parts[at]
            at += 1
            if type(part) is int:
                to = put_length(to, 42, part)
                continue
            length = length_of(part)
            to = put_length(to, 36, length)
            if length >= CHUNK:
                pending = True
                break
            if type(part) is bytes:
                memcpy(to, PyBytes_AS_STRING(part), length)
            else:
                memcpy(to, PyUnicode_DATA(part), length)
            to[length] = 13
            to[length + 1] = 10
            to += length + 2
        chunks.append(chunk)
        if pending:
            chunks.append(part if type(part) is bytes else (<str>part).encode())
    return chunks
