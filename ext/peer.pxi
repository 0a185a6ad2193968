# A connection: who it is at its server, and how to write on it and read from it.

cdef object SEND = _socket.socket.sendall
cdef object RECEIVE = _socket.socket.recv_into

# How many seconds pass before signals are looked for again. One that arrives right before a wait
# does not end it, and one that another thread was given never does.
cdef double HEED = 0.1


cdef class Peer:
    """A connection as its server knows it, for as long as its socket is the same.

    Attributes:
        socket: the socket.
        identity: how the server knows the connection; None where it does not tell.
        era: of the server's, see :class:`~swarmstate.backends.redis.transport.fence.Guard`.
        timeout: how long the socket waits, as its client has set it.
        fenced: whether it was closed at the server's end.

    Args:
        parser: the library's, where replies may be read through it alone.
    """

    cdef readonly object socket, identity
    cdef readonly Py_ssize_t era
    cdef readonly object timeout
    cdef public bint fenced
    cdef object gets, feed, has_data, nothing, pending
    cdef bytearray buffer
    # Of a plain socket, for the system's own calls: through Python's they take twice as long.
    cdef int file
    cdef bint plain
    cdef double patience

    def __init__(self, socket, identity, Py_ssize_t era, parser=None):
        self.socket = socket
        self.identity = identity
        self.era = era
        self.timeout = socket.gettimeout()
        self.file = socket.fileno()
        self.wait(self.timeout)
        if parser is not None:
            reader = parser._reader
            # Not one of TLS, nor one that a library has replaced so that it waits its own way.
            self.plain = type(socket).sendall is SEND and type(socket).recv_into is RECEIVE
            self.pending = getattr(socket, "pending", None)
            self.buffer = parser._buffer
            self.feed = reader.feed
            self.has_data = reader.has_data
            # What it returns as long as a reply is not complete.
            self.nothing = reader.gets()
            self.gets = reader.gets

    def shut_down(self):
        """End the connection under whoever waits for it, in another thread."""
        with contextlib.suppress(OSError):
            # Not the method of a TLS socket, which first takes its state apart.
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    cdef object wait(self, seconds):
        """Wait no longer than this for a plain socket; None: for good."""
        self.patience = -1.0 if seconds is None else seconds

    cpdef bint silent(self) except -1:
        """Return whether a connection is open and has nothing to read; False if that is unknown."""
        if self.gets is None or self.has_data():
            return False
        if self.pending is not None and self.pending():
            return False
        return sr_poll(self.file, False, 0.0) == 0

    cdef object write(self, bytes data):
        """Send some bytes; raises as the socket's ``sendall`` does."""
        cdef const char *at = PyBytes_AS_STRING(data)
        cdef Py_ssize_t left = len(data), done
        if not self.plain:
            self.socket.sendall(data)
            return
        while left:
            with nogil:
                done = sr_send(self.file, at, left)
            if done >= 0:
                at += done
                left -= done
            elif sr_again(done):
                self.stand_by(True)
            else:
                raise OSError(-done, os.strerror(-done))

    cdef Py_ssize_t receive(self) except -1:
        """Read some bytes into the buffer; raises as the socket's ``recv_into`` does."""
        cdef char *to = PyByteArray_AS_STRING(self.buffer)
        cdef Py_ssize_t size = len(self.buffer), done
        if not self.plain:
            return self.socket.recv_into(self.buffer)
        while True:
            self.stand_by(False)
            with nogil:
                done = sr_receive(self.file, to, size)
            if done >= 0:
                return done
            if not sr_again(done):
                raise OSError(-done, os.strerror(-done))

    cdef int stand_by(self, bint to_write) except -1:
        """Wait until a plain socket can be written or read."""
        cdef double left = self.patience, end = sr_now() + left, turn
        cdef Py_ssize_t ready
        while True:
            turn = left if 0 <= left < HEED else HEED
            with nogil:
                ready = sr_poll(self.file, to_write, turn)
            if ready > 0:
                return 0
            if ready < 0 and not sr_again(ready):
                raise OSError(-ready, os.strerror(-ready))
            # What a handler raises ends the wait; another signal does not begin it again.
            PyErr_CheckSignals()
            if left >= 0:
                left = end - sr_now()
                if left <= 0:
                    raise TimeoutError("timed out")

    cdef object read(self):
        """Return the next reply; an error that the server sent is a value like any other.

        After a timeout it can be called again: what has arrived is kept.
        """
        cdef Py_ssize_t size
        reply = self.gets()
        while reply is self.nothing:
            size = self.receive()
            if size == 0:
                raise ConnectionError("Connection closed by server.")
            self.feed(self.buffer, 0, size)
            reply = self.gets()
        return reply
