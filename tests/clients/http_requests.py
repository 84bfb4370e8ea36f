"""What `requests` (PyPI) does with a real server: an application, and a site with a password.

Prints one line for each thing that went as it should, and fails at the first that did not.
"""

import sys

import requests

HELLO, SITE = sys.argv[1], sys.argv[2]


def pieces():
    for number in range(1000):
        yield b"%06d\n" % number


with requests.Session() as session:
    answer = session.get(HELLO + "/", timeout=10)
    assert (answer.status_code, answer.text) == (200, "OK"), answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    print("hello")

    body = b"".join(pieces())
    answer = session.post(HELLO + "/", data=pieces(), timeout=10)
    assert answer.content == body, len(answer.content)
    print("chunked upload")

    answer = session.post(HELLO + "/", data=body * 100, stream=True, timeout=10)
    assert b"".join(answer.iter_content(10000)) == body * 100
    print("large upload and streamed download")

    answer = session.get(HELLO + "/cookie", cookies={"a": "1", "b": "2"}, timeout=10)
    assert answer.text == "a=1\nb=2\n", answer.text
    print("cookies")

    answer = session.delete(HELLO + "/", timeout=10)
    assert answer.status_code == 405 and "GET" in answer.headers["allow"]
    print("405")

with requests.Session() as session:
    answer = session.get(SITE + "/folder", timeout=10)
    assert answer.history[0].status_code == 301 and answer.url.endswith("/folder/")
    assert answer.text == "<p>index", answer.text
    print("redirect")

    answer = session.get(SITE + "/a.css", timeout=10)
    assert answer.headers["content-encoding"] == "gzip" and answer.text == "a{color:red}", answer.text
    print("gzip")

    answer = session.get(SITE + "/private/a.txt", timeout=10)
    assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic")
    answer = session.get(SITE + "/private/a.txt", auth=("ann", "secret"), timeout=10)
    assert (answer.status_code, answer.text) == (200, "for ann"), answer.text
    print("password")

    answer = session.get(SITE + "/big", headers={"Range": "bytes=1000000-1000009"}, timeout=10)
    assert answer.status_code == 206 and answer.content == b"0123456789", answer.content
    print("range")
