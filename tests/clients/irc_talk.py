"""Two clients of the library `irc` (PyPI) join a channel of a real server and talk; then one loses its connection, and the other is told.

Prints one line for every event, and ends when the test's dialogue is over.
"""

import socket
import sys

import irc.client

HOST, PORT = sys.argv[1], int(sys.argv[2])
CHANNEL = "#tea"


def say(*words):
    print(*words, flush=True)


class Talk:
    def __init__(self):
        self.reactor = irc.client.Reactor()
        self.ann = self.reactor.server()
        self.bob = self.reactor.server()
        for event in ["welcome", "join", "pubmsg", "privmsg", "quit", "nicknameinuse", "currenttopic", "topic", "mode", "featurelist"]:
            self.reactor.add_global_handler(event, getattr(self, "on_" + event))
        self.over = False
        self.ann.connect(HOST, PORT, "ann", username="ann", ircname="Ann Example")

    def who(self, connection):
        return "ann" if connection is self.ann else "bob"

    def on_welcome(self, connection, event):
        say(self.who(connection), "is welcome as", connection.get_nickname())
        connection.join(CHANNEL)

    def on_featurelist(self, connection, event):
        if connection is self.ann and connection.features.network and not self.over:
            say("network", connection.features.network)
            connection.features.network = None

    def on_nicknameinuse(self, connection, event):
        say(self.who(connection), "cannot be", event.arguments[0])
        connection.nick("bob")

    def on_join(self, connection, event):
        say(self.who(connection), "sees", event.source.nick, "join", event.target)
        if connection is self.ann and event.source.nick == "ann":
            connection.mode(CHANNEL, "+t")
            connection.topic(CHANNEL, "tea at five")
            # A nickname that is taken, to see how the library gets along with the answer.
            self.bob.connect(HOST, PORT, "Ann", username="bob", ircname="Bob Example")
        if connection is self.ann and event.source.nick == "bob":
            connection.privmsg(CHANNEL, "hello bob")

    def on_mode(self, connection, event):
        if connection is self.ann:
            say("mode", *event.arguments)

    def on_topic(self, connection, event):
        if connection is self.ann:
            say("topic", *event.arguments)

    def on_currenttopic(self, connection, event):
        say(self.who(connection), "reads", *event.arguments)

    def on_pubmsg(self, connection, event):
        say(self.who(connection), "hears", event.source.nick, "say", event.arguments[0])
        if connection is self.bob:
            connection.privmsg("ann", "in private: grüße")

    def on_privmsg(self, connection, event):
        say(self.who(connection), "is told by", event.source.nick, event.arguments[0])
        # The network cable is pulled: no QUIT, and a reset.
        self.bob.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.bob.socket.close()
        self.bob.connected = False
        self.bob.socket = None

    def on_quit(self, connection, event):
        say(self.who(connection), "sees", event.source.nick, "quit:", event.arguments[0])
        self.over = True
        self.ann.disconnect("bye")

    def run(self):
        while not self.over:
            self.reactor.process_once(0.05)


Talk().run()
