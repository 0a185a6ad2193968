"""Types of the compiled module; ``ext/_messages.pyx`` is the source."""

from typing import Any, final

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

unavailable: str | None

@final
class Accelerated:
    @property
    def serde(self) -> JsonPlusSerializer: ...
    def dumps_typed(self, obj: Any, /) -> tuple[str, bytes]: ...
    def loads_typed(self, data: tuple[str, bytes], /) -> Any: ...

def accelerate(serde: object, /) -> Accelerated | None: ...
