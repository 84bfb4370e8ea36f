//! What a test grants.

use std::{collections::HashMap, rc::Rc};

use crate::testing::{
    bulk::{Access, Stored},
    disk::Folder,
};

/// What a test grants an instance; all of it is in memory.
#[derive(Debug, Default)]
#[must_use = "it grants nothing until a host is started with it"]
pub struct Grants {
    pub(super) files: HashMap<String, Rc<Stored>>,
    pub(super) folders: HashMap<String, Rc<Folder>>,
}

impl Grants {
    /// Grants nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants a file with these contents.
    pub fn file(mut self, name: &str, access: Access, contents: &[u8]) -> Self {
        let stored = Stored::named(contents.to_vec(), access);
        self.files.insert(name.to_owned(), stored);
        self
    }

    /// Grants a directory with these files, and the directories that they are in.
    pub fn directory<'a>(
        mut self,
        name: &str,
        access: Access,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let folder = Folder::new(access, files);
        self.folders.insert(name.to_owned(), folder);
        self
    }
}
