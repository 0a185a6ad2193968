"""Semantic search: texts to vectors, and vectors to scores.

Vectors lie in the store as 32-bit floats. What was read of them is kept in this process as one
matrix of unit vectors for each LangGraph namespace, under the version that the store names, so that
a search is one product of matrix and vector. That product reads every byte of the matrix once:
10,000 vectors of 1,536 dimensions take some 8 ms, where fetching and decoding them takes 230 ms.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from langgraph.store.base import (
    IndexConfig,
    PutOp,
    ensure_embeddings,
    get_text_at_path,
    tokenize_path,
)

from swarmstate.arguments import shown
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, DecodeError
from swarmstate.items.format import labels_of
from swarmstate.items.protocol import Vectors

__all__ = ["Index", "Matrix"]

_ITEM = 4
_KEYS = ("dims", "embed", "fields", "text_fields", "distance_type")
_ELSEWHERE = ("ann_index_config", "vector_storage_type")
"""How the Postgres and Redis stores index; nothing that comes back depends on it here."""


def _numpy() -> Any:
    try:
        return import_module("numpy")
    except ImportError as error:
        raise ImportError(
            "semantic search (index=...) needs the library numpy: pip install numpy"
        ) from error


class Matrix(NamedTuple):
    """The vectors of one LangGraph namespace, ready for scoring.

    Attributes:
        version: which state of the namespace it is.
        keys: the keys of the items, each once.
        starts: the first row of each; None where each has just one.
        rows: the unit vectors.
    """

    version: int | None
    keys: list[str]
    starts: Any
    rows: Any

    @property
    def bytes(self) -> int:
        """About how much memory it takes."""
        size: int = self.rows.nbytes
        return size + sum(map(len, self.keys)) + 100 * len(self.keys)


class Index:
    """How the items of one store are indexed, and what is known of their vectors.

    Args:
        config: LangGraph's: which texts are embedded, and by what.
        cache_bytes: how much memory matrices may take between two searches.

    Raises:
        ArgumentTypeError, ArgumentValueError: a configuration that is not accepted.
        ImportError: numpy is not installed.
    """

    def __init__(self, config: IndexConfig, cache_bytes: int) -> None:
        if not isinstance(config, Mapping):
            raise ArgumentTypeError(
                f"index must be None or a dict, not {type(config).__name__} ({shown(config)})"
            )
        self._numpy = _numpy()
        dims = config.get("dims")
        if dims is not None and (isinstance(dims, bool) or not isinstance(dims, int) or dims < 1):
            raise ArgumentValueError(f"index['dims'] must be an int >= 1, not {shown(dims)}")
        embed = config.get("embed")
        if embed is None:
            raise ArgumentValueError("index['embed'] must be given: it turns texts into vectors")
        self._dims = dims
        self.embeddings = ensure_embeddings(embed)
        for key in config:
            if key not in _KEYS and key not in _ELSEWHERE:
                raise ArgumentValueError(
                    f"index has the unknown key {shown(key)}; there are {', '.join(_KEYS)}"
                )
        distance = config.get("distance_type", "cosine")
        if distance != "cosine":
            raise ArgumentValueError(
                f"index['distance_type'] must be 'cosine', not {shown(distance)}"
            )
        # The SQLite and Postgres stores call them text_fields.
        fields: Any = config.get("fields", config.get("text_fields"))
        self._paths = [_tokens(path) for path in (["$"] if fields is None else fields)]
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Matrix] = OrderedDict()
        self._size = 0

    # Texts to vectors --------------------------------------------------------------------------

    def texts(self, op: PutOp) -> list[str]:
        """Return the texts of an item that are embedded.

        Raises:
            ArgumentTypeError: the item cannot be turned into text, or ``index`` is wrong.
        """
        if op.value is None or op.index is False:
            return []
        if op.index is None:
            paths = self._paths
        elif isinstance(op.index, list | tuple):
            paths = [_tokens(path) for path in op.index]
        else:
            raise ArgumentTypeError(
                f"index must be None, False or a list of paths, not {type(op.index).__name__} "
                f"({shown(op.index)})"
            )
        try:
            return [text for path in paths for text in get_text_at_path(op.value, path)]
        except (TypeError, ValueError) as error:
            raise ArgumentTypeError(
                f"item {shown(op.key)} cannot be indexed, because it is not JSON: {error} "
                "(index=False stores it without)"
            ) from error

    def embed(
        self, texts: Iterable[str], queries: Iterable[str]
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Return the vectors of texts, as they are stored, and the unit vectors of queries."""
        texts = list(texts)
        embeddings = self.embeddings
        documents = embeddings.embed_documents(texts) if texts else []
        return self._checked(texts, documents), {
            query: self._unit(embeddings.embed_query(query)) for query in queries
        }

    async def aembed(
        self, texts: Iterable[str], queries: Iterable[str]
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Await :meth:`embed`."""
        texts, queries = list(texts), list(queries)
        embeddings = self.embeddings
        documents = await embeddings.aembed_documents(texts) if texts else []
        vectors = await asyncio.gather(*map(embeddings.aembed_query, queries))
        units = map(self._unit, vectors)
        return self._checked(texts, documents), dict(zip(queries, units, strict=True))

    def _checked(self, texts: Sequence[str], vectors: Sequence[Any]) -> dict[str, bytes]:
        if len(vectors) != len(texts):
            raise ArgumentValueError(
                f"index['embed'] returned {len(vectors)} vectors for {len(texts)} texts"
            )
        return {
            text: self._array(vector).tobytes() for text, vector in zip(texts, vectors, strict=True)
        }

    def _array(self, vector: Any) -> Any:
        numpy = self._numpy
        try:
            array = numpy.asarray(vector, dtype="<f4")
        except (TypeError, ValueError) as error:
            raise ArgumentTypeError(
                f"index['embed'] must return vectors of numbers, not {shown(vector)}"
            ) from error
        dims = self._dims
        if array.ndim != 1 or (dims is not None and len(array) != dims):
            wanted = "one dimension" if dims is None else f"{dims} numbers, as index['dims'] says"
            raise ArgumentValueError(
                f"index['embed'] must return vectors of {wanted}, not of shape {array.shape}"
            )
        if not numpy.isfinite(array).all():
            raise ArgumentValueError("index['embed'] returned a vector with NaN or infinity")
        return array

    def _unit(self, vector: Any) -> Any:
        array = self._array(vector)
        norm = self._numpy.linalg.norm(array)
        return array / norm if norm else array

    # Vectors to scores -------------------------------------------------------------------------

    def known(self, names: Sequence[str]) -> dict[str, Matrix]:
        """Return the matrices that are kept of these LangGraph namespaces, right or outdated."""
        with self._lock:
            found = {}
            for name in names:
                matrix = self._kept.get(name)
                if matrix is not None:
                    self._kept.move_to_end(name)
                    found[name] = matrix
            return found

    def matrix(self, name: str, vectors: Vectors) -> Matrix:
        """Make a matrix of what was read, and keep it as far as memory allows.

        Raises:
            DecodeError: a vector is not one.
        """
        numpy = self._numpy
        by_key = {key: several for key, several in vectors.by_key.items() if several}
        blobs: list[bytes] = []
        for key, several in by_key.items():
            if not isinstance(several, list) or not all(type(one) is bytes for one in several):
                raise DecodeError(
                    f"the vectors of item {shown(key)} of namespace {shown(labels_of(name))} are "
                    f"not in the format of vectors: {shown(several)}"
                )
            blobs += several
        sizes = {*map(len, blobs)}
        if len(sizes) > 1 or any(size % _ITEM for size in sizes):
            raise DecodeError(
                f"the vectors of namespace {shown(labels_of(name))} have different numbers of "
                f"dimensions: {', '.join(str(size / _ITEM) for size in sorted(sizes))}"
            )
        width = (sizes.pop() if sizes else 0) // _ITEM
        rows = numpy.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), width)
        norms = numpy.linalg.norm(rows, axis=1, keepdims=True)
        norms[norms == 0] = 1
        starts = None
        if len(blobs) != len(by_key):
            lengths = [len(several) for several in by_key.values()]
            starts = numpy.cumsum([0, *lengths[:-1]])
        made = Matrix(vectors.version, list(by_key), starts, rows / norms)
        self._keep(name, made)
        return made

    def _keep(self, name: str, matrix: Matrix) -> None:
        with self._lock:
            before = self._kept.pop(name, None)
            if before is not None:
                self._size -= before.bytes
            # Without a version nobody can tell whether it is still right.
            if matrix.version is None or matrix.bytes > self._cache_bytes:
                return
            self._kept[name] = matrix
            self._size += matrix.bytes
            while self._size > self._cache_bytes:
                _, dropped = self._kept.popitem(last=False)
                self._size -= dropped.bytes

    def scores(self, name: str, matrix: Matrix, query: Any) -> Any:
        """Return the score of each item of a matrix: the greatest cosine over its vectors.

        Raises:
            ArgumentValueError: the query has another number of dimensions than what is stored.
        """
        if not matrix.keys:
            return self._numpy.zeros(0, dtype="f4")
        if matrix.rows.shape[1] != len(query):
            raise ArgumentValueError(
                f"the query has {len(query)} dimensions, but what is stored in namespace "
                f"{shown(labels_of(name))} has {matrix.rows.shape[1]}: after a change of the "
                "embedding, put the items again"
            )
        scores = matrix.rows @ query
        if matrix.starts is not None:
            scores = self._numpy.maximum.reduceat(scores, matrix.starts)
        return scores

    def best(self, name: str, matrix: Matrix, query: Any, count: int) -> list[tuple[float, str]]:
        """Return the items of a matrix with the greatest scores, in any order."""
        scores = self.scores(name, matrix, query)
        if len(scores) <= count:
            chosen = range(len(scores))
        else:
            chosen = self._numpy.argpartition(scores, len(scores) - count)[-count:]
        return [(float(scores[at]), matrix.keys[at]) for at in chosen]


def _tokens(path: Any) -> Any:
    if not isinstance(path, str):
        raise ArgumentTypeError(
            f"a path to index must be a str, not {type(path).__name__} ({shown(path)})"
        )
    return path if path == "$" else tokenize_path(path)
