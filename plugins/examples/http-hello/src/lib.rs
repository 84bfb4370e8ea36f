//! The smallest HTTP application: `nethost run plugins/examples/http-hello.wasm`, and `curl localhost:8080`.

use nethost_http::{
    Application, Body, BodyError, Http, Peer, Reply, Router, http::Request, http::header::COOKIE,
    text,
};
use nethost_sdk::{Config, export_plugin};

/// The application: which path is answered by what.
#[derive(Debug)]
pub struct Hello;

impl Application for Hello {
    type Service = Router;

    fn configure(_config: &Config) -> Result<Router, String> {
        Ok(Router::new()
            .get("/", |_, _| text("OK"))
            .post("/", |request, _| same(request))
            .get("/hello", |_, _| text("Hello, World!"))
            .get("/echo", |_, peer| text(lines(peer)))
            .post("/echo", |_, peer| text(lines(peer)))
            .get("/cookie", |request, _| text(cookies(&request)))
            .post("/cookie", |request, _| text(cookies(&request))))
    }
}

/// The body that came. Up to 64 KiB are awaited, so that what is no body gets an answer that says so; what is longer is sent back as it comes.
fn same(request: Request<Body>) -> Reply {
    Reply::later(async { Ok::<_, BodyError>(text(request.into_body().buffered(64 << 10).await?)) })
}

/// The header lines, as they came.
fn lines(peer: &Peer) -> Vec<u8> {
    let lines = peer.header_lines();
    lines
        .flat_map(|(name, value)| [name, b": ", value, b"\n"].concat())
        .collect()
}

/// The cookies, one on each line.
fn cookies(request: &Request<Body>) -> String {
    let values = request.headers().get_all(COOKIE).iter();
    let values: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let pairs = values.iter().flat_map(|value| value.split(';'));
    let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs
        .map(|(name, value)| format!("{}={}\n", name.trim(), value.trim().trim_matches('"')))
        .collect()
}

export_plugin!(Http<Hello>, swap);
