"""A server that says the same to everybody, whatever they say."""

from __future__ import annotations

import re
import socket
import threading


class ScriptedServer:
    """
    Says `answer` to whoever connects to `listening`, and keeps in `heard` what they said.

    `pause`: seconds after each 64 KiB of the answer.
    """

    def __init__(self, listening: socket.socket, answer: bytes, *, pause: float = 0.0) -> None:
        self.heard: list[bytes] = []
        self._listening, self._answer, self._pause = listening, answer, pause
        self._stop = threading.Event()
        listening.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._stop.set()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                self.heard.append(_request(connection))
                try:
                    for start in range(0, len(self._answer), 65536):
                        connection.sendall(self._answer[start : start + 65536])
                        if self._stop.wait(self._pause):
                            return
                except OSError:
                    continue


def _request(connection: socket.socket) -> bytes:
    """A whole request: head and body may come in two segments."""
    head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    length = int((re.findall(rb"(?i)content-length: (\d+)", head) or [0])[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
