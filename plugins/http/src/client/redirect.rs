//! Redirects: what is asked of whom next ([RFC 9110 section 15.4](https://www.rfc-editor.org/rfc/rfc9110.html#section-15.4)).

use http::{HeaderMap, Method, Response, StatusCode, header};

use super::{error::Error, url::Url};

/// What is asked, without the body.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    /// Whether the body goes along.
    pub(super) has_body: bool,
}

impl Asked {
    /// What is to be asked after this answer; none if it is no redirect.
    pub(super) fn redirected(&self, response: &Response<()>) -> Result<Option<Self>, Error> {
        let keeps_method = match response.status() {
            // As everybody does: https://www.rfc-editor.org/rfc/rfc9110.html#section-15.4.2-3
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method != Method::POST,
            StatusCode::SEE_OTHER => matches!(self.method, Method::GET | Method::HEAD),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            _ => return Ok(None),
        };
        let Some(location) = response.headers().get(header::LOCATION) else {
            return Ok(None);
        };
        let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
        let url = self.url.join(&location);
        let url = url.map_err(|error| Error::Location(location, error))?;
        let mut next = Self {
            url,
            ..self.clone()
        };
        if !keeps_method {
            next.method = Method::GET;
            next.has_body = false;
            for name in ABOUT_THE_BODY {
                next.headers.remove(name);
            }
        }
        if next.url.origin() != self.url.origin() {
            for name in FOR_THE_ORIGIN {
                next.headers.remove(name);
            }
        }
        Ok(Some(next))
    }
}

/// What is meant for one origin alone.
const FOR_THE_ORIGIN: [header::HeaderName; 4] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::HOST,
    header::PROXY_AUTHORIZATION,
];

/// What describes a body that does not go along.
const ABOUT_THE_BODY: [header::HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(method: Method) -> Asked {
        let headers = [
            (header::AUTHORIZATION, "secret"),
            (header::COOKIE, "secret"),
            (header::CONTENT_TYPE, "text/plain"),
            (header::ACCEPT, "*/*"),
        ];
        Asked {
            url: Url::parse("http://a/b").unwrap(),
            method,
            headers: headers
                .map(|(name, value)| (name, HeaderValue::from_static(value)))
                .into_iter()
                .collect(),
            has_body: true,
        }
    }

    fn answer(status: u16, location: &'static str) -> Response<()> {
        let response = Response::builder().status(status);
        response.header("location", location).body(()).unwrap()
    }

    #[test]
    fn the_method_changes_as_the_rfc_says() {
        for (method, status, expected) in [
            (Method::POST, 301, Method::GET),
            (Method::POST, 302, Method::GET),
            (Method::PUT, 301, Method::PUT),
            (Method::HEAD, 302, Method::HEAD),
            (Method::POST, 303, Method::GET),
            (Method::PUT, 303, Method::GET),
            (Method::HEAD, 303, Method::HEAD),
            (Method::POST, 307, Method::POST),
            (Method::POST, 308, Method::POST),
        ] {
            let keeps = method == expected;
            let next = asked(method.clone()).redirected(&answer(status, "/c"));
            let next = next.unwrap().unwrap();
            assert_eq!(next.method, expected, "{method} {status}");
            assert_eq!(next.has_body, keeps, "{method} {status}");
            assert_eq!(next.headers.contains_key("content-type"), keeps);
            assert_eq!(next.headers["authorization"], "secret");
        }
        for status in [200, 300, 304, 305, 404] {
            let next = asked(Method::GET).redirected(&answer(status, "/c"));
            assert!(next.unwrap().is_none(), "{status}");
        }
    }

    #[test]
    fn another_origin_is_told_no_secrets() {
        for location in ["https://a/b", "http://a:81/b", "//b/", "http://sub.a/"] {
            let next = asked(Method::GET).redirected(&answer(307, location));
            let headers = next.unwrap().unwrap().headers;
            assert!(!headers.contains_key("authorization"), "{location}");
            assert!(!headers.contains_key("cookie"), "{location}");
            assert_eq!(headers["accept"], "*/*");
        }
    }
}
