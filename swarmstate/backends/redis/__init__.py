"""A store over plain Redis or Valkey: :class:`RedisStore`, and :class:`AsyncRedisStore`."""

from swarmstate.backends.redis.store import AsyncRedisStore, RedisStore

__all__ = ["AsyncRedisStore", "RedisStore"]
