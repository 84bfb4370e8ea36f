//! The commands that speak to a host that runs: what they share.

mod connections;

mod control;

mod logs;

mod ps;

mod swap;

mod table;

mod top;

use std::{
    env,
    future::Future,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
pub(super) use connections::{Connections, Kick};
pub(super) use control::{Drain, Reload, Start, Stop};
use hyper::StatusCode;
pub(super) use logs::Logs;
pub(super) use ps::Ps;
use serde::Serialize;
pub(super) use swap::Swap;
use tokio::{runtime::Builder, task::LocalSet};
pub(super) use top::Top;

use super::{Mistake, OrMistake as _};
use crate::{
    admin::{
        self,
        client::{Client, ClientError},
    },
    config::Secret,
    endpoint::{Direction, Endpoint},
    tls::{ClientTls, ClientTlsSettings},
};

/// Which host is asked.
#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// Where the host is administered: the path of its UNIX socket, or tls://HOST:PORT [default: NETHOST_ADMIN, else $XDG_RUNTIME_DIR/nethost.sock]
    #[arg(long, value_name = "PATH|URL")]
    admin: Option<String>,

    /// The file with the token that a host at tls:// wants [default: the variable NETHOST_ADMIN_TOKEN]
    #[arg(long, value_name = "FILE")]
    admin_token: Option<PathBuf>,

    /// Trust a host at tls:// whose certificate descends from those in FILE (PEM) [default: what the system trusts]
    #[arg(long, value_name = "FILE")]
    admin_ca: Option<PathBuf>,
}

impl At {
    fn client(&self) -> anyhow::Result<Client> {
        let endpoint = self.endpoint()?;
        let token = match &self.admin_token {
            Some(path) => {
                let secret = Secret::of_file(path.clone()).map_err(Mistake::new)?;
                Some(secret.expose().to_owned())
            }
            None => env::var("NETHOST_ADMIN_TOKEN").ok(),
        };
        let settings = ClientTlsSettings {
            ca: self.admin_ca.clone(),
            certificate: None,
        };
        let tls = ClientTls::load(&settings).or_mistake()?;
        Ok(Client::new(endpoint, token, tls))
    }

    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let said = self
            .admin
            .clone()
            .or_else(|| env::var("NETHOST_ADMIN").ok());
        let Some(said) = said.filter(|said| !said.is_empty()) else {
            let Some(path) = admin::default_path() else {
                bail!(Mistake::new(
                    "say with --admin PATH where the host is administered: there is no XDG_RUNTIME_DIR to look in".to_owned()
                ));
            };
            let path = path.to_string_lossy();
            return admin::place(&path).map_err(|error| Mistake::new(error).into());
        };
        let endpoint = admin::place(&said).map_err(Mistake::new)?;
        endpoint.check(Direction::Connecting).or_mistake()?;
        Ok(endpoint)
    }
}

/// Runs a command's requests.
fn block_on<T>(
    at: &At,
    requests: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let client = at.client()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, requests(&client))
}

/// Waits for an answer, and says what to do if there is none.
async fn answered<T>(answer: impl Future<Output = Result<T, ClientError>>) -> anyhow::Result<T> {
    let error = match answer.await {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    let hint = match &error {
        ClientError::Unreachable { error, .. }
            if error.kind() == io::ErrorKind::PermissionDenied =>
        {
            Some("only the user that the host runs as may: try it as that one")
        }
        ClientError::Unreachable { .. } => Some(
            "start one (`nethost run` has a socket at $XDG_RUNTIME_DIR/nethost.sock, `nethost serve` where `admin` of [host] says), or say with --admin where it is",
        ),
        ClientError::Untrusted { .. } => Some(
            "its certificate has to be for that name, and from whom the system or --admin-ca FILE trusts",
        ),
        ClientError::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED => Some(
            "say with --admin-token FILE, or in NETHOST_ADMIN_TOKEN, the one that the host has",
        ),
        _ => None,
    };
    let is_mistake = error.is_mistake();
    let mut result = Err(anyhow::Error::new(error));
    if let Some(hint) = hint {
        result = result.map_err(|error: anyhow::Error| anyhow::anyhow!("{error:#}; {hint}"));
    }
    if is_mistake {
        result.or_mistake()
    } else {
        result
    }
}

/// Prints one JSON object.
fn print_json(what: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(what).context("writing JSON")?;
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Prints a line.
fn say(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}

/// `1 connection`, `2 connections`.
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
