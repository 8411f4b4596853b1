"""An endpoint's answer as it comes: decompressed, in lines, and no more of it than there is room for.

httpx would expand whatever it is sent, and end lines wherever Python does: within the texts of models, too.
"""

import re
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

import httpx

from jobs.errors import AttemptError, TaskError

MOST_BYTES: Final = 32 * 1024 * 1024
"""Of an answer, decompressed."""

ENCODINGS: Final = "gzip"
"""What is asked for: for Accept-Encoding."""

_GZIP: Final = 31  # zlib's word for a gzip header and trailer
_PIECE_BYTES: Final = 64 * 1024
_LINE_ENDS: Final = re.compile(rb"[\r\n]")


def invalid(why: str, *, retryable: bool = True) -> AttemptError:
    """Not what was asked for. Mostly retryable: a proxy's page or a cut answer says nothing about the next try."""
    return AttemptError(TaskError("invalid_response", f"The provider's answer {why}.", retryable=retryable))


async def whole(response: httpx.Response, most: int = MOST_BYTES) -> bytes:
    """All of it.

    Raises:
        AttemptError: invalid_response: it is longer than `most`, or compressed in another way than asked for.
    """
    return b"".join([piece async for piece in _pieces(response, most)])


async def lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Its lines, some empty ones among them: they end with LF, CR, or both. Raises like `whole`."""
    parts: list[bytes] = []
    async for piece in _pieces(response, MOST_BYTES):
        end, *starts = _LINE_ENDS.split(piece)
        parts.append(end)
        for start in starts:
            yield b"".join(parts)
            parts = [start]
    yield b"".join(parts)


async def _pieces(response: httpx.Response, most: int) -> AsyncIterator[bytes]:
    # Read as they came: httpx would first find out how all of the headers are encoded.
    encoding = next((value for name, value in response.headers.raw if name.lower() == b"content-encoding"), b"")
    encoding = encoding.strip().lower()
    if encoding not in (b"", b"identity", ENCODINGS.encode()):
        raise invalid("is compressed in a way that was not asked for")
    inflater = zlib.decompressobj(wbits=_GZIP) if encoding == ENCODINGS.encode() else None
    length = 0
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - it comes from an async transport
    async for sent in response.stream:
        for piece in _inflated(inflater, sent) if inflater else (sent,):
            length += len(piece)
            if length > most:
                raise invalid(f"is longer than {most >> 20} MB", retryable=False)
            yield piece
    if inflater and not inflater.eof:
        raise invalid("ended in the middle")


def _inflated(inflater: "zlib._Decompress", sent: bytes) -> Iterator[bytes]:
    """What it expands to, a little at a time."""
    try:
        while sent and not inflater.eof:
            yield inflater.decompress(sent, _PIECE_BYTES)
            sent = inflater.unconsumed_tail
    except zlib.error as error:
        raise invalid("cannot be decompressed") from error
