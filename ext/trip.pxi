# A batch on its way: what goes to which place, and with whom it shares a connection.

cdef frozenset READS = frozenset((
    "EXISTS", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSCAN", "HSTRLEN", "PTTL",
    "SCAN", "TOUCH", "TYPE", "ZCARD", "ZRANGE", "ZRANGEBYLEX", "ZREVRANGE", "ZREVRANGEBYLEX",
))


cdef class Batch:
    """Commands for one round trip (on a cluster: one per node, at the same time).

    The replies come back in the order of the commands. The first command that the server refused
    raises :class:`~swarmstate.backends.redis.commands.CommandRefused` at the ``yield`` instead;
    unless the batch is atomic, the others were carried out all the same.

    Args:
        commands: what to send.
        atomic: carried out as a whole or not at all, with nothing in between, by MULTI and EXEC;
            on a cluster that holds for the commands of each slot.
        idempotent: may be sent again when the connection broke before the reply was there, because
            carrying it out twice does no harm. Without it the outcome is then unknown to the
            caller, and StoreUnavailable says so. What provably was not carried out is always sent
            again.
        everywhere: send to every primary node of a cluster; each reply is then a list with one
            entry per node, also on a single server.
        ignore: codes of errors that stand for None, such as WRONGTYPE for a key that is
            another program's.
        inline: from here on the call calls functions of the caller's, which expect its thread: if
            awaited it never goes on in another one, however large the replies are.
        part: one of many parts of a long work, each of which may take as long as a call.
        then: what follows from the replies, for commands that begin with WATCH: is given the
            replies and returns commands, or None for nothing to do. These are sent as a transaction
            on the same connection, which nobody else uses meanwhile. The replies to the batch are
            then those to the transaction: none where there was nothing to do, and None instead of a
            list where a watched key has changed. ``idempotent`` is about what comes before: the
            transaction is never sent again.
    """

    cdef readonly object commands, ignore, then
    cdef readonly bint atomic, idempotent, everywhere, inline, part

    def __init__(
        self, commands, bint atomic=False, bint idempotent=False, bint everywhere=False, ignore=(),
        bint inline=False, bint part=False, then=None,
    ):
        self.commands = commands
        self.atomic = atomic
        self.idempotent = idempotent
        self.everywhere = everywhere
        self.ignore = ignore
        self.inline = inline
        self.part = part
        self.then = then

    @property
    def reads(self):
        """Whether it certainly changes nothing; of a script that is not known."""
        for command in self.commands:
            if command[0] not in READS:
                return False
        return True

cdef class Job:
    """A batch on its way, and how it came out.

    Attributes:
        replies: one per command, once it is settled.
        error: why the batch failed, if it did.
        deadline: when it is given up, by the monotonic clock.
        units: its parts, as long as a task waits for them; each goes to one place.
        given_up: whether nobody waits for it any more.
        done: called with the job when it has come out.
        future: what the task awaits that it belongs to.
    """

    cdef readonly Batch batch
    cdef readonly object operation
    cdef public double deadline
    cdef public list replies
    cdef public object error, units, done, future
    cdef public bint given_up
    cdef list left
    cdef double paused

    def __init__(self, Batch batch not None, operation, double deadline):
        self.batch = batch
        self.operation = operation
        self.deadline = deadline
        self.replies = [None] * len(batch.commands)
        self.units = ()

    def divide(self, Py_ssize_t parts):
        """Learn of how many parts the job is, before any of them is under way."""
        self.left = [True, *[False] * (parts - 1)]

    cpdef settle(self, error=None):
        """Count a unit that is through, and tell whoever waits, once, when all are."""
        if error is not None and self.error is None:
            self.error = error
        # Units settle in several threads: whoever takes the last entry knows that all are.
        if (self.left is None or self.left.pop()) and self.done is not None:
            self.done(self)

    def pause(self, double now, double until):
        """Put a pause on top of the time that the job has; one of all its units is one pause."""
        if until > self.paused:
            self.deadline += until - max(now, self.paused)
            self.paused = until


cdef class Unit:
    """Commands of one job that go to one place.

    Attributes:
        indexes: which of the job's commands.
        chunks: what to send, once it is packed.
        size: how many bytes that was.
        expected: how many replies there will be.
        replies: those that have come.
        slot: the slot they belong to, if they have keys.
        part: which entry of an ``everywhere`` reply this unit fills.
        node: where to send instead of where the slot says.
        asking: send ASKING first, as a node asked for that takes over a slot.
        source: send scripts as text.
        failures: how often the connection broke, or led to the wrong server.
        delays: how often the server had no time, or another one to send us to.
        not_before: when to try again, by the monotonic clock.
        settled: whether it has come out, or was given up.
        suspect: whether it was on a connection that broke, and may be why.
        doubled: whether it was looked at for asking for the same twice.
        taught: the scripts that the server will have afterwards.
        more: what followed from the replies, see :class:`Batch`; () for nothing.
        decided: whether that is more than the end of what was begun.
        trip: what it travels with, from before it is sent until its replies are there.
    """

    cdef readonly Job job
    cdef public object indexes, slot, part, node, taught, more
    cdef public list chunks, replies
    cdef public Py_ssize_t size, expected, failures, delays
    cdef public bint asking, source, settled, suspect, doubled, decided
    cdef public double not_before
    cdef public Trip trip

    def __init__(self, Job job not None, indexes, slot=None):
        self.job = job
        self.indexes = indexes
        self.slot = slot
        self.replies = []
        self.more = ()
        # EVALSHA in a transaction could fail after its neighbours were carried out.
        self.source = job.batch.atomic

    @property
    def under_way(self):
        """Whether it was sent, and its reply has not come."""
        return self.trip is not None and self in self.trip.unread

    @property
    def share(self):
        """What an error text says of a part of a job; the others come out by themselves."""
        whole = len(self.indexes) == len(self.job.batch.commands)
        return "" if whole else " for a part of the call"

    @property
    def repeatable(self):
        """Whether it may be sent again without knowing whether it was carried out."""
        return self.job.batch.idempotent and not self.decided

    def command(self, Py_ssize_t index):
        """Return a command of the job, or of what followed."""
        commands = self.job.batch.commands
        return commands[index] if index < len(commands) else self.more[index - len(commands)]

    def follow(self, commands):
        """Take what follows from the replies, and return what is sent."""
        self.decided = bool(commands)
        # An empty transaction ends WATCH as UNWATCH does, which fewer users may call.
        self.more = (("MULTI",), *(commands or ()), ("EXEC",))
        if self.asking:
            self.more = (("ASKING",), *self.more)
        chunks = packed(self.more, False)
        self.expected += len(self.more)
        return chunks

    cpdef settle(self, error=None):
        """Tell the job how this part came out; again does nothing."""
        if not self.settled:
            self.settled = True
            self.job.settle(error)

    cpdef bint pack(self, known) except -1:
        """Make what is sent; return whether that was possible. If not, the job has failed.

        Args:
            known: the scripts that the server has; others are sent as text.
        """
        cdef list chunks, unknown = []
        cdef Batch batch = self.job.batch
        commands = batch.commands
        if len(self.indexes) != len(commands):
            commands = [commands[index] for index in self.indexes]
        if batch.atomic and len(commands) > 1:
            commands = [("MULTI",), *commands, ("EXEC",)]
        if self.asking:
            # It holds for the next command, or for all of a transaction.
            if batch.atomic or len(commands) == 1:
                commands = [("ASKING",), *commands]
            else:
                commands = [part for command in commands for part in (("ASKING",), command)]
        for command in commands:
            head = command[0]
            if is_script(head) and head not in known:
                unknown.append(head)
        if unknown:
            self.taught = unknown
            self.source = True
        try:
            chunks = packed(commands, self.source)
        except Exception as error:  # what is wrong with it is its caller's to hear
            if isinstance(error, UnicodeEncodeError):
                text = f"{shown(error.object)} cannot be sent to a server: {error.reason}"
                self.settle(ArgumentValueError(text))
            else:
                self.settle(error)
            return False
        self.chunks = chunks
        self.size = len(<bytes>chunks[0])
        if len(chunks) > 1:
            self.size = sum(map(len, chunks))
        self.expected = len(commands)
        self.more = ()
        self.decided = False
        self.replies = []
        return True


cdef class Trip:
    """One connection's part of a round.

    Attributes:
        node: where it goes.
        guard: what is known of the server there.
        units: what it carries.
        unread: those whose replies have not come, once they are under way; the next one is last.
        connection: while it is under way.
        peer: who the connection is at the server.
    """

    cdef readonly object node, guard
    cdef public list units, unread
    cdef public object connection
    cdef public Peer peer
    cdef bint hurried
    # Where another thread may end a trip early, it must not end what comes after it.
    cdef object lock

    def __init__(self, node, guard, list units not None, lock=None):
        self.node = node
        self.guard = guard
        self.units = units
        self.unread = []
        self.lock = lock

    @property
    def deadline(self):
        """When the first of those that still wait for it is given up."""
        return self.until()

    cdef double until(self) except? -1.0:
        cdef double soonest = 0.0
        cdef bint found = False
        for unit in self.units:
            if not (<Unit>unit).settled or len(self.units) == 1:
                if not found or (<Unit>unit).job.deadline < soonest:
                    soonest = (<Unit>unit).job.deadline
                    found = True
        return soonest

    @property
    def writes(self):
        """Whether something that is under way may change the server."""
        for unit in self.unread:
            if not (<Unit>unit).job.batch.reads:
                return True
        return False

    cpdef hurry(self, double seconds):
        """Wait for the next bytes no longer than this."""
        if self.peer is not None:
            self.hurried = True
            self.peer.socket.settimeout(max(seconds, 0.001))
            self.peer.wait(max(seconds, 0.001))

    def leave(self):
        """Use no connection to this server again: it is not the right one, or will not be soon."""
        if self.peer is not None and self.peer.era == self.guard.era:
            self.guard.era += 1

    def break_off(self):
        """Have the thread that waits for replies find the connection closed."""
        with self.lock or threading.Lock():
            if self.connection is not None and self.peer is not None:
                self.peer.shut_down()

    cpdef end(self):
        """Give the connection back, closed unless every reply was read; again does nothing."""
        cdef Peer peer = self.peer
        if self.unread and peer is not None and self.writes:
            # First of all, so that no interrupt comes before it.
            self.guard.lose(peer)
        if self.lock is None:
            connection, self.connection = self.connection, None
        else:
            with self.lock:
                connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.unread or (peer is not None and peer.era != self.guard.era):
            connection.disconnect()
        elif self.hurried and peer is not None:
            peer.socket.settimeout(peer.timeout)
            peer.wait(peer.timeout)
        for unit in self.units:
            (<Unit>unit).trip = None
        self.unread.clear()
        self.node.release(connection)
