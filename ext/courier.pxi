# The way there and back, for as long as nothing goes wrong.

cdef class Courier:
    """Carries trips out; what to do when something goes wrong is for a subclass to say.

    That has `split` and `round` for what goes to several places, `complete` for what must be sent
    again, `write` for requests in several pieces, `unsent` and `broken` for trips that failed,
    `overdue` for replies that do not come, `sort` for replies that are not one plain value, and
    `follow` for what depends on replies.

    Args:
        only: the one server and what is known of it; None on a cluster.
        failures: what a connection that breaks raises.
        timeout: how long a reply, or more of it, is waited for, in seconds.
        read: returns the next reply of a connection whose client must not be passed by.
    """

    cdef readonly tuple failures
    cdef readonly double timeout
    cdef object read
    cdef tuple only

    def __init__(self, tuple only, tuple failures not None, double timeout, read):
        self.only = only
        self.failures = failures
        self.timeout = timeout
        self.read = read

    def perform(self, Job job not None):
        """Carry one job out, blocking until it is settled."""
        cdef Batch batch = job.batch
        if self.only is None or batch.everywhere or not batch.commands:
            again = self.round(self.split(job))
        else:
            node, guard = self.only
            again = self.carry(Trip(node, guard, [Unit(job, range(len(batch.commands)))]))
        if again:
            self.complete(again)

    cpdef list carry(self, Trip trip):
        """Carry out what one trip has, and return the units that must try again."""
        cdef list again = []
        try:
            self.send(trip, again)
            if trip.unread:
                self.receive(trip, again)
        finally:
            trip.end()
        return again

    cpdef send(self, Trip trip, list again):
        """Send what a trip carries; what must try again is added to a list."""
        cdef list units = [], chunks = []
        cdef Unit unit
        cdef Peer peer
        for each in trip.units:
            unit = each
            unit.trip = trip
            if unit.chunks is not None or unit.pack(trip.guard.scripts):
                units.append(unit)
        if not units:
            return
        trip.units = units
        cdef double deadline = trip.until()
        try:
            peer = self.board(trip, deadline)
            trip.unread = units[::-1]
            for each in units:
                unit = each
                if unit.job.given_up:
                    # Nobody waits for it. What is given up from now on has been sent.
                    trip.unread.remove(unit)
                    unit.trip = None
                    unit.settle()
                else:
                    chunks += unit.chunks
                unit.chunks = None
            if len(chunks) == 1 and len(<bytes>chunks[0]) <= CHUNK:
                peer.write(chunks[0])
            elif chunks:
                self.write(peer.socket, chunks, deadline)
        except self.failures as error:
            self.unsent(trip, error, again)

    cdef Peer board(self, Trip trip, double deadline):
        """Get the trip a connection on which it may write, and return who that is."""
        cdef Peer peer
        guard = trip.guard
        node = trip.node
        if guard.loose or guard.adrift:
            guard.clear(node, min(deadline, monotonic() + self.timeout))
        while True:
            # First the trip's, which gives it back: an exception that is kept also keeps what has
            # a name here.
            trip.connection = node.ready()
            if trip.connection is None:
                trip.connection = node.acquire(deadline)
            peer = getattr(trip.connection, "swarmstate_peer", None)
            if peer is None or peer.socket is not getattr(trip.connection, "_sock", None):
                peer = guard.meet(trip.connection)
            trip.peer = peer
            if peer.era == guard.era:
                break
            # It leads to where the server was before.
            trip.end()
        cdef double seconds = min(deadline - monotonic(), self.timeout)
        if peer.timeout is None or peer.timeout > 1.01 * seconds:
            trip.hurry(seconds)
        return peer

    cpdef receive(self, Trip trip, list again):
        """Read the replies to what a trip has sent, and settle them."""
        cdef list unread = trip.unread, replies
        cdef Peer peer = trip.peer
        cdef Unit unit
        try:
            while unread:
                unit = unread[len(unread) - 1]
                replies = unit.replies
                try:
                    while len(replies) < unit.expected:
                        if peer.gets is None:
                            replies.append(self.read(trip.connection))
                        else:
                            replies.append(peer.read())
                        if (
                            unit.job.batch.then is not None
                            and len(replies) == unit.expected and not unit.more
                        ):
                            self.follow(unit, trip)
                except self.failures as error:
                    if not self.overdue(trip, error):
                        raise
                    continue
                unread.pop()
                unit.trip = None
                if not unit.settled:
                    self.take(unit, trip, again)
        except self.failures as error:
            self.broken(trip, error, again)

    cdef object take(self, Unit unit, Trip trip, list again):
        """Settle a unit whose replies are all there, or have it sent again."""
        cdef list replies = unit.replies
        cdef Job job = unit.job
        if unit.taught:
            trip.guard.scripts.update(unit.taught)
        # Most units are of one command.
        if len(replies) == 1 and unit.part is None and not isinstance(replies[0], Exception):
            job.replies[unit.indexes[0]] = replies[0]
            unit.settle()
        else:
            self.sort(unit, trip, again)
