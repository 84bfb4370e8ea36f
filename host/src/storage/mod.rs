//! Directories that the operator granted: what their names mean, what they may hold, and everything that may touch the disk.
//!
//! Nothing here knows of plugins, tasks or time. Every method of [`Directory`] may wait for a disk, so the reactor calls it in a thread of its own; those that are
//! called `*_cached` answer from memory at once, or not at all.
//!
//! # How a path stays inside
//!
//! A path is checked as text first (`path::check`): relative, no `..`. What is left are symbolic links. Where the kernel can (Linux 5.6, `openat2` with `RESOLVE_BENEATH`
//! and `RESOLVE_NO_MAGICLINKS`) it resolves them within the directory's descriptor, so that there is no moment between looking and opening; elsewhere
//! cap-std walks the path component by component with `O_NOFOLLOW`. A mount point in the directory is a part of it: it is the operator who mounts. So is a hard link
//! to a file that has a name elsewhere as well: nothing tells it from other files. A plugin can make one only of what is in the directory.
//!
//! # Why there is no cache of open descriptors
//!
//! It was measured (ext4, Linux 6.18, two cores of a Xeon) and left out. Opening what is in memory, `openat2` with `RESOLVE_CACHED`, `fstat` and `close` together, takes
//! 1.08 µs, of the 3.4 µs that pass between a plugin's call of `open` and its completion (`bench disk`). A hit has to be as right as that after a rename, a
//! removal, a `chmod` or another link on the way, by whomever:
//!
//! * Comparing what is there with what is open (`openat2` with `O_PATH`, `fstat`, `close`) takes 0.93 µs, and saves 14 % of the calls' time.
//! * Asking an inotify descriptor that watches every directory on the way whether something changed takes 0.2 µs. It would save 80 % of the calls' time and a quarter
//!   of the plugin's, and a hit would be wrong once something is mounted over a directory on the way; the bytes of a removed file would stay on the
//!   disk until somebody asks again; and handles that share a descriptor would share its lock.
//!
//! What a plugin opens again and again it had better keep open.

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
