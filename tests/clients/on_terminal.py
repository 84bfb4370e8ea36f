"""Runs a program on a terminal: on_terminal.py PROGRAM ARGUMENT...

Types `hello`, waits until it was echoed by the terminal and by the program, types the end, and exits as the program does.
"""

import os
import subprocess
import sys

ours, theirs = os.openpty()
child = subprocess.Popen(sys.argv[1:], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
os.close(theirs)
os.write(ours, b"hello\n")
said = b""
while said.count(b"hello") < 2:
    said += os.read(ours, 1000)
os.write(ours, b"\x04")
code = child.wait(timeout=20)
print(said)
sys.exit(code)
