//! Says for every line, a domain, where its mail goes, and the addresses of each host there: with the plugin dns as a library, as a mail server has it.

use std::net::SocketAddr;

use nethost_dns::{
    resolver::{MailServers, NoDatagrams, ResolveError, Resolver},
    types::Name,
};
use nethost_sdk::{Config, Context, Factory, Origin, Protocol, export_plugin, spawn_for_instance};
use serde::Deserialize;

struct Asks;

struct Settings(Resolver);

#[derive(Deserialize)]
struct Keys {
    server: SocketAddr,
}

impl Factory for Settings {
    fn configure(config: &Config) -> Result<Self, String> {
        let keys: Keys = config.parse()?;
        Ok(Self(Resolver::new(vec![keys.server])))
    }
}

impl Protocol for Asks {
    type Factory = Settings;

    fn connection_made(_cx: &mut Context<'_, Settings>, _origin: Origin) -> Option<Self> {
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, Settings>, data: &[u8]) {
        // The test sends a line in one piece, and waits for the answer.
        let domain = String::from_utf8_lossy(data).trim().to_owned();
        let (resolver, connection) = (cx.factory.0.clone(), cx.connection.clone());
        let answer = async move {
            let told = route(&resolver, &domain).await;
            let told = told.unwrap_or_else(|error| format!("error: {error}"));
            connection.write(format!("{told}\n").as_bytes());
        };
        spawn_for_instance(answer).detach();
    }
}

async fn route(resolver: &Resolver, domain: &str) -> Result<String, ResolveError> {
    let Ok(domain) = Name::parse(domain) else {
        return Ok("no name".to_owned());
    };
    let servers = match resolver.mail_servers(&domain).await? {
        MailServers::At(servers) => servers,
        MailServers::Refused => return Ok("refused".to_owned()),
    };
    let mut told = Vec::new();
    for (preference, name) in servers {
        let addresses = resolver.addresses(&name).await?;
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        told.push(format!("{preference} {name} {}", addresses.join(" ")));
    }
    Ok(told.join(", "))
}

export_plugin!(Asks, datagrams: NoDatagrams<Settings>);
