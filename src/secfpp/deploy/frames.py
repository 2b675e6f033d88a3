"""Requests and replies between processes of one machine, as frames on a stream socket.

A frame is the length of its bytes, 8 bytes, big-endian, and the bytes.
"""

from __future__ import annotations

import socket
import struct

MAX_FRAME = 1 << 30
"""Most bytes of a request or reply."""
_LENGTH = struct.Struct(">Q")


def send(channel: socket.socket, message: bytes) -> None:
    """Send one frame.

    Raises:
        OSError: the other end is gone.
    """
    channel.sendall(_LENGTH.pack(len(message)))
    channel.sendall(message)


def receive(channel: socket.socket) -> bytes | None:
    """The next frame; None at the end of the stream, also in the middle of a frame.

    Raises:
        OSError: the stream is broken, or the frame too large.
    """
    head = _exactly(channel, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME:
        raise ConnectionError(f"a frame of {length} bytes, at most {MAX_FRAME} are allowed")
    body = _exactly(channel, length)
    return None if body is None else bytes(body)


def _exactly(channel: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = channel.recv_into(view)
        if not got:
            return None
        view = view[got:]
    return data
