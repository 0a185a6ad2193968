"""A store over plain Redis or Valkey: :class:`RedisStore`, and :class:`AsyncRedisStore`."""
