"""A codec that a third party might write: JSON, backwards."""

import json

IMPORTED = True


class ReversedCodec:
    name = "reversed"
    wire = "reversed-json"

    def encode(self, value, *, default=None):
        return json.dumps(value, default=default).encode()[::-1]

    def decode(self, data):
        return json.loads(data[::-1])


codec = ReversedCodec()
