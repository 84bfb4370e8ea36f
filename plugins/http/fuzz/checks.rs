//! What must hold for any input. Used by the crate `nethost-fuzz` and, with inputs from a seeded generator, by `tests/properties.rs`.

use http::HeaderMap;
use nethost_http::{
    codec::{
        body::{Decoder, Part},
        framing::BodyLength,
        head::decode,
    },
    session::{Event, Heads, Session},
    types::{Limits, Refusal},
};

/// What is taken for a head, `httparse` takes for the same one. The other way round does not hold: this parser is stricter.
pub(crate) fn head(data: &[u8]) {
    let limits = Limits::default();
    let mut fields = Vec::new();
    let Ok(Some(head)) = decode(data, &limits, &mut fields) else {
        return;
    };
    let mut headers = vec![httparse::EMPTY_HEADER; limits.headers];
    let mut theirs = httparse::Request::new(&mut headers);
    let version = data.get(head.target.end + 1..head.target.end + 9);
    if !matches!(version, Some(b"HTTP/1.1" | b"HTTP/1.0")) {
        // `httparse` knows no later minor version.
        return;
    }
    let length = theirs.parse(data).expect("httparse refuses what was taken");
    assert_eq!(length, httparse::Status::Complete(head.length));
    assert_eq!(
        theirs.method.map(str::as_bytes),
        data.get(head.method.clone())
    );
    assert_eq!(
        theirs.path.map(str::as_bytes),
        data.get(head.target.clone())
    );
    assert_eq!(theirs.headers.len(), fields.len());
    for (ours, theirs) in fields.iter().zip(theirs.headers.iter()) {
        assert_eq!(Some(theirs.name.as_bytes()), data.get(ours.name.clone()));
        assert_eq!(Some(theirs.value), data.get(ours.value.clone()));
    }
}

/// A chunked body is the same however it is cut; and where it has no extensions, the sizes are those that `httparse` reads.
pub(crate) fn chunked(data: &[u8]) {
    let whole = unchunked(data, data.len().max(1));
    for size in [1, 2, 7] {
        assert_eq!(unchunked(data, size), whole, "by {size}");
    }
    if let (Ok((body, _, Some(_))), Ok(httparse::Status::Complete((at, size)))) =
        (&whole, httparse::parse_chunk_size(data))
    {
        let first = data.get(at..).unwrap_or_default();
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(body.len());
        assert_eq!(first.get(..size), body.get(..size));
    }
}

/// A connection's requests are the same however their bytes are cut.
pub(crate) fn session(data: &[u8]) {
    let whole = played(data, data.len().max(1));
    for size in [1, 3, 64] {
        assert_eq!(played(data, size), whole, "by {size}");
    }
}

type Unchunked = (Vec<u8>, HeaderMap, Option<usize>);

/// The body, its trailers, and how many bytes it took, if it has an end.
fn unchunked(data: &[u8], size: usize) -> Result<Unchunked, Refusal> {
    let mut decoder = Decoder::new(BodyLength::Chunked, &Limits::default())?;
    let mut body = Vec::new();
    let mut at = 0;
    for piece in data.chunks(size) {
        let mut rest = piece;
        while let Some(part) = decoder.decode(&mut rest)? {
            match part {
                Part::Data(data) => body.extend_from_slice(data),
                Part::End(trailers) => {
                    return Ok((body, trailers, Some(at + piece.len() - rest.len())));
                }
            }
        }
        at += piece.len();
    }
    Ok((body, HeaderMap::new(), None))
}

/// What happens, in words; every request is answered at once.
fn played(data: &[u8], size: usize) -> (Vec<String>, bool) {
    let (mut session, limits, mut heads) =
        (Session::default(), Limits::default(), Heads::default());
    let mut told: Vec<String> = Vec::new();
    let mut is_body = false;
    for piece in data.chunks(size) {
        let mut rest = piece;
        loop {
            match session.next(&mut rest, &limits, &mut heads) {
                Ok(Some(Event::Request(incoming))) => {
                    is_body = false;
                    told.push(format!("{:?} {:?}", incoming.request, incoming.framing));
                    session.handle_answered();
                }
                Ok(Some(Event::Data(data))) => {
                    let text = format!("{data:02x?}").replace(['[', ']', ',', ' '], "");
                    match told.last_mut().filter(|_| is_body) {
                        Some(last) => last.push_str(&text),
                        None => told.push(text),
                    }
                    is_body = true;
                }
                Ok(Some(Event::End(trailers))) => {
                    is_body = false;
                    told.push(format!("end {trailers:?}"));
                }
                Ok(None) => break,
                // Where it is noticed depends on the pieces, that it is wrong does not.
                Err(_) => return (told, false),
            }
        }
        assert!(rest.is_empty(), "bytes are left, and nothing is waited for");
    }
    (told, true)
}
