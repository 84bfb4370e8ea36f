// Echo in JavaScript: sends back what it receives (RFC 862).

class Session {
  constructor(connection) {
    this.connection = connection;
  }
  dataReceived(data) {
    this.connection.write(data);
  }
  writable() {}
  readClosed() {
    this.connection.close();
  }
  connectionLost(reason) {}
  // Called when the host drops the session. The engine runs no finalizers, so the handle would stay for ever.
  [Symbol.dispose]() {
    this.connection[Symbol.dispose]();
  }
}

export const handler = {
  Session,
  configure(config) {},
  draining(deadline) {},
  connectionMade(connection, origin) {
    return new Session(connection);
  },
};
