//! Directories, page by page.

use std::{io, mem::MaybeUninit, os::fd::AsFd};

use rustix::{
    fs::{AtFlags, RawDir, SeekFrom, seek, statat},
    io::Errno,
};

use super::Metadata;
use crate::limits::STORAGE_ENTRIES;

/// A part of a directory's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// How many more there were whose names are not UTF-8.
    pub(crate) unnameable: u32,
    /// Where to go on; none after the last.
    pub(crate) next: Option<u64>,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) metadata: Metadata,
}

/// Reads from where a page before said, or 0. The position is the file system's own, as in `telldir(3)`: those that NFS can export keep it from one opening to the
/// next.
pub(super) fn page(folder: impl AsFd, start: u64) -> io::Result<Page> {
    seek(&folder, SeekFrom::Start(start))?;
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(&folder, &mut buffer);
    let mut page = Page {
        entries: Vec::new(),
        unnameable: 0,
        next: None,
    };
    let mut seen = 0;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            match name.to_str() {
                Ok(text) => match statat(&folder, name, LINKS_THEMSELVES) {
                    Ok(stat) => page.entries.push(Entry {
                        name: text.to_owned(),
                        metadata: Metadata::of(&stat),
                    }),
                    // It went meanwhile.
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                },
                Err(_) => page.unnameable = page.unnameable.saturating_add(1),
            }
        }
        seen += 1;
        if seen == STORAGE_ENTRIES {
            page.next = Some(entry.next_entry_cookie());
            break;
        }
    }
    Ok(page)
}

const LINKS_THEMSELVES: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);

/// Bytes of entries that the kernel is asked for at once: somewhat more than a page of usual names.
const BUFFER: usize = 16 << 10;
