# Long lists, of which only what is new is stored and sent.
#
# A conversation grows by appending, and is the largest part of nearly every thread. So a list is cut
# into segments, whose names are made of what they hold: who appends names the old ones, and sends
# the last. swarmstate.checkpoints.format describes how that is stored.
#
# Messages can be changed in place, so what is new is found by comparing bytes. A cache holds what was
# last written of each list, which saves hashing all of it, and which segments that was, which saves
# asking the store. It is never relied on: the engine tells which segments are missing.

LEAST_BYTES = 4096
"""Lists of fewer bytes stay whole: to name segments costs more than to send some messages."""

ASKED_BYTES = 16_384
"""A write's list of more bytes, of which nothing is known, is asked for before it is sent."""

cdef enum:
    SECONDS = 300
    ENTRY = 400  # bytes of what is known of a list, besides its own and those of ...
    NAME = 160  # ... each segment's name and key
    MOST_WRITTEN = 64


@cython.final
cdef class Known:
    """A channel's list as it was last written or read.

    Attributes:
        version: the channel's version; None for the lists that tasks wrote.
        parts: how many elements, and the segments, as a record names them; None: it is whole.
        fields: the keys of the segments in the store, in the same order.
        cut: its bytes, if it was written here.
    """

    cdef object version
    cdef list parts, fields
    cdef Cut cut

    cdef inline Py_ssize_t room(self) noexcept:
        return (
            ENTRY + (0 if self.cut is None else PyBytes_GET_SIZE(self.cut.packed))
            + (0 if self.parts is None else NAME * PyList_GET_SIZE(self.parts)))

    cdef bytes elements(self, str field):
        """The bytes of one segment, which must be one of these."""
        return self.cut.elements(self.fields.index(field))


cdef Known named_list(object channel, object version, list parts):
    """A list of which the names of the segments are known, or None: it is whole."""
    cdef Known one = Known.__new__(Known)
    cdef str prefix
    cdef Py_ssize_t at
    one.version = version
    one.parts = parts
    if parts is not None:
        prefix = start_of_segments(channel)
        one.fields = [prefix + <str>parts[at] for at in range(1, PyList_GET_SIZE(parts))]
    return one


cdef Known cut_list(object channel, object version, Cut found, Known known, Py_ssize_t *same):
    """A list in segments, and how many of the first ones are those of a known one."""
    cdef Known one = Known.__new__(Known)
    cdef Py_ssize_t at
    cdef str prefix = start_of_segments(channel), name
    one.version = version
    one.cut = found
    same[0] = found.same(known.cut) if known is not None and known.cut is not None else 0
    one.parts = [found.count]
    one.fields = []
    for at in range(same[0]):
        one.parts.append(known.parts[at + 1])
        one.fields.append(known.fields[at])
    for at in range(same[0], found.size):
        name = segment_of(found.elements(at))
        one.parts.append(name)
        one.fields.append(prefix + name)
    return one


@cython.final
cdef class ListCache:
    """The lists that a saver last wrote, bounded by size and by age.

    Two generations: what is used moves to the younger one, which becomes the older one when it is
    half of what is allowed, or some minutes old; then what was the older one goes. Each step is one
    call on a dict, so threads and forks need no lock.

    Args:
        most: How many bytes it may take, roughly; 0: nothing is kept.
    """

    cdef readonly Py_ssize_t most
    cdef dict young, old
    cdef Py_ssize_t size, least, asked
    cdef double since

    def __init__(self, most):
        self.most = most
        self.least, self.asked = LEAST_BYTES, ASKED_BYTES
        self.young, self.old = {}, {}
        self.since = monotonic()

    def __reduce__(self):
        # A copy of a saver may be one for another store.
        return ListCache, (self.most,)

    @property
    def kept(self) -> list:
        """How many bytes of each list are kept."""
        return [
            0 if (<Known>one).cut is None else PyBytes_GET_SIZE((<Known>one).cut.packed)
            for one in [*self.young.values(), *self.old.values()]]

    cdef Cut cut(self, object value, object blob):
        """How to cut a list, if it is one that is long enough."""
        if type(value) is not list or type(blob) is not tuple or PyTuple_GET_SIZE(<tuple>blob) != 2:
            return None
        tag, data = <tuple>blob
        if type(data) is not bytes or PyBytes_GET_SIZE(data) < self.least or tag != "msgpack":
            return None
        return cut(<bytes>data)

    cdef Known find(self, tuple key):
        """What is known of a list."""
        found = self.young.get(key)
        if found is None:
            found = self.old.get(key)
            if found is not None:
                self.note(key, <Known>found)
        return <Known>found

    cdef int note(self, tuple key, Known one) except -1:
        """Keep what is known of a list from now on."""
        cdef Known before = <Known>self.young.get(key)
        cdef Py_ssize_t size = one.room()
        if before is one:
            return 0
        if before is not None:
            if before.parts is None and one.parts is None:
                before.version = one.version
                return 0
            self.size -= before.room()
        else:
            size += len(key[0]) + len(key[1])
        now = monotonic()
        if (self.size + size) * 2 > self.most or <double>now - self.since > SECONDS:
            self.old, self.young = self.young, {}
            self.size, self.since = 0, now
            self.old.pop(key, None)
            if size * 2 > self.most:
                return 0
        self.young[key] = one
        self.size += size
        return 0

    cdef int learn(self, tuple name, dict versions, object lists, dict values) except -1:
        """Note which lists of a checkpoint that was read are in segments, and which."""
        cdef Known known
        for channel, value in values.items():
            if type(value) is list:
                key = (name[0], name[1], channel)
                known = self.find(key)
                version = versions[channel]
                if known is None or known.version != version:
                    self.note(key, named_list(channel, version, lists.get(channel)))
        return 0


@cython.final
cdef class Draft:
    """What a put stores of a checkpoint.

    Attributes:
        name: The checkpoint's.
        record: Its record; None as long as it is unsure.
        values: The values and segments to be sent, by field.
        is_unsure: Whether nothing is known of a list: then call `settle` with the parent's record.
    """

    cdef readonly tuple name
    cdef readonly object record
    cdef readonly dict values
    cdef readonly bint is_unsure
    cdef object dumps, parent, versions
    cdef ListCache cache
    cdef dict channels, lists
    cdef list stored, deltas, asked, asked_of, unknown, uncut, noted
    cdef tuple body, metadata

    cdef int gather(self, dict new, tuple before) except -1:
        """Take the values that are new, and name the others."""
        cdef dict channels = self.channels
        cdef ListCache cache = self.cache
        cdef Known known
        cdef Cut found
        cdef dict versions = as_dict(self.versions)
        for channel, version in new.items():
            if channel in channels:
                value = channels[channel]
                blob = self.dumps(value)
                if cache is not None and type(value) is list:
                    found = cache.cut(value, blob)
                    # One that is stored under a version which is not the checkpoint's stays whole.
                    if found is not None and versions.get(channel) == version:
                        known = cache.find((before[0], before[1], channel))
                        self.uncut.append((channel, found, known))
                        if known is None:
                            self.is_unsure = True
                        continue
                    self.noted.append((channel, named_list(channel, version, None)))
                self.values[field_of(channel, version)] = blob
        for channel, version in as_dict(self.versions).items():
            if channel in channels:
                self.stored.append(channel)
                now = new.get(channel)
                if now is not version and now != version:
                    if cache is None or type(channels[channel]) is not list:
                        self.asked.append(field_of(channel, version))
                        self.asked_of.append(channel)
                        continue
                    known = cache.find((before[0], before[1], channel))
                    if known is None or known.version != version:
                        self.is_unsure = True
                        self.unknown.append(channel)
                    else:
                        self.inherit(channel, version, known)
        return 0

    @property
    def inherited(self) -> list:
        """The fields that should be there already."""
        return self.asked

    cdef int inherit(self, object channel, object version, Known known) except -1:
        if known.parts is None:
            self.asked.append(field_of(channel, version))
            self.asked_of.append(channel)
        else:
            self.lists[channel] = known.parts
            self.asked += known.fields
            self.asked_of += [channel] * PyList_GET_SIZE(known.fields)
        return 0

    def settle(self, parent):
        """Decide with the record of the parent, if there is one, what is sent of which lists."""
        cdef object lists = {} if parent is None else parent.lists
        cdef object versions = {} if parent is None else parent.versions
        cdef Known known
        for channel in self.unknown:
            version = self.versions[channel]
            parts = lists.get(channel) if versions.get(channel) == version else None
            known = named_list(channel, version, parts)
            self.noted.append((channel, known))
            self.inherit(channel, version, known)
        for index in range(len(self.uncut)):
            channel, found, known = self.uncut[index]
            if known is None and channel in lists:
                known = named_list(channel, versions.get(channel), lists[channel])
                self.uncut[index] = channel, found, known
        self.is_unsure = False
        self.finish()

    cdef int finish(self) except -1:
        """Cut the lists that are new, and make the record."""
        cdef Known one, known
        cdef list asked
        for channel, found, known in self.uncut:
            asked = []
            one = new_segments(
                self.cache, self.name, channel, self.versions[channel], found, known, False,
                self.values, asked)
            self.lists[channel] = one.parts
            self.noted.append((channel, one))
            self.asked += asked
            self.asked_of += [channel] * PyList_GET_SIZE(asked)
        self.record = sc_named(CheckpointRecord, (
            self.parent, self.versions, self.stored, self.deltas, self.body, self.metadata,
            self.lists))
        return 0

    def send(self, missing):
        """Send what the store has lost, or never had."""
        cdef dict again = {}, of = dict(zip(self.asked, self.asked_of)), noted = dict(self.noted)
        cdef Known one
        cdef Cut found
        cdef Py_ssize_t same
        for field in missing:
            channel = of[field]
            one = <Known>noted.get(channel)
            if one is not None and one.cut is not None:
                self.values[field] = (ELEMENTS, one.elements(field))
            else:
                again[channel] = None
        for channel in again:
            version = self.versions[channel]
            blob = self.dumps(self.channels[channel])
            found = None
            if self.lists.pop(channel, None) is not None:
                # All of it: it may have been changed in place since it was stored.
                found = self.cache.cut(self.channels[channel], blob)
                of = {field: each for field, each in of.items() if each != channel}
            if found is None:
                field = field_of(channel, version)
                self.values[field] = blob
                of[field] = channel
                if type(self.channels[channel]) is list and self.cache is not None:
                    noted[channel] = named_list(channel, version, None)
                continue
            one = cut_list(channel, version, found, None, &same)
            noted[channel] = one
            self.lists[channel] = one.parts
            for field in one.fields:
                self.values[field] = (ELEMENTS, one.elements(field))
                of[field] = channel
        self.asked, self.asked_of = list(of), list(of.values())
        self.noted = list(noted.items())

    def done(self) -> dict:
        """Keep what was written for the next put, and return the checkpoint's config."""
        for channel, one in self.noted:
            self.cache.note((self.name[0], self.name[1], channel), <Known>one)
        return config_named(self.name[0], self.name[1], self.name[2])


def draft_of(
    config, checkpoint, metadata, new_versions, dumps, metadata_of, ListCache cache=None
) -> Draft:
    """Return what a call of ``put`` stores.

    Args:
        config: Names the checkpoint that this one continues.
        checkpoint: The checkpoint.
        metadata: Its metadata.
        new_versions: Channel -> version, for the channels that have changed.
        dumps: The serializer.
        metadata_of: Returns the metadata that is stored, from the config and the metadata.
        cache: What is known of lists; None where they stay whole.
    """
    cdef tuple before = named_by(config)
    cdef Draft draft = Draft.__new__(Draft)
    cdef dict body = {}
    checkpoint_id = as_text("the id of a checkpoint", checkpoint["id"])
    draft.name = <tuple>sc_named(CheckpointName, (before[0], before[1], checkpoint_id))
    draft.parent = before[2] or None
    draft.versions = checkpoint["channel_versions"]
    draft.channels = as_dict(checkpoint["channel_values"])
    draft.dumps, draft.cache = dumps, cache
    draft.values, draft.lists = {}, {}
    draft.stored, draft.deltas, draft.asked, draft.asked_of = [], [], [], []
    draft.unknown, draft.uncut, draft.noted = [], [], []
    draft.gather(as_dict(new_versions), before)
    for part, value in as_dict(checkpoint).items():
        if part != "channel_values" and part != "channel_versions":
            body[part] = value
    for channel in metadata.get("counters_since_delta_snapshot") or ():
        if channel not in draft.channels:
            draft.deltas.append(channel)
    draft.body, draft.metadata = dumps(body), dumps(metadata_of(config, metadata))
    if not draft.is_unsure:
        draft.finish()
    return draft


cdef Known new_segments(
    ListCache cache, tuple name, object channel, object version, Cut found, Known known,
    bint ask, dict values, list asked
):
    """A list in segments: which of them are sent, and which should be there.

    Args:
        cache: what is known of other lists.
        name: the checkpoint.
        channel: of whose value or write this is the list.
        version: the channel's; None for a write.
        found: how it is cut.
        known: what is known of the channel's value.
        ask: whether to ask for all of a long list of which nothing is known.
        values: where to add what is sent, by field.
        asked: where to add the fields of the others.
    """
    cdef Py_ssize_t same, at
    cdef Known one = cut_list(channel, version, found, known, &same), written = None
    cdef bint unknown = False
    if ask or same < found.size:
        written = cache.find((name[0], name[1], channel, ""))
    if ask:
        unknown = known is None and written is None and PyBytes_GET_SIZE(found.packed) > cache.asked
    for at in range(found.size):
        field, segment = one.fields[at], one.parts[at + 1]
        if (
            unknown or at < same
            or (known is not None and known.parts is not None and segment in known.parts)
            or (written is not None and segment in written.parts)
        ):
            asked.append(field)
        elif field not in values:
            values[field] = (ELEMENTS, found.elements(at))
    return one


@cython.final
cdef class ListWrites:
    """The segments of the lists that a task writes.

    Attributes:
        values: Those to be sent, by field.
    """

    cdef readonly dict values
    cdef dict asked

    @property
    def inherited(self) -> tuple:
        """The fields of segments that should be there already."""
        return tuple(self.asked)

    def send(self, missing):
        """Send what the store does not have."""
        for field in missing:
            self.values[field] = (ELEMENTS, (<Known>self.asked[field]).elements(field))

    cdef list add(self, ListCache cache, tuple name, object channel, Cut found):
        """Add a list, and return what stands in the write of it."""
        cdef tuple key = (name[0], name[1], channel, "")
        cdef Known known = cache.find((name[0], name[1], channel)), one, written, latest
        cdef list asked = []
        one = new_segments(cache, name, channel, None, found, known, True, self.values, asked)
        for field in asked:
            self.asked[field] = one
        written = cache.find(key)
        segments = dict.fromkeys(one.parts[1:])
        if written is not None:
            segments.update(dict.fromkeys(written.parts[1:]))
        latest = Known.__new__(Known)
        latest.parts = [0, *segments][:MOST_WRITTEN + 1]
        cache.note(key, latest)
        return one.parts
