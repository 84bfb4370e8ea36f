//! A listener that keeps whoever connects waiting.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
};

use socket2::{Domain, Socket, Type};

use crate::client::Client;

/// Makes a listener whose queue is full: it answers no further attempt until somebody accepts. Who waits there already is returned with it. Port 0 is a free one.
///
/// # Panics
///
/// If it cannot be made.
pub fn full_listener(ip: &str, port: u16) -> (TcpListener, Client) {
    let made = || {
        let ip: IpAddr = ip.parse().map_err(io::Error::other)?;
        let address = SocketAddr::from((ip, port));
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        listener.bind(&address.into())?;
        listener.listen(0)?;
        let listener = TcpListener::from(listener);
        let address = listener.local_addr()?;
        Ok::<_, io::Error>((listener, address))
    };
    let (listener, address) = made().unwrap_or_else(|error| panic!("{ip}:{port}: {error}"));
    (listener, Client::tcp(address))
}
