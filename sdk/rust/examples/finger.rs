//! A finger server ([RFC 1288](https://www.rfc-editor.org/rfc/rfc1288)) over a list of users.

use nethost_sdk::{Config, Context, Factory, Origin, Protocol, export_plugin, framing::Lines};

/// One connection: its query, as far as it has come.
pub struct Finger(Lines);

impl Protocol for Finger {
    type Factory = Users;

    fn connection_made(_cx: &mut Context<'_, Users>, _origin: Origin) -> Option<Self> {
        Some(Self(Lines::new(512)))
    }

    fn data_received(&mut self, cx: &mut Context<'_, Users>, mut data: &[u8]) {
        let Some(query) = self.0.next(&mut data) else {
            return;
        };
        let query = String::from_utf8_lossy(query.unwrap_or(b"too long"));
        let answer = cx.factory.answer(&query);
        cx.connection.write(answer.as_bytes());
        cx.connection.close();
    }
}

/// What all connections share: the users, from the configuration.
#[derive(serde::Deserialize)]
pub struct Users {
    users: Vec<String>,
}

impl Factory for Users {
    fn configure(config: &Config) -> Result<Self, String> {
        config.parse()
    }
}

impl Users {
    fn answer(&self, query: &str) -> String {
        let name = query.strip_prefix("/W").unwrap_or(query).trim();
        let is_asked = |user: &&String| name.is_empty() || user.split(':').next() == Some(name);
        let asked: Vec<_> = self.users.iter().filter(is_asked).cloned().collect();
        asked.join("\r\n") + "\r\n"
    }
}

export_plugin!(Finger);
