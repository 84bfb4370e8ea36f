//! What tests share: applications, and a reader of answers.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::rc::Rc;

use http::{Request, Response};
use nethost_http::{Application, Body, BodyError, Peer, Reply, Service, text};
use nethost_sdk::Config;

/// Answers every request with its method, path and body.
#[derive(Debug)]
pub(crate) struct Echo;

impl Application for Echo {
    type Service = Self;

    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Service for Echo {
    fn call(self: &Rc<Self>, request: Request<Body>, _peer: &Peer) -> Reply {
        let (parts, body) = request.into_parts();
        let host = parts
            .headers
            .get("host")
            .map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
        let said = format!(
            "{} {} {}\n",
            parts.method,
            host.unwrap_or_default(),
            parts.uri.path()
        );
        match parts.uri.path() {
            "/now" => text(said).into(),
            "/stream" => Response::new(body).into(),
            "/same" => Reply::later(async {
                Ok::<_, BodyError>(Response::new(body.buffered(64 << 10).await?))
            }),
            _ => Reply::later(async move {
                let body = body.collect(1 << 20).await?;
                Ok::<_, BodyError>(text([said.as_bytes(), &body].concat()))
            }),
        }
    }
}

/// The statuses of answers one after the other, each with a Content-Length or without a body.
pub(crate) fn statuses(mut text: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Some(rest) = text.strip_prefix("HTTP/1.1 ") {
        statuses.push(rest[..3].parse().unwrap());
        let (head, body) = rest
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("a head without an end: {text}"));
        let length = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix("Content-Length: "));
        text = &body[length.map_or(0, |length| length.parse().unwrap())..];
    }
    assert!(text.is_empty(), "no answer: {text}");
    statuses
}
