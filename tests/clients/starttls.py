"""The dialogue of the test guest `starttls`, spoken with Python's ssl.

    starttls.py client [-i INJECTED] [-a ALPN] [-v 1.2] PORT CA NAME COMMAND...
    starttls.py resume [-v 1.2] PORT CA NAME
    starttls.py server CERT KEY

`client` prints the answer to each command; INJECTED is sent in one piece with STARTTLS. `resume` asks INFO on one connection and then on
another that resumes its session. `server` prints its port, and of each connection the command that came through TLS or why none did.
"""

import argparse
import socket
import ssl
import sys


def line(sock):
    """One line, read byte by byte: what is read ahead would be lost to TLS."""
    text = b""
    while not text.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            raise EOFError(f"the end after {text!r}")
        text += byte
    return text.decode().rstrip("\r\n")


def context(options):
    ctx = ssl.create_default_context(cafile=options.ca)
    if options.alpn:
        ctx.set_alpn_protocols([options.alpn])
    if options.version == "1.2":
        ctx.maximum_version = ssl.TLSVersion.TLSv1_2
    return ctx


def secured(ctx, options, session=None):
    sock = socket.create_connection(("127.0.0.1", options.port), timeout=20)
    assert line(sock).startswith("220 ")
    sock.sendall(b"EHLO python\r\n")
    assert [line(sock), line(sock)][1] == "250 STARTTLS"
    sock.sendall(b"STARTTLS\r\n" + options.inject.encode())
    assert line(sock) == "220 go ahead"
    return ctx.wrap_socket(sock, server_hostname=options.name, session=session)


def ask(sock, command):
    sock.sendall(command.encode() + b"\r\n")
    print(line(sock), flush=True)


def client(options):
    sock = secured(context(options), options)
    for command in options.commands:
        ask(sock, command)


def resume(options):
    ctx = context(options)
    first = secured(ctx, options)
    ask(first, "INFO")
    second = secured(ctx, options, first.session)
    ask(second, "INFO")


def server(options):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(options.cert, options.key)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        sock.settimeout(20)
        sock.sendall(b"220 python\r\n")
        assert line(sock) == "STARTTLS"
        sock.sendall(b"220 go ahead\r\n")
        try:
            with ctx.wrap_socket(sock, server_side=True) as sock:
                command = line(sock)
                print(command, flush=True)
                sock.sendall(b"250 " + command.removeprefix("ECHO ").encode() + b"\r\n")
                sock.unwrap()
        except (OSError, EOFError) as error:
            print(f"failed: {error}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    modes = parser.add_subparsers(required=True)
    for run in (client, resume):
        mode = modes.add_parser(run.__name__)
        mode.set_defaults(run=run)
        mode.add_argument("port", type=int)
        mode.add_argument("ca")
        mode.add_argument("name")
        mode.add_argument("-i", dest="inject", default="")
        mode.add_argument("-a", dest="alpn")
        mode.add_argument("-v", dest="version")
        mode.add_argument("commands", nargs="*")
    mode = modes.add_parser("server")
    mode.set_defaults(run=server)
    mode.add_argument("cert")
    mode.add_argument("key")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    sys.exit(main())
