"""Twisted web (PyPI) with what `bench http` asks for: 13 bytes at /hello, and files. Prints its port."""

import sys

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import File


class Hello(Resource):
    isLeaf = True

    def render_GET(self, request):
        request.setHeader(b"content-type", b"text/plain")
        return b"Hello, World!"


root = File(sys.argv[1])
root.putChild(b"hello", Hello())
port = reactor.listenTCP(0, Site(root), backlog=4096, interface="127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
