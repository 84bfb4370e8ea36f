"""A TLS client of Python's standard library (OpenSSL underneath).

Takes one JSON object and prints a JSON list with one object for each connection, which is either what was agreed on, or `{"error": ...}`.

    host, port      where
    name            whom to ask for and to expect; none: neither
    ca              the file of certificates to trust
    version         "TLSv1.2" or "TLSv1.3" and no other
    alpn            a list of application protocols
    cert            the client's certificate and key, in one file
    size            bytes to send and to expect back (64)
    times           how many connections, one after the other, each with the session of the one before (1)
    end             "close" says goodbye (close_notify) and waits for the peer's; "cut" ends the TCP stream without a word
"""

import json
import select
import socket
import ssl
import sys

TIMEOUT = 20


def context(asked):
    context = ssl.create_default_context(cafile=asked["ca"])
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if asked.get("name") is None:
        context.check_hostname = False
    if "version" in asked:
        version = ssl.TLSVersion[asked["version"].replace(".", "_")]
        context.minimum_version = context.maximum_version = version
    if "alpn" in asked:
        context.set_alpn_protocols(asked["alpn"])
    if "cert" in asked:
        context.load_cert_chain(asked["cert"])
    return context


def echo(stream, size):
    """Sends and receives by turns: an echo that comes back must be read, or the sender would wait for ever. OpenSSL forbids two threads in one stream."""
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    unsent = memoryview(data)
    got = bytearray()
    stream.setblocking(False)
    while len(got) < size:
        waits = True
        try:
            if unsent:
                unsent = unsent[stream.send(unsent[:65536]) :]
                waits = False
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            unsent = unsent[:0]  # The peer may have said why before it closed.
        try:
            part = stream.recv(65536)
            if not part:
                break
            got += part
            waits = False
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        if waits:
            ready = select.select([stream], [stream] if unsent else [], [], TIMEOUT)
            if not any(ready):
                raise TimeoutError("the echo does not come")
    stream.settimeout(TIMEOUT)
    return bytes(got) == data


def end(stream, how):
    if how == "close":
        stream.unwrap().close()
        return
    # A socket with unread bytes would send a reset, so everything is read first.
    bare = socket.socket(fileno=stream.detach())
    bare.settimeout(TIMEOUT)
    bare.shutdown(socket.SHUT_WR)
    while bare.recv(65536):
        pass
    bare.close()


def connect(asked, context, session):
    with socket.create_connection((asked["host"], asked["port"]), TIMEOUT) as bare:
        stream = context.wrap_socket(bare, server_hostname=asked.get("name"), session=session)
        size = asked.get("size", 64)
        told = {
            "echoed": echo(stream, size),
            "version": stream.version(),
            "cipher": stream.cipher()[0],
            "alpn": stream.selected_alpn_protocol(),
            "names": [name for _, name in stream.getpeercert().get("subjectAltName", ())],
            "resumed": stream.session_reused,
        }
        session = stream.session
        end(stream, asked.get("end", "close"))
        return told, session


def main():
    asked = json.loads(sys.argv[1])
    settings = context(asked)
    session = None
    told = []
    for _ in range(asked.get("times", 1)):
        try:
            result, session = connect(asked, settings, session)
        except OSError as error:
            result = {"error": str(error)}
        told.append(result)
    print(json.dumps(told))


main()
