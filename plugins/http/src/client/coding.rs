//! Bodies that come compressed: `gzip`, `br` and `zstd`, decoded as they come.
//!
//! However much a few bytes say they are, one step makes at most 64 KiB of them (of `zstd` one block, 128 KiB), and the next is made when that was taken. What a decoder
//! keeps is bounded by its format: 32 KiB for `gzip`, 16 MiB for `br`, and for `zstd` the 8 MiB that [RFC 9659](https://www.rfc-editor.org/rfc/rfc9659.html) allows.

use std::{
    collections::VecDeque,
    io::{self, Read},
    pin::Pin,
    task::{Context, Poll, ready},
};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, header};
use http_body::{Body, Frame};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::error::Error;

/// What is asked for.
pub(super) const ACCEPTED: &str = "gzip, br, zstd";

/// A coding that is decoded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

impl Coding {
    /// The coding of a body; none if it has none, several, or one that is not known here.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        match value.as_bytes().to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"br" => Some(Self::Brotli),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// A body, decoded.
pub(super) struct Decoded<B> {
    body: B,
    coding: Coding,
    decoder: Decoder,
    /// The body's end was reached.
    is_fed: bool,
    is_over: bool,
}

impl<B> Decoded<B> {
    pub(super) fn new(body: B, coding: Coding) -> Self {
        Self {
            body,
            coding,
            decoder: Decoder::new(coding),
            is_fed: false,
            is_over: false,
        }
    }

    fn failed(&mut self, error: &io::Error) -> Error {
        self.is_over = true;
        Error::Coding(self.coding.name(), error.to_string())
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Decoded<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            match self.decoder.step() {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(self.failed(&error)))),
            }
            if self.is_fed {
                if !self.decoder.is_complete() {
                    let error = io::ErrorKind::UnexpectedEof.into();
                    return Poll::Ready(Some(Err(self.failed(&error))));
                }
                self.is_over = true;
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    self.is_fed = true;
                    self.decoder.end();
                }
                Some(Err(error)) => {
                    self.is_over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.feed(&data);
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

enum Decoder {
    Gzip(Box<MultiGzDecoder<Input>>, Ended),
    Brotli(Box<Brotli>),
    Zstd(Box<Zstd>),
}

/// Whether a decoder has come to the end of what is compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Reached,
    Ahead,
}

impl Decoder {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => {
                let decoder = MultiGzDecoder::new(Input::default());
                Self::Gzip(Box::new(decoder), Ended::Ahead)
            }
            Coding::Brotli => Self::Brotli(Box::new(Brotli::new())),
            Coding::Zstd => Self::Zstd(Box::new(Zstd::new())),
        }
    }

    fn feed(&mut self, data: &[u8]) {
        match self {
            Self::Gzip(decoder, _) => decoder.get_mut().feed(data),
            Self::Brotli(brotli) => brotli.waiting.extend_from_slice(data),
            Self::Zstd(zstd) => zstd.waiting.extend_from_slice(data),
        }
    }

    fn end(&mut self) {
        if let Self::Gzip(decoder, _) = self {
            decoder.get_mut().has_ended = true;
        }
    }

    /// Whether nothing is missing. A body without a byte is complete in any coding: servers send it so.
    fn is_complete(&self) -> bool {
        match self {
            Self::Gzip(decoder, ended) => {
                let input = decoder.get_ref();
                input.is_untouched() || *ended == Ended::Reached && input.waiting.is_empty()
            }
            Self::Brotli(brotli) => brotli.is_over || !brotli.has_begun,
            Self::Zstd(zstd) => !zstd.is_within && zstd.waiting.is_empty(),
        }
    }

    /// Some more bytes; none if more has to be fed.
    fn step(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Gzip(decoder, ended) => {
                if decoder.get_ref().is_untouched() {
                    return Ok(None);
                }
                let mut output = vec![0; STEP];
                match decoder.read(&mut output) {
                    Ok(0) => {
                        *ended = Ended::Reached;
                        Ok(None)
                    }
                    Ok(count) => {
                        output.truncate(count);
                        Ok(Some(output.into()))
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Self::Brotli(brotli) => brotli.step(),
            Self::Zstd(zstd) => zstd.step(),
        }
    }
}

/// What was fed, for a decoder that reads.
#[derive(Default)]
struct Input {
    waiting: VecDeque<u8>,
    has_begun: bool,
    has_ended: bool,
}

impl Input {
    fn feed(&mut self, data: &[u8]) {
        self.has_begun |= !data.is_empty();
        self.waiting.extend(data);
    }

    fn is_untouched(&self) -> bool {
        !self.has_begun
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.waiting.is_empty() && !self.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.waiting.read(buffer)
    }
}

impl io::BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.waiting.is_empty() && !self.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.waiting.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.waiting.consume(count);
    }
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    waiting: Vec<u8>,
    total: usize,
    has_begun: bool,
    is_over: bool,
}

impl Brotli {
    fn new() -> Self {
        let allocator = StandardAlloc::default;
        Self {
            state: BrotliState::new(allocator(), allocator(), allocator()),
            waiting: Vec::new(),
            total: 0,
            has_begun: false,
            is_over: false,
        }
    }

    fn step(&mut self) -> io::Result<Option<Bytes>> {
        self.has_begun |= !self.waiting.is_empty();
        if self.is_over {
            return match self.waiting.is_empty() {
                true => Ok(None),
                false => Err(invalid("something comes after its end")),
            };
        }
        let mut output = vec![0; STEP];
        let (mut available, mut used) = (self.waiting.len(), 0);
        let (mut room, mut made) = (output.len(), 0);
        let result = BrotliDecompressStream(
            &mut available,
            &mut used,
            &self.waiting,
            &mut room,
            &mut made,
            &mut output,
            &mut self.total,
            &mut self.state,
        );
        self.waiting.drain(..used.min(self.waiting.len()));
        match result {
            BrotliResult::ResultFailure => return Err(invalid("it is malformed")),
            BrotliResult::ResultSuccess => self.is_over = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        output.truncate(made);
        if output.is_empty() && self.is_over && !self.waiting.is_empty() {
            return Err(invalid("something comes after its end"));
        }
        Ok((!output.is_empty()).then(|| output.into()))
    }
}

struct Zstd {
    frame: FrameDecoder,
    waiting: Vec<u8>,
    is_within: bool,
    has_checksum: bool,
}

impl Zstd {
    fn new() -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(ZSTD_WINDOW);
        Self {
            frame,
            waiting: Vec::new(),
            is_within: false,
            has_checksum: false,
        }
    }

    /// A header, a block and a checksum are decoded when they are there as a whole.
    fn step(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if !self.is_within {
                match self.header()? {
                    true => continue,
                    false if !self.is_within => return Ok(None),
                    false => {}
                }
            }
            if self.frame.can_collect() > 0 {
                let data = self.frame.collect().unwrap_or_default();
                if !data.is_empty() {
                    return Ok(Some(data.into()));
                }
            }
            if self.frame.is_finished() {
                self.is_within = false;
                self.checked()?;
                continue;
            }
            if !self.has_block() {
                return Ok(None);
            }
            let mut rest = self.waiting.as_slice();
            let one = BlockDecodingStrategy::UptoBlocks(1);
            let decoded = self.frame.decode_blocks(&mut rest, one);
            decoded.map_err(|error| invalid(&error.to_string()))?;
            let used = self.waiting.len() - rest.len();
            self.waiting.drain(..used);
        }
    }

    fn checked(&self) -> io::Result<()> {
        match self.frame.get_checksum_from_data() {
            Some(told) if self.frame.get_calculated_checksum() != Some(told) => {
                Err(invalid("its checksum is wrong"))
            }
            _ => Ok(()),
        }
    }

    /// Begins a frame, or passes a skippable one over and returns true; it does neither if not all of it is there.
    fn header(&mut self) -> io::Result<bool> {
        let [a, b, c, d, rest @ ..] = self.waiting.as_slice() else {
            return Ok(false);
        };
        let magic = u32::from_le_bytes([*a, *b, *c, *d]);
        if magic & 0xffff_fff0 == 0x184d_2a50 {
            return Err(invalid("it has a skippable frame"));
        }
        // `Frame_Header_Descriptor [Window_Descriptor] [Dictionary_ID] [Frame_Content_Size]`
        let Some(descriptor) = rest.first() else {
            return Ok(false);
        };
        let has_checksum = descriptor & 4 != 0;
        let is_single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied();
        let size = match descriptor >> 6 {
            0 => usize::from(is_single),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let length = 5 + usize::from(!is_single) + dictionary.unwrap_or(0) + size;
        if self.waiting.len() < length {
            return Ok(false);
        }
        let mut rest = self.waiting.as_slice();
        let begun = self.frame.reset(&mut rest);
        begun.map_err(|error| invalid(&error.to_string()))?;
        let used = self.waiting.len() - rest.len();
        self.waiting.drain(..used);
        self.is_within = true;
        self.has_checksum = has_checksum;
        Ok(false)
    }

    /// Whether the next block is there, with the checksum if it may be the last one.
    fn has_block(&self) -> bool {
        let [a, b, c, rest @ ..] = self.waiting.as_slice() else {
            return false;
        };
        let header = u32::from_le_bytes([*a, *b, *c, 0]);
        let length = match header >> 1 & 3 {
            1 => 1,
            _ => usize::try_from(header >> 3).unwrap_or(usize::MAX),
        };
        let is_last = header & 1 == 1;
        // Four bytes of checksum, if the frame has one: without it nothing follows, and waiting for it would be for ever.
        let checksum = match is_last && self.has_checksum {
            true => 4,
            false => 0,
        };
        rest.len() >= length.min(MAX_BLOCK).saturating_add(checksum)
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// Bytes that one step makes: 64 KiB.
const STEP: usize = 64 << 10;

/// [RFC 9659 section 3](https://www.rfc-editor.org/rfc/rfc9659.html#section-3)
const ZSTD_WINDOW: u64 = 8 << 20;

/// `Block_Maximum_Size`: 128 KiB.
const MAX_BLOCK: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Decodes it, fed in pieces of this size.
    fn decoded(coding: Coding, data: &[u8], size: usize) -> io::Result<Option<Vec<u8>>> {
        let mut decoder = Decoder::new(coding);
        let mut output = Vec::new();
        for piece in data.chunks(size) {
            decoder.feed(piece);
            while let Some(data) = decoder.step()? {
                assert!(data.len() <= ZSTD_WINDOW as usize);
                output.extend_from_slice(&data);
            }
        }
        decoder.end();
        while let Some(data) = decoder.step()? {
            output.extend_from_slice(&data);
        }
        Ok(decoder.is_complete().then_some(output))
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        ruzstd::encoding::compress_to_vec(data, level)
    }

    const BROTLI: &[u8] = b"\x0b\x02\x80hello\x03";

    #[test]
    fn what_is_compressed_comes_back_however_it_is_cut() {
        for (coding, data) in [
            (Coding::Gzip, gzip(b"hello")),
            (Coding::Brotli, BROTLI.to_vec()),
            (Coding::Zstd, zstd(b"hello")),
        ] {
            for size in 1..=data.len() {
                let found = decoded(coding, &data, size).unwrap();
                assert_eq!(found.as_deref(), Some(&b"hello"[..]), "{coding:?} {size}");
            }
            assert_eq!(
                decoded(coding, b"", 1).unwrap(),
                Some(Vec::new()),
                "{coding:?}"
            );
            for cut in 1..data.len() {
                let found = decoded(coding, &data[..cut], 100);
                assert!(!matches!(found, Ok(Some(_))), "{coding:?} cut at {cut}");
            }
            let mut other = data.clone();
            other.extend_from_slice(b"rest");
            let found = decoded(coding, &other, 100);
            assert!(
                !matches!(found, Ok(Some(_))),
                "{coding:?} with more after it"
            );
        }
    }

    #[test]
    fn much_comes_in_steps() {
        let plain: Vec<u8> = (0..3_000_000_u32)
            .flat_map(|at| [at as u8, (at >> 9) as u8])
            .collect();
        for (coding, data) in [(Coding::Gzip, gzip(&plain)), (Coding::Zstd, zstd(&plain))] {
            let found = decoded(coding, &data, 5000).unwrap();
            assert!(found == Some(plain.clone()), "{coding:?}");
        }
        let mut decoder = Decoder::new(Coding::Gzip);
        decoder.feed(&gzip(&vec![0; 10 << 20]));
        let first = decoder.step().unwrap().unwrap();
        assert!(first.len() <= STEP);
    }
}
