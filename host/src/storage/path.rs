//! What a path is, as text.

/// Where a path may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To an entry of the directory.
    Entry,
    /// To an entry, or (`.`) to the directory itself.
    EntryOrSelf,
}

/// Returns why a text is not a path to such a target.
pub(crate) fn check(path: &str, target: Target) -> Result<(), &'static str> {
    if path == "." {
        return match target {
            Target::EntryOrSelf => Ok(()),
            Target::Entry => Err("`.` is the directory itself"),
        };
    }
    if path.is_empty() {
        return Err("the path is empty");
    }
    if path.len() > LONGEST_PATH {
        return Err("the path is longer than 4,096 bytes");
    }
    if path.starts_with('/') {
        return Err("the path is absolute");
    }
    for name in path.split('/') {
        match name {
            "" => return Err("a name in the path is empty"),
            "." | ".." => return Err("`.` and `..` are no names"),
            _ if name.len() > LONGEST_NAME => {
                return Err("a name in the path is longer than 255 bytes");
            }
            _ if name.contains('\0') => return Err("a name has a NUL"),
            _ => {}
        }
    }
    Ok(())
}

/// Linux's `PATH_MAX`, which counts the NUL at the end: the longest paths fail in the kernel, as invalid as here.
const LONGEST_PATH: usize = 4096;

/// Linux's `NAME_MAX`.
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_with_one_slash_between_them() {
        let long = |count| "n".repeat(count);
        let deep = "n/".repeat(2047);
        for (path, is_one) in [
            ("a", true),
            ("a/b.c/..d", true),
            ("...", true),
            (" ", true),
            ("\u{e4}\n\\", true),
            (&long(255), true),
            (&format!("{deep}n"), true),
            (&format!("{deep}nnn"), false),
            (&long(256), false),
            (&format!("a/{}", long(256)), false),
            ("", false),
            (".", false),
            ("..", false),
            ("./a", false),
            ("a/.", false),
            ("a/..", false),
            ("a/../b", false),
            ("../a", false),
            ("/", false),
            ("/a", false),
            ("//a", false),
            ("a//b", false),
            ("a/", false),
            ("a\0", false),
        ] {
            assert_eq!(check(path, Target::Entry).is_ok(), is_one, "{path:?}");
            let with_self = is_one || path == ".";
            assert_eq!(
                check(path, Target::EntryOrSelf).is_ok(),
                with_self,
                "{path:?}"
            );
        }
    }
}
