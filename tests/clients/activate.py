"""Starts a program as systemd does: activate.py NAME=PATH... -- PROGRAM ARGUMENT...

Each PATH gets a UNIX socket, which the program inherits from descriptor 3 on.
"""

import os
import socket
import sys

end = sys.argv.index("--")
sockets = [argument.split("=", 1) for argument in sys.argv[1:end]]
program = sys.argv[end + 1 :]
# Out of the way of the numbers that they get.
opened = []
for _, path in sockets:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    opened.append(os.dup2(listener.detach(), 100 + len(opened), inheritable=False))
for number, fd in enumerate(opened):
    os.dup2(fd, 3 + number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(sockets))
os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in sockets)
os.execvp(program[0], program)
