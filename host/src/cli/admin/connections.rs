//! `nethost connections` and `nethost kick`.

use hyper::Method;

use super::{
    At, answered, block_on, print_json, say,
    table::{self, Align, age, bytes, plain},
};
use crate::admin::{
    api::{self, Kicked},
    client::{encoded, of_service},
};

/// List the open connections of a service
///
/// UNSENT is what the peer has not taken yet, beside what the kernel holds. `nethost kick` takes the ID.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nethost connections irc
  nethost connections irc --json | jq -r '.connections[] | select(.unsent > 100000).id'")]
pub(crate) struct Connections {
    /// The service, as `nethost ps` lists it
    service: String,

    /// List at most so many, those first that have been there for longest [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    #[command(flatten)]
    at: At,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Close a connection
///
/// What is unsent is lost. The plugin hears that an operator closed it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  nethost kick 3-17")]
pub(crate) struct Kick {
    /// The connection, as `nethost connections` lists it
    connection: String,

    #[command(flatten)]
    at: At,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Connections {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let connections = self.all()?;
        if self.json {
            return print_json(&api::Connections {
                connections,
                next: None,
            });
        }
        let rows: Vec<_> = connections.iter().map(row).collect();
        table::print(COLUMNS, &rows)
    }

    /// Asks page by page. Those that come meanwhile may be missing.
    fn all(&self) -> anyhow::Result<Vec<api::Connection>> {
        let most = self.limit.unwrap_or(usize::MAX);
        block_on(&self.at, async |client| {
            let mut all = Vec::new();
            let mut after = None;
            while all.len() < most {
                let limit = PAGE.min(most - all.len());
                let after_this = after.map_or_else(String::new, |after: String| {
                    format!("&after={}", encoded(&after))
                });
                let path = format!("/connections?limit={limit}{after_this}");
                let path = of_service(&self.service, &path);
                let page: api::Connections = answered(client.get(&path)).await?;
                all.extend(page.connections);
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            Ok(all)
        })
    }
}

impl Kick {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let path = format!("/v1/connections/{}", encoded(&self.connection));
        let kicked: Kicked = block_on(&self.at, async |client| {
            answered(client.ask(Method::DELETE, &path, Vec::new())).await
        })?;
        if self.json {
            return print_json(&kicked);
        }
        let Kicked { id, service, peer } = kicked;
        say(&format!("closed {id} of {service}, {}", plain(&peer)))
    }
}

fn row(connection: &api::Connection) -> Vec<String> {
    let direction = match connection.closing {
        true => "closing",
        false => &connection.direction,
    };
    vec![
        connection.id.clone(),
        plain(&connection.peer),
        direction.to_owned(),
        age(connection.age),
        bytes(connection.received),
        bytes(connection.sent),
        bytes(u64::try_from(connection.unsent).unwrap_or(u64::MAX)),
        connection.tls.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

const COLUMNS: &[(&str, Align)] = &[
    ("ID", Align::Left),
    ("PEER", Align::Left),
    ("", Align::Left),
    ("AGE", Align::Right),
    ("IN", Align::Right),
    ("OUT", Align::Right),
    ("UNSENT", Align::Right),
    ("TLS", Align::Left),
];

/// Connections that are asked for at a time.
const PAGE: usize = 5_000;
