//! How much a directory holds.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use cap_std::fs::{Dir, MetadataExt as _};

/// Adds up the sizes of all files. One that has several names counts as a part at each of them.
///
/// However many directories there are and however deep: few are open at a time, and no path is longer than the system takes.
pub(super) fn count(root: &Dir) -> io::Result<u64> {
    let mut sum = 0_u64;
    let mut folders = vec![Folder {
        above: Rc::new(root.open_dir(".")?),
        path: Path::new("").into(),
        name: ".".into(),
    }];
    while let Some(Folder { above, path, name }) = folders.pop() {
        let path = path.join(name);
        let folder = match above.open_dir(&path) {
            Ok(folder) => folder,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        let (above, path) = if path.as_os_str().len() > FAR {
            (Rc::new(folder.try_clone()?), PathBuf::new())
        } else {
            (above, path)
        };
        let path: Rc<Path> = path.into();
        for entry in folder.entries()? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                folders.push(Folder {
                    above: above.clone(),
                    path: path.clone(),
                    name: entry.file_name(),
                });
            } else if metadata.is_file() {
                let part = metadata.len().checked_div(metadata.nlink());
                sum = sum.saturating_add(part.unwrap_or(0));
            }
        }
    }
    Ok(sum)
}

/// A directory that is to be counted.
struct Folder {
    /// An open one above it.
    above: Rc<Dir>,
    /// From there to the one that it is in.
    path: Rc<Path>,
    name: OsString,
}

/// It went meanwhile, or something else came in its place.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Bytes of a path below which directories are counted from one that is open: 1 KiB, a quarter of what the system takes.
const FAR: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use std::fs;

    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn a_directory_of_any_depth_is_counted() {
        let root = std::env::temp_dir().join(format!("nethost-count-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let root_dir = Dir::open_ambient_dir(&root, ambient_authority()).unwrap();
        let mut below = root_dir.try_clone().unwrap();
        // 12,000 bytes of path, which no system call takes at once.
        let name = "n".repeat(200);
        for _ in 0..60 {
            below.write("file", "ten bytes.").unwrap();
            below.create_dir(&name).unwrap();
            below = below.open_dir(&name).unwrap();
        }
        below.write("file", "and a few").unwrap();
        assert_eq!(count(&root_dir).unwrap(), 609);
        fs::remove_dir_all(&root).unwrap();
    }
}
