"""Echo in Python: sends back what it receives (RFC 862)."""

from wit_world import exports


class Session(exports.handler.Session):
    def __init__(self, connection):
        self.connection = connection

    def data_received(self, data):
        self.connection.write(data)

    def writable(self): ...

    def read_closed(self):
        self.connection.close()

    def connection_lost(self, reason):
        # componentize-py never frees a session, so the handle would stay for ever.
        del self.connection


class Handler(exports.Handler):
    def configure(self, config): ...

    def draining(self, deadline): ...

    def connection_made(self, connection, origin):
        return Session(connection)
