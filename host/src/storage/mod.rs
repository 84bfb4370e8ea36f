//! Directories that the operator granted: what their names mean, what they may hold, and everything that may touch the disk.
//!
//! Nothing here knows of plugins, tasks or time. Every method of [`Directory`] may wait for a disk, so the reactor calls it in a thread of its own; those that are
//! called `*_cached` answer from memory at once, or not at all.
//!
//! # How a path stays inside
//!
//! A path is checked as text first (`path::check`): relative, no `..`. What is left are symbolic links. Where the kernel can (Linux 5.6, `openat2` with `RESOLVE_BENEATH`
//! and `RESOLVE_NO_MAGICLINKS`) it resolves them within the directory's descriptor, so that there is no moment between looking and opening; elsewhere
//! cap-std walks the path component by component with `O_NOFOLLOW`. A mount point in the directory is a part of it: it is the operator who mounts.

mod count;
pub(crate) mod directory;
mod error;
mod grant;
mod list;
pub(crate) mod path;
mod quota;

pub use directory::Directory;
pub(crate) use directory::{Kind, Metadata, Opening};
pub(crate) use error::failure;
pub use grant::{DirectoryGrant, InvalidDirectoryGrant, QuotaGrant};
pub(crate) use list::{Entry, Page};
pub use quota::Quota;
pub(crate) use quota::{Slot, Space};
