//! Commands about directories and the files in them; each begins with `dir-` or `file-`.
//!
//! `dir-open D PATH OPENING AS` opens a file, which `dir-take ID` then keeps as `AS`; the bulk commands know it by that name, too. In a path `\0` is a NUL, `\s` a space, `\e` nothing, and
//! `\x250,` 250 times an x.

use std::collections::HashMap;

use super::{State, code_in_words, number, pattern};
use crate::bindings::nethost::plugin::{
    storage,
    storage::{Directory, File, Kind, Lock, Metadata, Opening},
};

/// What the instance has open.
#[derive(Default)]
pub(crate) struct Disk {
    directories: HashMap<String, Directory>,
    files: HashMap<String, File>,
    /// What the file that an operation opens is called.
    names: HashMap<u64, String>,
}

impl Disk {
    /// Calls with a file that was opened here, or one that was granted under this name.
    pub(crate) fn with_file<R>(&self, name: &str, call: impl FnOnce(&File) -> R) -> R {
        match self.files.get(name) {
            Some(file) => call(file),
            None => match storage::named_file(name) {
                Ok(file) => call(&file),
                Err(error) => panic!("{}", error.message),
            },
        }
    }
}

impl State {
    /// Does what is about directories and files, and says whether it was that.
    pub(crate) fn step_of_disk(&mut self, sender: u64, word: &str, rest: &str) -> bool {
        let words: Vec<String> = rest.split(' ').map(unescape).collect();
        let word_at = |at: usize| words.get(at).map_or("", String::as_str);
        if let Some(word) = word.strip_prefix("dir-") {
            self.step_of_directory(sender, word, &word_at);
            return true;
        }
        if let Some(word) = word.strip_prefix("file-") {
            self.step_of_file(sender, word, &word_at);
            return true;
        }
        false
    }

    fn step_of_directory<'a>(&mut self, sender: u64, word: &str, words: &dyn Fn(usize) -> &'a str) {
        let name = words(0);
        match word {
            "grant" => {
                let answer = match storage::named_directory(name) {
                    Ok(directory) => {
                        let mode = if directory.is_writable() { "rw" } else { "ro" };
                        self.disk.directories.insert(name.to_owned(), directory);
                        mode.to_owned()
                    }
                    Err(error) => code_in_words(&error.code),
                };
                self.answer(sender, &answer);
                return;
            }
            "take" => {
                let id = number(name);
                let answer = match storage::take_file(id) {
                    Some(file) => {
                        let name = self.disk.names.remove(&id).unwrap_or_default();
                        self.disk.files.insert(name, file);
                        "file".to_owned()
                    }
                    None => "none".to_owned(),
                };
                self.answer(sender, &answer);
                return;
            }
            "metadata" => {
                let metadata = storage::take_metadata(number(name));
                let answer = metadata.map_or_else(|| "none".to_owned(), |it| in_words(&it));
                self.answer(sender, &answer);
                return;
            }
            "page" => {
                let Some(page) = storage::take_page(number(name)) else {
                    self.answer(sender, "none");
                    return;
                };
                let mut answer = vec![
                    page.next
                        .map_or_else(|| "-".to_owned(), |it| it.to_string()),
                    page.unnameable.to_string(),
                ];
                answer.extend(page.entries.iter().map(|entry| {
                    let kind = kind_in_words(entry.metadata.kind);
                    format!("{}:{kind}:{}", entry.name, entry.metadata.size)
                }));
                self.answer(sender, &answer.join(" "));
                return;
            }
            _ => {}
        }
        let directory = &self.disk.directories[name];
        let path = words(1);
        let id = match word {
            "open" => directory.open(path, opening(words(2))),
            "stat" => directory.stat(path),
            "list" => directory.list_page(path, number(words(2))),
            "mkdir" => directory.make_directory(path),
            "rename" => directory.rename(path, words(2)),
            "link" => directory.link(path, words(2)),
            "remove" => directory.remove_file(path),
            "rmdir" => directory.remove_directory(path),
            "sync" => directory.sync(path),
            "watch" => directory.watch(path),
            _ => panic!("unknown command `dir-{word}`"),
        };
        if word == "open" {
            self.disk.names.insert(id, words(3).to_owned());
        }
        self.started(sender, id, "");
    }

    fn step_of_file<'a>(&mut self, sender: u64, word: &str, words: &dyn Fn(usize) -> &'a str) {
        let name = words(0);
        match word {
            "close" => {
                self.disk.files.remove(name).expect("such a file");
                return;
            }
            "size" => {
                let size = self.disk.with_file(name, File::size);
                let answer =
                    size.map_or_else(|error| code_in_words(&error.code), |size| size.to_string());
                self.answer(sender, &answer);
                return;
            }
            _ => {}
        }
        let id = self.disk.with_file(name, |file| match word {
            "read" => {
                let length = u32::try_from(number(words(2))).expect("a length");
                file.read_at(number(words(1)), length)
            }
            "write" => file.write_at(number(words(1)), words(2).as_bytes()),
            "fill" => file.write_at(number(words(1)), &pattern(0, number(words(2)))),
            "append" => file.append(words(1).as_bytes()),
            "set-size" => file.set_size(number(words(1))),
            "sync" => file.sync(),
            "lock" => file.lock(match words(1) {
                "shared" => Lock::Shared,
                "exclusive" => Lock::Exclusive,
                "released" => Lock::Released,
                other => panic!("unknown lock `{other}`"),
            }),
            _ => panic!("unknown command `file-{word}`"),
        });
        self.started(sender, id, "");
    }
}

fn opening(word: &str) -> Opening {
    match word {
        "read" => Opening::Read,
        "update" => Opening::Update,
        "create" => Opening::Create,
        "create-new" => Opening::CreateNew,
        "replace" => Opening::Replace,
        _ => panic!("unknown opening `{word}`"),
    }
}

fn in_words(metadata: &Metadata) -> String {
    let Metadata {
        kind,
        size,
        modified,
        number,
    } = metadata;
    format!("{} {size} {modified} {number}", kind_in_words(*kind))
}

fn kind_in_words(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Link => "link",
        Kind::Other => "other",
    }
}

/// What a command cannot have in it, written as the module says.
fn unescape(word: &str) -> String {
    let word = word
        .replace("\\0", "\0")
        .replace("\\s", " ")
        .replace("\\e", "");
    let Some((before, rest)) = word.split_once("\\x") else {
        return word;
    };
    let (count, after) = rest.split_once(',').expect("\\xCOUNT,");
    let count = usize::try_from(number(count)).expect("a count");
    format!("{before}{}{after}", "x".repeat(count))
}
