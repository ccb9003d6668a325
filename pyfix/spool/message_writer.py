"""A message's file that is being written: records gather in memory until there are many of them."""

from pyfix.spool.record import TextEncoder
from pyfix.system.durable import DurableFile

_BUFFER_SIZE = 65536


class MessageWriter:
    """Writes records and content, in bounded memory; then ``commit``, or ``abort``.

    All raise WriteError and NoSpace, after which nothing of the file is left. In place of ``commit``, a Flusher
    (pyfix.system.flusher) uses ``seal`` and ``settle``.
    """

    __slots__ = ("_buffer", "_buffered", "_encoder", "_file")

    def __init__(self, file: DurableFile) -> None:
        self._file = file
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._encoder = TextEncoder()

    @property
    def size(self) -> int:
        """Bytes of the file so far."""
        return self._file.size + self._buffered

    def _put(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= _BUFFER_SIZE:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        self._file.write(data)

    def write_content(self, chunk: bytes) -> None:
        """Write some of the content: lines ended by LF, cut anywhere."""
        self._put(self._encoder.encode(chunk))

    def commit(self) -> None:
        """Make the message durable and visible: it is accepted when this returns."""
        self._flush()
        self._file.commit()

    def seal(self) -> int:
        """Make the message visible: the descriptor, which is to be synced next."""
        self._flush()
        return self._file.seal()

    def settle(self, error: OSError | None) -> None:
        """The sync has ended: the message is accepted when this returns."""
        self._file.settle(error)

    def abort(self) -> None:
        """Leave nothing; nothing happens after commit."""
        self._file.abort()
