//! The client side: `nethost exec plugins/dns.wasm query NAME [TYPE] [@SERVER] [+tcp] [+short] [+json] [+norecurse] [+edns=N]`.

mod arguments;
mod show;

use std::time::Duration;

use nethost_sdk::{
    clock,
    command::{Command, ExitCode, Failure, Io, name_servers},
    resolve,
};

use crate::{
    Dns,
    codec::{Message, Query, RD},
    config,
    resolver::Ask,
    types::Class,
};
use arguments::{Arguments, Layout, Recursion, Server, Transport};

/// Asks one question and prints the answer as dig does.
#[derive(Debug)]
pub struct Client;

impl Command for Client {
    type Factory = Dns;

    async fn run(arguments: Vec<String>, mut io: Io) -> Result<ExitCode, Failure> {
        let arguments = match Arguments::parse(&arguments) {
            Ok(Some(arguments)) => arguments,
            Ok(None) => {
                io.output.print(arguments::USAGE);
                return Ok(ExitCode::SUCCESS);
            }
            Err(wrong) => {
                io.error
                    .print(&format!("error: {wrong}\n\n{}", arguments::USAGE));
                return Ok(ExitCode::USAGE);
            }
        };
        let servers = servers(&arguments).await?;
        let ask = ask(&arguments);
        let mut failure = "there is no name server: name one with @SERVER".to_owned();
        for server in servers {
            let begun = clock::monotonic();
            let answer = match arguments.transport {
                Transport::Tcp => ask.over_tcp(server).await,
                Transport::Udp => ask.over_udp(server).await,
            };
            let (mut bytes, mut transport) = match answer {
                Ok(bytes) => (bytes, arguments.transport),
                Err(error) => {
                    failure = error.to_string();
                    continue;
                }
            };
            let is_cut = bytes.get(2).is_some_and(|flags| flags & 2 != 0);
            if is_cut && arguments.transport == Transport::Udp {
                if arguments.layout == Layout::Long {
                    io.output.print(";; Truncated, retrying in TCP mode.\n");
                }
                bytes = ask.over_tcp(server).await?;
                transport = Transport::Tcp;
            }
            let elapsed = clock::monotonic().saturating_sub(begun);
            let message = Message::decode(&bytes).map_err(|error| {
                format!("{server} answered something that is no message: {error}")
            })?;
            let told = match arguments.layout {
                Layout::Short => show::short(&message),
                Layout::Json => show::json(&message),
                Layout::Long => show::long(&show::Told {
                    message: &message,
                    server,
                    transport,
                    elapsed,
                    length: bytes.len(),
                    asked: &arguments.given,
                }),
            };
            io.output.write_all(told.as_bytes()).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(failure.into())
    }
}

async fn servers(arguments: &Arguments) -> Result<Vec<std::net::SocketAddr>, Failure> {
    match &arguments.server {
        None => Ok(name_servers()),
        Some(Server::Address(address)) => Ok(vec![*address]),
        Some(Server::Name(name, port)) => {
            let addresses = resolve(name)
                .await
                .map_err(|error| format!("@{name}: {error}"))?;
            let addresses = addresses.into_iter();
            Ok(addresses.map(|address| (address, *port).into()).collect())
        }
    }
}

fn ask(arguments: &Arguments) -> Ask {
    let flags = match arguments.recursion {
        Recursion::Desired => RD,
        Recursion::Undesired => 0,
    };
    Ask {
        query: Query {
            name: arguments.name,
            rtype: arguments.rtype,
            class: Class::IN,
        },
        flags,
        edns: arguments.edns.map(|version| u32::from(version) << 16),
        attempts: 3,
        patience: Duration::from_secs(3),
    }
}

/// The port that is asked if none is named.
const PORT: u16 = config::PORT;
