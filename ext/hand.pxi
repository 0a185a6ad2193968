# Connections of a pool that are at hand: taking one and giving it back are part of every call.

cdef class AtHand:
    """The part of a pool that every call goes through.

    Attributes:
        stock: the connections, see :mod:`swarmstate.backends.redis.transport.stock`.
        epoch: something new whenever connections become obsolete.
        process: in which process the pool is, by :data:`swarmstate.forks.here`.
        pid: the same, by the operating system.
        closed: whether connections are closed as they come back.
    """

    cdef public object stock, epoch, process, pid
    cdef public bint closed

    cpdef ready(self):
        """Return a connection that is connected and has nothing to say, if one is at hand."""
        cdef Peer peer
        stock = self.stock
        if self.process != here.process or stock.line:
            return None
        try:
            connection = stock.idle.pop()
        except IndexError:
            return None
        try:
            peer = connection.swarmstate_peer
            if (
                peer is not None
                and connection.swarmstate_epoch is self.epoch
                and connection._sock is peer.socket
                and peer.silent()
            ):
                return connection
        except BaseException:  # an interrupt: whoever keeps it must not keep the connection
            connection.disconnect()
            self.release(connection)
            raise
        stock.release(connection)
        return None

    cpdef release(self, connection):
        """Take a connection back; one of a parent process is closed."""
        stock = self.stock
        if self.process != here.process or connection.pid != self.pid:
            connection.disconnect()
            return
        if self.closed:
            connection.disconnect()
        stock.idle.append(connection)
        if stock.line:
            stock.serve()
