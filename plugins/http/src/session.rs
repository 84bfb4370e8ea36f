//! One connection's requests, one after another: where a head and a body begin and end, and when the time for them is over. No bytes of answers, no host calls.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use memchr::memchr;

use crate::{
    codec::{
        body::{Decoder, Part},
        framing::{BodyLength, Framing},
        head::{self, Field},
    },
    types::{Limits, Refusal},
};

/// What a connection has received, and what it waits for.
#[derive(Debug, Default)]
pub struct Session {
    state: State,
    /// The beginning of a head. At most the limits of a request line and of headers together, and one delivery more.
    held: Vec<u8>,
    /// Whether the request that was told last waits for its answer.
    unanswered: bool,
    /// Since when the client has to send something.
    since: Option<Duration>,
}

/// What is next.
#[derive(Debug)]
pub enum Event<'a> {
    /// A request's head. If it has a body, that follows, and its end.
    Request(Incoming),
    /// A part of the body.
    Data(&'a [u8]),
    /// The end of the body, with its trailers.
    End(HeaderMap),
}

/// A request whose head is there.
#[derive(Debug)]
pub struct Incoming {
    /// The request.
    pub request: Request<()>,
    /// Its head, as it came.
    pub head: Bytes,
    /// Where its header lines begin in that.
    pub fields: usize,
    /// What it says about its body and the connection.
    pub framing: Framing,
}

/// What the sessions of an instance share while they read heads; a new one for each would do as well.
#[derive(Debug, Default)]
pub struct Heads {
    /// Space for where the header lines are.
    fields: Vec<Field>,
    last: Option<Last>,
}

/// The last head. Clients that ask for the same thing again send the same bytes, and the same bytes are the same request.
#[derive(Debug)]
struct Last {
    head: Bytes,
    /// What it is, once it has come twice.
    known: Option<(Request<()>, usize, Framing)>,
}

impl Heads {
    /// The request at the beginning of `data`, if it is known already.
    fn known(&self, data: &[u8]) -> Option<Incoming> {
        let last = self.last.as_ref()?;
        let (request, fields, framing) = last.known.as_ref()?;
        data.starts_with(&last.head).then(|| Incoming {
            request: request.clone(),
            head: last.head.clone(),
            fields: *fields,
            framing: *framing,
        })
    }

    /// Takes note of a request.
    fn note(&mut self, incoming: &Incoming) {
        let head = &incoming.head;
        if head.len() > MAX_KNOWN {
            return;
        }
        let is_again = self.last.as_ref().is_some_and(|last| last.head == *head);
        self.last = Some(Last {
            head: head.clone(),
            known: is_again.then(|| {
                let request = incoming.request.clone();
                (request, incoming.fields, incoming.framing)
            }),
        });
    }
}

/// What the connection is in the middle of.
#[derive(Debug, Default)]
enum State {
    /// Between two requests, or in a head.
    #[default]
    Head,
    /// In a body.
    Body(Box<Decoder>),
    /// The connection ends. What comes is thrown away, so that the client reads the answer: a connection that is closed with bytes unread is reset, and
    /// takes the answer along ([RFC 9112 section 9.6](https://www.rfc-editor.org/rfc/rfc9112.html#section-9.6-10)).
    Lingering { left: usize },
}

/// What the client is late with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// A head or a body: this is answered with 408.
    Request,
    /// Its end of the connection, after ours.
    End,
}

impl Session {
    /// One that goes on where another one, whose [`held`](Self::held) bytes these are, has stopped.
    pub fn resumed(held: Vec<u8>) -> Self {
        Self {
            held,
            ..Self::default()
        }
    }

    /// Takes what is next from the beginning of `data`. None means that all of it was taken and more is needed; or that the last request has to be
    /// answered first, and then what is left stays in `data`. After an error nothing is to come but [`linger`](Self::linger).
    pub fn next<'a>(
        &mut self,
        data: &mut &'a [u8],
        limits: &Limits,
        heads: &mut Heads,
    ) -> Result<Option<Event<'a>>, Refusal> {
        match &mut self.state {
            State::Head if self.unanswered => Ok(None),
            State::Head if data.is_empty() => Ok(None),
            State::Head => {
                if self.held.is_empty()
                    && let Some(incoming) = heads.known(data)
                {
                    *data = data.get(incoming.head.len()..).unwrap_or_default();
                    return self.begun(incoming, limits).map(Some);
                }
                let Some(incoming) = self.head(data, limits, &mut heads.fields)? else {
                    return Ok(None);
                };
                heads.note(&incoming);
                self.begun(incoming, limits).map(Some)
            }
            State::Body(decoder) => Ok(match decoder.decode(data)? {
                Some(Part::Data(data)) => Some(Event::Data(data)),
                Some(Part::End(trailers)) => {
                    self.state = State::Head;
                    self.since = None;
                    Some(Event::End(trailers))
                }
                None => None,
            }),
            State::Lingering { left } => {
                *left = left.saturating_sub(data.len());
                *data = &[];
                Ok(None)
            }
        }
    }

    fn head(
        &mut self,
        data: &mut &[u8],
        limits: &Limits,
        fields: &mut Vec<Field>,
    ) -> Result<Option<Incoming>, Refusal> {
        let before = self.held.len();
        let decoded = if before == 0 {
            head::decode(data, limits, fields)?
        } else {
            self.held.extend_from_slice(data);
            // Without an LF no line is complete: looking at all of it for every byte would be work without end.
            let is_complete = memchr(b'\n', data).is_some();
            if is_complete || self.held.len() > limits.request_line + limits.header_bytes {
                head::decode(&self.held, limits, fields)?
            } else {
                if before < head::FIRST_LOOK
                    && memchr(b'\n', self.held.get(2..).unwrap_or_default()).is_none()
                {
                    head::begins_well(&self.held)?;
                }
                None
            }
        };
        let Some(head) = decoded else {
            if before == 0 {
                self.held.extend_from_slice(data);
            }
            *data = &[];
            return Ok(None);
        };
        let bytes = if before == 0 {
            let taken = data.get(..head.length).unwrap_or_default();
            Bytes::copy_from_slice(taken)
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.truncate(head.length);
            Bytes::from(held)
        };
        *data = data
            .get(head.length.saturating_sub(before)..)
            .unwrap_or_default();
        let framing = Framing::of(&bytes, &head, fields)?;
        let request = head.request(&bytes, fields)?;
        Ok(Some(Incoming {
            request,
            head: bytes,
            fields: head.fields,
            framing,
        }))
    }

    /// A head is there.
    fn begun(&mut self, incoming: Incoming, limits: &Limits) -> Result<Event<'static>, Refusal> {
        let length = incoming.framing.body;
        if length != BodyLength::Known(0) {
            self.state = State::Body(Box::new(Decoder::new(length, limits)?));
        }
        self.unanswered = true;
        self.since = None;
        Ok(Event::Request(incoming))
    }

    /// The last request has its answer: the next one may come.
    pub fn handle_answered(&mut self) {
        self.unanswered = false;
    }

    /// The connection ends: everything that comes is thrown away.
    pub fn linger(&mut self, now: Duration) {
        self.held = Vec::new();
        self.unanswered = false;
        self.since = Some(now);
        self.state = State::Lingering {
            left: MAX_LINGERING,
        };
    }

    /// Takes note of the time, after something came. Called only if [`is_waiting`](Self::is_waiting).
    pub fn handle_time(&mut self, now: Duration) {
        match &self.state {
            // A head has its time from its first byte on, and whoever ends the connection from that on.
            State::Head | State::Lingering { .. } => drop(self.since.get_or_insert(now)),
            State::Body(_) => self.since = Some(now),
        }
    }

    /// When the client is late, if it has to send something.
    pub fn poll_timeout(&self, limits: &Limits) -> Option<Duration> {
        let time = match &self.state {
            State::Head => limits.head_time,
            State::Body(_) => limits.body_time,
            State::Lingering { .. } => LINGERING_TIME,
        };
        self.since
            .filter(|_| self.is_waiting())
            .map(|since| since + time)
    }

    /// Time has passed. Tells what the client is late with, if anything.
    pub fn handle_timeout(&mut self, limits: &Limits, now: Duration) -> Option<Late> {
        self.poll_timeout(limits).filter(|late| *late <= now)?;
        Some(match self.state {
            State::Lingering { .. } => Late::End,
            _ => Late::Request,
        })
    }

    /// Whether the client has begun something that it has to go on with.
    pub fn is_waiting(&self) -> bool {
        match self.state {
            State::Head => !self.held.is_empty(),
            State::Body(_) | State::Lingering { .. } => true,
        }
    }

    /// Whether the body of the last request is still to come, or a part of it.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Whether the connection is ending, and whether enough was thrown away.
    pub fn lingers(&self) -> Option<bool> {
        match self.state {
            State::Lingering { left } => Some(left == 0),
            _ => None,
        }
    }

    /// Between two requests: what has come of the next one. None in the middle of one.
    pub fn held(&self) -> Option<&[u8]> {
        matches!(self.state, State::Head)
            .then_some(&self.held)
            .filter(|_| !self.unanswered)
            .map(Vec::as_slice)
    }
}

/// Bytes of the longest head that is kept: 2 KiB, what browsers send.
const MAX_KNOWN: usize = 2 << 10;

/// Bytes that are thrown away at a connection's end: 1 MiB, for clients that do not look at answers before they have sent everything.
const MAX_LINGERING: usize = 1 << 20;

/// How long a client may take to end the connection after the server did: 2 s, as Apache waits.
const LINGERING_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays bytes in pieces; every request is answered at once.
    fn events(data: &[u8], size: usize) -> Result<Vec<String>, Refusal> {
        let (mut session, limits, mut heads) =
            (Session::default(), Limits::default(), Heads::default());
        let mut told = Vec::new();
        for piece in data.chunks(size) {
            let mut rest = piece;
            loop {
                match session.next(&mut rest, &limits, &mut heads)? {
                    Some(Event::Request(incoming)) => {
                        told.push(format!(
                            "{} {}",
                            incoming.request.method(),
                            incoming.request.uri()
                        ));
                        session.handle_answered();
                    }
                    Some(Event::Data(data)) => {
                        let text = String::from_utf8_lossy(data);
                        match told.last_mut() {
                            Some(last) if last.starts_with('"') => last.push_str(&text),
                            _ => told.push(format!("\"{text}")),
                        }
                    }
                    Some(Event::End(_)) => told.push("end".to_owned()),
                    None => break,
                }
            }
            assert!(rest.is_empty());
        }
        Ok(told)
    }

    #[test]
    fn requests_follow_each_other_however_they_are_cut() {
        let data = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\
            PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\r\nGET /d HTTP/1.1\r\nHost: x\r\n\r\n";
        let expected = [
            "GET /a", "POST /b", "\"abc", "end", "PUT /c", "\"de", "end", "GET /d",
        ];
        for size in 1..=data.len() {
            assert_eq!(events(data, size).unwrap(), expected, "{size}");
        }
    }

    #[test]
    fn the_same_head_is_the_same_request_and_another_is_another() {
        let get =
            |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
        let paths = ["/a", "/a", "/a", "/b", "/a", "/a", "/a", "/aa", "/a"];
        let data = paths.map(get).concat();
        let expected: Vec<String> = paths
            .iter()
            .flat_map(|path| [format!("GET {path}"), "\"hi".to_owned(), "end".to_owned()])
            .collect();
        for size in [1, 30, 58, 59, 1000] {
            assert_eq!(events(data.as_bytes(), size).unwrap(), expected, "{size}");
        }
        // One that is not complete waits for the rest, though it begins like the last one.
        let data = format!("{}{}GET /a HTTP/1.1\r\nHost: x\r\n", get("/a"), get("/a"));
        assert_eq!(events(data.as_bytes(), 1000).unwrap().len(), 6);
    }

    #[test]
    fn a_request_waits_for_the_answer_to_the_one_before() {
        let (mut session, limits, mut heads) =
            (Session::default(), Limits::default(), Heads::default());
        let mut data = &b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"[..];
        assert!(
            session
                .next(&mut data, &limits, &mut heads)
                .unwrap()
                .is_some()
        );
        assert!(
            session
                .next(&mut data, &limits, &mut heads)
                .unwrap()
                .is_none()
        );
        assert!(data.starts_with(b"GET /b"));
        session.handle_answered();
        assert!(
            session
                .next(&mut data, &limits, &mut heads)
                .unwrap()
                .is_some()
        );
        assert!(data.is_empty());
    }

    #[test]
    fn time_is_given_for_heads_from_the_first_byte_and_for_bodies_from_the_last() {
        let (mut session, limits, mut heads) =
            (Session::default(), Limits::default(), Heads::default());
        let second = Duration::from_secs;
        let mut feed = |session: &mut Session, data: &str, now: u64| {
            let mut data = data.as_bytes();
            while session
                .next(&mut data, &limits, &mut heads)
                .unwrap()
                .is_some()
            {}
            if session.is_waiting() {
                session.handle_time(second(now));
            }
        };
        assert_eq!(session.poll_timeout(&limits), None);
        feed(&mut session, "P", 1);
        feed(&mut session, "UT / HTTP/1.1\r\n", 5);
        assert_eq!(session.poll_timeout(&limits), Some(second(21)));
        feed(&mut session, "Host: x\r\nContent-Length: 3\r\n\r\n", 9);
        feed(&mut session, "a", 10);
        assert_eq!(session.poll_timeout(&limits), Some(second(70)));
        assert_eq!(session.handle_timeout(&limits, second(69)), None);
        assert_eq!(
            session.handle_timeout(&limits, second(70)),
            Some(Late::Request)
        );
        feed(&mut session, "bc", 11);
        assert_eq!(session.poll_timeout(&limits), None);
        session.linger(second(20));
        assert_eq!(session.poll_timeout(&limits), Some(second(22)));
        assert_eq!(session.handle_timeout(&limits, second(22)), Some(Late::End));
    }
}
