# What a call of LangGraph names and hands over; swarmstate.integrations.langgraph decides what is right.


def name_of(config):
    """Return which checkpoint a config names; the id "" stands for the latest one.

    Raises:
        ArgumentTypeError, ArgumentValueError: it names none that a store can hold.
    """
    cdef dict configurable
    if type(config) is dict:
        found = (<dict>config).get("configurable")
        if type(found) is dict:
            configurable = <dict>found
            thread = configurable.get("thread_id")
            if type(thread) is str:
                checkpoint_ns = configurable.get("checkpoint_ns") or ""
                checkpoint_id = configurable.get("checkpoint_id") or ""
                if is_text(checkpoint_ns) and is_text(checkpoint_id):
                    return sc_named(CheckpointName, (thread, checkpoint_ns, checkpoint_id))
    from swarmstate.integrations.langgraph.config import unusual_name_of
    return unusual_name_of(config)


cdef inline bint is_text(object value):
    """Whether a value certainly is a str that UTF-8 can hold."""
    return type(value) is str and PyUnicode_IS_ASCII(value)


def config_of(name) -> dict:
    """Return the config that names a checkpoint."""
    thread, checkpoint_ns, checkpoint_id = name
    return {
        "configurable": {
            "thread_id": thread, "checkpoint_ns": checkpoint_ns, "checkpoint_id": checkpoint_id}}


def checkpoint_metadata(config, metadata, excluded) -> dict:
    """Return the metadata that is stored, as LangGraph's ``get_checkpoint_metadata`` makes it.

    Args:
        config: The config of the call; what it adds to the metadata are texts and numbers.
        metadata: The metadata of the call.
        excluded: The keys of the config that are left out.
    """
    cdef dict made = {}
    for key, value in metadata.items():
        made[key] = value.replace("\0", "") if isinstance(value, str) else value
    for added in (config.get("metadata"), config.get("configurable")):
        if not added:
            continue
        for key, value in added.items():
            if key in made or key in excluded or key.startswith("__"):
                continue
            if isinstance(value, str):
                made[key] = value.replace("\0", "")
            elif isinstance(value, (int, float)):
                made[key] = value
    return made


def parts_of(config, checkpoint, metadata, new_versions, dumps, metadata_of) -> tuple:
    """Return what a call of ``put`` stores.

    Args:
        config: Names the checkpoint that this one continues.
        checkpoint: The checkpoint.
        metadata: Its metadata.
        new_versions: Channel -> version, for the channels that have changed.
        dumps: The serializer.
        metadata_of: Returns the metadata that is stored, from the config and the metadata.

    Returns:
        The checkpoint's name, its record, its new values by field, and field -> channel for the
        others.
    """
    cdef dict values = {}, inherited = {}, body = {}
    cdef list stored = [], deltas = []
    thread, checkpoint_ns, parent = name_of(config)
    checkpoint_id = checkpoint["id"]
    if not is_text(checkpoint_id):
        from swarmstate.integrations.langgraph.config import text
        checkpoint_id = text("the id of a checkpoint", checkpoint_id)
    channels = checkpoint["channel_values"]
    versions = checkpoint["channel_versions"]
    for channel, version in new_versions.items():
        if channel in channels:
            values[field_of(channel, version)] = dumps(channels[channel])
    for channel, version in versions.items():
        if channel in channels:
            stored.append(channel)
            if new_versions.get(channel) != version:
                inherited[field_of(channel, version)] = channel
    for part, value in checkpoint.items():
        if part != "channel_values" and part != "channel_versions":
            body[part] = value
    for channel in metadata.get("counters_since_delta_snapshot") or ():
        if channel not in channels:
            deltas.append(channel)
    return (
        sc_named(CheckpointName, (thread, checkpoint_ns, checkpoint_id)),
        sc_named(CheckpointRecord, (
            parent or None, versions, stored, deltas, dumps(body),
            dumps(metadata_of(config, metadata)))),
        values, inherited)
