//! One request's answer: what the bytes of a connection mean. No host calls.

use http::{HeaderMap, Method, Response, StatusCode};

use super::codec::{self, Ending, MAX_INTERIM, Malformed};
use crate::{codec::body::Part, types::Limits};

/// Where in the answer the connection is.
#[derive(Debug)]
pub struct Session {
    method: Method,
    limits: Limits,
    state: State,
    interim: u8,
    keep_alive: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Body(Ending),
    Done,
}

/// What an answer consists of, in this order.
#[derive(Debug)]
pub enum Event<'a> {
    /// Its head. Interim responses are passed over.
    Head(Response<()>),
    /// Some of its body, at least one byte.
    Data(&'a [u8]),
    /// Its end, with its trailers.
    End(HeaderMap),
}

impl Session {
    /// Before the answer to a request with this method.
    pub fn new(method: Method, limits: Limits) -> Self {
        Self {
            method,
            limits,
            state: State::Head,
            interim: 0,
            keep_alive: false,
        }
    }

    /// Takes the next event from the beginning of `data`; none if there is none yet.
    pub fn handle_data<'a>(&mut self, data: &mut &'a [u8]) -> Result<Option<Event<'a>>, Malformed> {
        loop {
            match &mut self.state {
                State::Head => {
                    let Some(head) = codec::decode(data, &self.method, &self.limits)? else {
                        return Ok(None);
                    };
                    *data = data.get(head.length..).unwrap_or_default();
                    if head.response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        return Err(Malformed::Switching);
                    }
                    if head.response.status().is_informational() {
                        self.interim += 1;
                        if self.interim > MAX_INTERIM {
                            return Err(Malformed::Interim);
                        }
                        continue;
                    }
                    self.state = State::Body(head.body);
                    self.keep_alive = head.keep_alive;
                    return Ok(Some(Event::Head(head.response)));
                }
                State::Body(Ending::Told(decoder)) => {
                    return Ok(match decoder.decode(data)? {
                        None => None,
                        Some(Part::Data(data)) => Some(Event::Data(data)),
                        Some(Part::End(trailers)) => {
                            self.state = State::Done;
                            Some(Event::End(trailers))
                        }
                    });
                }
                State::Body(Ending::Close) => {
                    let all = std::mem::take(data);
                    return Ok(Some(all).filter(|all| !all.is_empty()).map(Event::Data));
                }
                State::Done => return Ok(None),
            }
        }
    }

    /// The server has closed the connection, with its last bytes handled.
    pub fn handle_end(&mut self) -> Result<Event<'static>, Malformed> {
        match self.state {
            State::Body(Ending::Close) => {
                self.state = State::Done;
                Ok(Event::End(HeaderMap::new()))
            }
            _ => Err(Malformed::Incomplete),
        }
    }

    /// Whether the answer is complete, and the server takes another request.
    pub fn is_kept(&self) -> bool {
        self.keep_alive && matches!(self.state, State::Done)
    }

    /// Whether nothing of the answer was understood yet.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Head) && self.interim == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status, the body and whether the connection is kept, with the bytes in pieces of this size and the connection's end after them.
    fn played(method: Method, data: &[u8], size: usize) -> Result<(u16, Vec<u8>, bool), Malformed> {
        let mut session = Session::new(method, Limits::default());
        let (mut status, mut body, mut waiting) = (0, Vec::new(), Vec::new());
        for piece in data.chunks(size) {
            waiting.extend_from_slice(piece);
            let mut rest = waiting.as_slice();
            while let Some(event) = session.handle_data(&mut rest)? {
                match event {
                    Event::Head(head) => status = head.status().as_u16(),
                    Event::Data(data) => body.extend_from_slice(data),
                    Event::End(_) => return Ok((status, body, session.is_kept())),
                }
            }
            waiting = rest.to_vec();
        }
        session.handle_end()?;
        Ok((status, body, session.is_kept()))
    }

    #[test]
    fn an_answer_is_the_same_however_it_is_cut() {
        let chunked = "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n";
        for (method, data, expected) in [
            (Method::GET, chunked, Ok((200, "abc", true))),
            (
                Method::GET,
                "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
                Ok((404, "no", true)),
            ),
            (
                Method::GET,
                "HTTP/1.0 200 OK\r\n\r\nabc",
                Ok((200, "abc", false)),
            ),
            (
                Method::HEAD,
                "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
                Ok((200, "", true)),
            ),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc",
                Err(Malformed::Incomplete),
            ),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\n",
                Err(Malformed::Incomplete),
            ),
            (
                Method::GET,
                "HTTP/1.1 101 Switching\r\n\r\n",
                Err(Malformed::Switching),
            ),
        ] {
            let expected = expected.map(|(status, body, kept)| (status, body.into(), kept));
            for size in 1..=data.len() {
                let found = played(method.clone(), data.as_bytes(), size);
                assert_eq!(found, expected, "{data:?} in pieces of {size}");
            }
        }
        let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(17);
        assert_eq!(
            played(Method::GET, endless.as_bytes(), 1000),
            Err(Malformed::Interim)
        );
    }
}
