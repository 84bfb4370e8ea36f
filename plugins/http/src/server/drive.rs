//! The task of one request whose answer is not there at once.

use std::{
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};

use http::Response;
use http_body::Body as _;
use nethost_sdk::{Connection, Extent, HIGH_WATER, log, with_session};

use super::{Gate, Http, Rest};
use crate::{
    body::{Body, BodyError, Piece},
    codec::encode::{self, ResponseLength},
    service::Application,
};

/// What there is of an answer.
pub(super) enum Answer {
    /// Nothing yet.
    Later(Pin<Box<dyn Future<Output = Response<Body>>>>),
    /// Its head is written.
    Rest(Rest),
}

/// Waits for an answer and writes it.
pub(super) async fn drive<A: Application>(
    connection: Connection,
    gate: Rc<Gate>,
    answer: Answer,
    stall: Duration,
) {
    let id = connection.id();
    let rest = match answer {
        Answer::Rest(rest) => Some(rest),
        Answer::Later(answer) => {
            let response = answer.await;
            match with_session(id, |http: &mut Http<A>, cx| http.answer(cx, response)) {
                Some(rest) => rest,
                None => return,
            }
        }
    };
    let writer = Writer {
        connection: &connection,
        gate: &gate,
        stall,
    };
    let written = match rest {
        None => Ok(()),
        Some(Rest::Stream(body, length)) => writer.stream(body, length).await,
        Some(Rest::Parts(parts)) => writer.parts(parts).await,
    };
    if let Err(error) = written {
        // The client was promised more than it got, and must not take it for all.
        log::debug!("an answer ended early: {error}");
        connection.abort();
        return;
    }
    with_session(id, Http::<A>::answered);
}

struct Writer<'a> {
    connection: &'a Connection,
    gate: &'a Gate,
    /// How long the client may not take anything.
    stall: Duration,
}

impl Writer<'_> {
    async fn stream(&self, body: Body, length: ResponseLength) -> Result<(), BodyError> {
        let mut body = pin!(body);
        let mut left = match length {
            ResponseLength::Known(length) => length,
            _ => u64::MAX,
        };
        let mut output = Vec::new();
        let mut trailers = None;
        while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let data = match frame?.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
            };
            let size = data.len() as u64;
            left = left
                .checked_sub(size)
                .ok_or_else(|| BodyError::Failed("it is longer than was said".into()))?;
            for piece in data.chunks(PIECE) {
                if length == ResponseLength::Chunked {
                    output.clear();
                    encode::chunk(&mut output, piece);
                    self.write(&output).await;
                } else {
                    self.write(piece).await;
                }
            }
        }
        match length {
            ResponseLength::Chunked => {
                output.clear();
                encode::last_chunk(&mut output, trailers.as_ref());
                self.write(&output).await;
            }
            ResponseLength::Known(_) if left > 0 => {
                return Err(BodyError::Failed("it is shorter than was said".into()));
            }
            _ => {}
        }
        Ok(())
    }

    async fn parts(&self, parts: Vec<Piece>) -> Result<(), BodyError> {
        self.connection.set_idle_timeout(Some(self.stall));
        for part in parts {
            match part {
                Piece::Bytes(bytes) => drop(self.connection.write(&bytes)),
                Piece::File {
                    file,
                    offset,
                    length,
                } => {
                    let extent = Extent::all().from(offset).length(length);
                    let sent = self.connection.send_file(&file, extent).await;
                    sent.map_err(|error| BodyError::Failed(error.into()))?;
                }
            }
        }
        Ok(())
    }

    async fn write(&self, data: &[u8]) {
        if self.connection.write(data) < HIGH_WATER {
            return;
        }
        self.gate.close();
        self.connection.set_idle_timeout(Some(self.stall));
        self.gate.passed().await;
        self.connection.set_idle_timeout(None);
    }
}

/// Bytes of one chunk: 64 KiB, so that no queue grows past twice its high-water mark.
const PIECE: usize = 64 << 10;
