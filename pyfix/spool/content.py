"""A message's content, read from its queue file's descriptor; all that a delivery agent knows of the spool."""

from collections.abc import Iterator

from pyfix.spool.record import EXTRACTED, CorruptFile, RecordReader

CHUNK_SIZE = 65536


def read_content(descriptor: int, content_offset: int, chunk_size: int = CHUNK_SIZE) -> Iterator[bytes]:
    """The content in chunks of about ``chunk_size`` bytes, lines ended by LF, never an empty chunk.

    Chunks end at line ends, but for lines longer than Postfix's line_length_limit, which may be cut. The descriptor is
    not moved, so it may be shared. Memory is bounded by the chunk. Raises CorruptFile, also when the file ends before
    the content does: only a reader who came to the end of this iterator has seen the whole message. Raises OSError.
    """
    reader = RecordReader(descriptor, content_offset)
    while chunk := reader.read_text(chunk_size):
        yield chunk
        if reader.stands_at(EXTRACTED):
            return
    offset = reader.offset
    record = reader.read()
    if record is None or record.type != EXTRACTED:
        kind = record.type if record else b""
        raise CorruptFile(offset, f"unexpected record type {kind!r} in message content")
