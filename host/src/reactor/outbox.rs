//! What a connection has yet to send: a queue of chunks, some owned, some shared with the other members of a group.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

/// The unsent bytes of one connection, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are sent already.
    sent: usize,
    /// Unsent bytes in all.
    len: usize,
}

#[derive(Debug)]
enum Chunk {
    Owned(Vec<u8>),
    Shared(Bytes),
}

impl Outbox {
    /// Returns how many bytes are unsent.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns whether everything is sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues a copy of the bytes, joined to what was queued before, so that many small writes leave in one packet.
    pub(crate) fn push(&mut self, data: &[u8], pool: &mut BufferPool) {
        if data.is_empty() {
            return;
        }
        self.len += data.len();
        if let Some(Chunk::Owned(last)) = self.chunks.back_mut()
            && last.len() + data.len() <= CHUNK_SIZE
        {
            last.extend_from_slice(data);
            return;
        }
        let mut chunk = pool.take();
        chunk.extend_from_slice(data);
        self.chunks.push_back(Chunk::Owned(chunk));
    }

    /// Queues bytes that other connections send as well; they are not copied.
    pub(crate) fn push_shared(&mut self, data: &Bytes) {
        if data.is_empty() {
            return;
        }
        self.len += data.len();
        self.chunks.push_back(Chunk::Shared(data.clone()));
    }

    /// Fills the slices with what is to be sent next, for one `writev`, and returns how many it filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.sent;
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk.as_slice().get(skip..).unwrap_or_default());
            skip = 0;
            filled += 1;
        }
        filled
    }

    /// Takes note that this many bytes were sent.
    pub(crate) fn advance(&mut self, mut count: usize, pool: &mut BufferPool) {
        self.len = self.len.saturating_sub(count);
        while let Some(first) = self.chunks.front() {
            let rest = first.as_slice().len() - self.sent;
            if count < rest {
                self.sent += count;
                return;
            }
            count -= rest;
            self.sent = 0;
            if let Some(Chunk::Owned(buffer)) = self.chunks.pop_front() {
                pool.give(buffer);
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(data) => data,
            Self::Shared(data) => data,
        }
    }
}

/// A worker's spare buffers, so that a connection holds one only while it has something to send.
#[derive(Debug, Default)]
pub(crate) struct BufferPool(Vec<Vec<u8>>);

impl BufferPool {
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < POOLED_BUFFERS && buffer.capacity() <= CHUNK_SIZE {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// A chunk grows to this: 64 KiB, the size of a read, so that an echo is one chunk.
const CHUNK_SIZE: usize = 64 << 10;

/// Spare buffers a worker keeps: at most 64 of at most 64 KiB each, 4 MiB.
const POOLED_BUFFERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn unsent(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = outbox.slices(&mut slices);
        slices[..filled]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    #[test]
    fn order_is_kept_between_own_and_shared_chunks() {
        let mut pool = BufferPool::default();
        let mut outbox = Outbox::default();
        outbox.push(b"one ", &mut pool);
        outbox.push(b"two ", &mut pool);
        outbox.push_shared(&Bytes::from_static(b"three "));
        outbox.push(b"four", &mut pool);
        assert_eq!(outbox.chunks.len(), 3);
        assert_eq!(unsent(&outbox), b"one two three four");
        assert_eq!(outbox.len(), 18);
    }

    #[test]
    fn every_way_of_sending_in_two_parts_leaves_the_rest() {
        for first in 0..=18 {
            let mut pool = BufferPool::default();
            let mut outbox = Outbox::default();
            outbox.push(b"one two ", &mut pool);
            outbox.push_shared(&Bytes::from_static(b"three "));
            outbox.push(b"four", &mut pool);
            outbox.advance(first, &mut pool);
            assert_eq!(unsent(&outbox), &b"one two three four"[first..]);
            outbox.advance(18 - first, &mut pool);
            assert!(outbox.is_empty() && outbox.chunks.is_empty());
        }
    }

    #[test]
    fn the_pool_is_bounded() {
        let mut pool = BufferPool::default();
        for _ in 0..2 * POOLED_BUFFERS {
            pool.give(Vec::with_capacity(10));
        }
        pool.give(Vec::with_capacity(CHUNK_SIZE * 2));
        assert_eq!(pool.0.len(), POOLED_BUFFERS);
    }
}
