//! What is known of the files: looked up once, kept for a moment, small ones with their contents.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use nethost_sdk::{Directory, Error, ErrorCode, File, FileKind, FileMetadata, FileOpening};

use super::{coding::Coding, mime};
use crate::codec::date;

/// A folder that is served, and what is known of its files.
pub(super) struct Store {
    directory: Rc<Directory>,
    /// Of the folder within the directory: empty, or with a slash at its end.
    prefix: String,
    known: RefCell<HashMap<String, Rc<Known>>>,
    /// Bytes of all contents that are kept.
    kept: Cell<u64>,
    clock: Cell<u64>,
    settings: Keep,
}

/// How much is kept, and how long it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    pub(super) bytes: u64,
    pub(super) time: Duration,
    pub(super) precompressed: bool,
}

/// What is known of a path.
pub(super) struct Known {
    pub(super) entry: Entry,
    /// When it was looked up, or looked at again.
    checked: Cell<Duration>,
    used: Cell<u64>,
}

/// What there is.
pub(super) enum Entry {
    File(Box<Resource>),
    Directory,
    /// Nothing, or nothing that can be served.
    Missing,
    Forbidden,
}

/// A file, and those beside it that are the same, compressed.
pub(super) struct Resource {
    pub(super) plain: Representation,
    pub(super) compressed: Vec<(Coding, Representation)>,
}

/// One file's bytes and what is said about them.
pub(super) struct Representation {
    metadata: FileMetadata,
    pub(super) etag: String,
    /// The headers of an answer with all of it.
    pub(super) headers: HeaderMap,
    pub(super) size: u64,
    pub(super) content: Content,
}

pub(super) enum Content {
    Memory(Bytes),
    File(Rc<File>),
}

impl Representation {
    /// Seconds since 1970-01-01.
    pub(super) fn modified(&self) -> u64 {
        self.metadata.modified.as_secs()
    }
}

impl Store {
    pub(super) fn new(directory: Rc<Directory>, folder: &str, settings: Keep) -> Self {
        let folder = folder.trim_matches('/');
        Self {
            directory,
            prefix: if folder.is_empty() {
                String::new()
            } else {
                format!("{folder}/")
            },
            known: RefCell::default(),
            kept: Cell::new(0),
            clock: Cell::new(0),
            settings,
        }
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The path in the granted directory.
    pub(super) fn full(&self, path: &str) -> String {
        match format!("{}{path}", self.prefix).trim_end_matches('/') {
            "" => ".".to_owned(),
            full => full.to_owned(),
        }
    }

    /// What is known of a path and still holds.
    pub(super) fn find(&self, path: &str, now: Duration) -> Option<Rc<Known>> {
        let known = self.known.borrow();
        let found = known.get(path)?;
        if now.saturating_sub(found.checked.get()) > self.settings.time {
            return None;
        }
        self.clock.set(self.clock.get() + 1);
        found.used.set(self.clock.get());
        Some(Rc::clone(found))
    }

    /// Finds out what there is.
    pub(super) async fn load(&self, path: &str, now: Duration) -> Result<Rc<Known>, Error> {
        let stale = self.known.borrow().get(path).cloned();
        let full = self.full(path);
        let metadata = match self.directory.stat(&full).await {
            Ok(metadata) => metadata,
            Err(error) => return Ok(self.keep(path, missing(error)?, now)),
        };
        let entry = match metadata.kind {
            FileKind::File => {
                let compressed = self.compressed(&full, &metadata).await?;
                if let Some(stale) = stale
                    && stale.is_still(&metadata, &compressed)
                {
                    stale.checked.set(now);
                    return Ok(stale);
                }
                match self.resource(&full, &metadata, compressed).await {
                    Ok(resource) => Entry::File(Box::new(resource)),
                    Err(error) => missing(error)?,
                }
            }
            FileKind::Directory => Entry::Directory,
            _ => Entry::Missing,
        };
        Ok(self.keep(path, entry, now))
    }

    /// The compressed files beside one that are not older than it.
    async fn compressed(
        &self,
        full: &str,
        plain: &FileMetadata,
    ) -> Result<Vec<(Coding, FileMetadata)>, Error> {
        let mut found = Vec::new();
        if !self.settings.precompressed {
            return Ok(found);
        }
        for coding in Coding::ALL {
            match self
                .directory
                .stat(&format!("{full}{}", coding.extension()))
                .await
            {
                Ok(it) if it.kind == FileKind::File && it.modified >= plain.modified => {
                    found.push((coding, it))
                }
                Ok(_) => {}
                Err(error) => drop(missing(error)?),
            }
        }
        Ok(found)
    }

    async fn resource(
        &self,
        full: &str,
        metadata: &FileMetadata,
        compressed: Vec<(Coding, FileMetadata)>,
    ) -> Result<Resource, Error> {
        let kind = mime::of(full);
        let varies = !compressed.is_empty();
        let plain = self
            .representation(full, metadata, (kind.clone(), None, varies))
            .await?;
        let mut all = Vec::new();
        for (coding, metadata) in compressed {
            let path = format!("{full}{}", coding.extension());
            let representation =
                self.representation(&path, &metadata, (kind.clone(), Some(coding), varies));
            all.push((coding, representation.await?));
        }
        Ok(Resource {
            plain,
            compressed: all,
        })
    }

    async fn representation(
        &self,
        full: &str,
        metadata: &FileMetadata,
        (kind, coding, varies): (HeaderValue, Option<Coding>, bool),
    ) -> Result<Representation, Error> {
        let file = self.directory.open(full, FileOpening::Read).await?;
        let mut size = file.size()?;
        let content = match u32::try_from(size) {
            Ok(length) if size <= SMALL.min(self.settings.bytes) => {
                let bytes = Bytes::from(file.read_at(0, length).await?);
                // It may have become shorter on the way.
                size = bytes.len() as u64;
                Content::Memory(bytes)
            }
            _ => Content::File(Rc::new(file)),
        };
        // With the time in full: two versions of one second are two.
        let etag = format!("\"{:x}-{size:x}\"", metadata.modified.as_nanos());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind);
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            headers.insert(header::ETAG, etag);
        }
        if let Ok(modified) = HeaderValue::from_str(&date::show(metadata.modified)) {
            headers.insert(header::LAST_MODIFIED, modified);
        }
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(coding) = coding {
            headers.insert(
                header::CONTENT_ENCODING,
                HeaderValue::from_static(coding.name()),
            );
        }
        if varies {
            headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        Ok(Representation {
            metadata: *metadata,
            etag,
            headers,
            size,
            content,
        })
    }

    fn keep(&self, path: &str, entry: Entry, now: Duration) -> Rc<Known> {
        self.clock.set(self.clock.get() + 1);
        let known = Rc::new(Known {
            entry,
            checked: Cell::new(now),
            used: Cell::new(self.clock.get()),
        });
        let mut all = self.known.borrow_mut();
        let before = all.insert(path.to_owned(), Rc::clone(&known));
        let freed = before.map_or(0, |it| it.weight());
        self.kept
            .set(self.kept.get().saturating_sub(freed) + known.weight());
        if self.kept.get() > self.settings.bytes.max(MAX_ENTRIES * EMPTY)
            || all.len() as u64 > MAX_ENTRIES
        {
            self.forget(&mut all);
        }
        known
    }

    /// Forgets the half that was not used for the longest time.
    fn forget(&self, all: &mut HashMap<String, Rc<Known>>) {
        let mut used: Vec<u64> = all.values().map(|it| it.used.get()).collect();
        used.sort_unstable();
        let middle = used.get(used.len() / 2).copied().unwrap_or(0);
        all.retain(|_, it| it.used.get() > middle);
        self.kept.set(all.values().map(|it| it.weight()).sum());
    }
}

impl Known {
    /// Bytes that it takes: contents, and what an open file keeps from others.
    fn weight(&self) -> u64 {
        let Entry::File(resource) = &self.entry else {
            return EMPTY;
        };
        let all = resource
            .compressed
            .iter()
            .map(|(_, it)| it)
            .chain([&resource.plain]);
        let weights = all.map(|it| match &it.content {
            Content::Memory(bytes) => bytes.len() as u64 + EMPTY,
            Content::File(_) => OPEN,
        });
        weights.sum()
    }

    fn is_still(&self, plain: &FileMetadata, compressed: &[(Coding, FileMetadata)]) -> bool {
        let Entry::File(resource) = &self.entry else {
            return false;
        };
        let known = resource
            .compressed
            .iter()
            .map(|(coding, it)| (*coding, it.metadata));
        resource.plain.metadata == *plain && known.eq(compressed.iter().copied())
    }
}

/// What an error says of a path; those that are not about it are the answer's.
fn missing(error: Error) -> Result<Entry, Error> {
    match error.code {
        ErrorCode::NotFound | ErrorCode::Invalid => Ok(Entry::Missing),
        ErrorCode::Denied => Ok(Entry::Forbidden),
        _ => Err(error),
    }
}

/// Files up to this are kept with their contents: 128 KiB. Larger ones the host sends.
const SMALL: u64 = 128 << 10;

/// Paths that something is known of, in each folder.
const MAX_ENTRIES: u64 = 4096;

/// What an entry without contents counts: its headers and names, roughly.
const EMPTY: u64 = 1 << 10;

/// What an open file counts: 256 KiB, so that some 64 are open with 16 MiB. The host limits them as well.
const OPEN: u64 = 256 << 10;
