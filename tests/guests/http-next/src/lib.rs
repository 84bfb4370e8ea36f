//! The next version of `plugins/examples/http-hello`: it says so.

use nethost_http::{Application, Http, Router, text};
use nethost_sdk::{Config, export_plugin};

/// The application.
#[derive(Debug)]
pub struct Next;

impl Application for Next {
    type Service = Router;

    fn configure(_config: &Config) -> Result<Router, String> {
        Ok(Router::new()
            .get("/", |_, _| text("NEXT"))
            .post("/", |request, _| text(request.into_body())))
    }
}

export_plugin!(Http<Next>, swap);
