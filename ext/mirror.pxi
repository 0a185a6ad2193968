# What a store that lies elsewhere holds, in memory, for the sake of its snapshots.


@cython.final
cdef class Mirror:
    # The first line is the signature that `inspect` and `help` read; of a class Cython writes none.
    """Mirror(values, *, codec='msgpack')\n--\n\n\
The encoded content of a store that lies elsewhere, for those who write a store.

    Its snapshots share all that has not changed between them, as those of a :class:`Store` do. Who
    keeps it tells it every change, and uses it from one thread at a time.

    Args:
        values: namespace -> key -> encoded value, as dicts. The bytes are not trusted: they are
            checked when they are decoded.
        codec: the name of the codec that decodes them.

    Raises:
        InvalidArgumentError: names or values of the wrong type.
        UnknownCodecError: there is no such codec.

    Cost: O(number of keys).
    """

    cdef Live live
    cdef Decoder decoder

    def __init__(self, values, *, codec="msgpack"):
        cdef Decoder decoder = new_decoder(codec)
        self.decoder = decoder
        self.live = Live()
        self.live.trusted = False
        for namespace, entries in values.items():
            self.write([(namespace, key, data) for key, data in entries.items()])

    def write(self, changes):
        """Take over what has changed, as (namespace, key, encoded value or None for none) triples.

        Raises:
            InvalidArgumentError: names or values of the wrong type; those before are taken over.

        Cost: O(their number).
        """
        for namespace, key, data in changes:
            space, name = as_namespace(namespace), as_key(key)
            if data is None:
                self.live.drop(space, name)
            elif type(data) is bytes:
                self.live.put(space, name, data)
            else:
                raise ArgumentTypeError(
                    f"{place(space, name)} must be bytes or None, not {type(data).__name__}")

    def freeze(self, parent=None):
        """Return a snapshot of the content. O(1).

        Args:
            parent: the id of the snapshot taken before from the same store, if any.
        """
        cdef Snapshot taken = new_snapshot(self.decoder)
        self.live.freeze(taken, 0 if parent is None else parent)
        return taken

    def changes_to(self, snapshot):
        """Return what would have to be written so that the content became that of a snapshot.

        Returns:
            Triples as :meth:`write` takes them; None for a snapshot that this did not make.

        Cost: O(what has changed since the snapshot).
        """
        cdef Snapshot target
        cdef dict log
        cdef PyObject *found
        cdef bint was_enabled
        if not isinstance(snapshot, Snapshot) or (<Snapshot>snapshot).live is not self.live:
            return None
        target = <Snapshot>snapshot
        was_enabled = PyGC_Disable()
        try:
            log = gather(target, None)
        finally:
            if was_enabled:
                PyGC_Enable()
        if log is None:
            return None
        found_changes = []
        for namespace, entries in log.items():
            for key, old in (<dict>entries).items():
                found = lookup(self.live.spaces, namespace, key)
                if (<object>found if found != NULL else None) != old:
                    found_changes.append((namespace, key, old))
        return found_changes

    @property
    def held(self) -> bool:
        """Whether a snapshot of it is held by anyone."""
        return self.live.head != NULL
