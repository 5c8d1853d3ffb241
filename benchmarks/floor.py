"""The floor, the least that a Python server can do: read, ask the kernel for the peer, send a fixed answer."""

from __future__ import annotations

import select
import socket
import sys

SO_PEERCRED = 17


def main(path: str, size: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(1024)
    listening.setblocking(False)
    poll = select.epoll()
    poll.register(listening.fileno(), select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == listening.fileno():
                while True:
                    try:
                        connection, _ = listening.accept()
                    except BlockingIOError:
                        break
                    connection.getsockopt(socket.SOL_SOCKET, SO_PEERCRED, 12)
                    connections[connection.fileno()] = connection
                    poll.register(connection.fileno(), select.EPOLLIN)
            else:
                connection = connections.pop(number)
                poll.unregister(number)
                if connection.recv(65536):
                    connection.sendall(answer)
                connection.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
