//! Which zone a name belongs to.

use std::{collections::HashMap, rc::Rc};

use crate::{codec::Question, types::Name, zone::Zone};

/// The zones of a server, by name.
#[derive(Debug, Default)]
pub struct Zones {
    list: Vec<(Name, Served)>,
    /// By the name's hash and labels.
    index: HashMap<(u32, usize), Vec<usize>>,
    /// A bit for each number of labels that a zone's name has.
    depths: u128,
}

/// What is known of a zone.
#[derive(Clone, Debug)]
pub enum Served {
    /// It is served.
    Zone(Rc<Zone>),
    /// It has a file that is being read.
    Loading,
    /// It has a file that is broken, and there is no earlier one.
    Broken,
}

impl Zones {
    /// The zone that the name is in, with how many labels its name has.
    pub fn find(&self, question: &Question) -> Option<(usize, &Served)> {
        self.find_from(question, question.labels())
    }

    /// The zone that has the one with so many labels within it.
    pub fn find_above(&self, question: &Question, labels: usize) -> Option<(usize, &Served)> {
        self.find_from(question, labels.checked_sub(1)?)
    }

    /// Adds a zone, or changes what is known of it.
    pub fn set(&mut self, name: &Name, served: Served) {
        if let Some((_, known)) = self.list.iter_mut().find(|(other, _)| other == name) {
            *known = served;
            return;
        }
        self.list.push((*name, served));
        self.rebuild();
    }

    /// What is known of a zone.
    pub fn state(&self, name: &Name) -> Option<&Served> {
        let found = self.list.iter().find(|(other, _)| other == name);
        found.map(|(_, served)| served)
    }

    /// Serves a zone no more.
    pub fn remove(&mut self, name: &Name) {
        self.list.retain(|(other, _)| other != name);
        self.rebuild();
    }

    /// Every zone.
    pub fn iter(&self) -> impl Iterator<Item = &(Name, Served)> {
        self.list.iter()
    }

    fn find_from(&self, question: &Question, most: usize) -> Option<(usize, &Served)> {
        for labels in (0..=most).rev() {
            if self.depths >> labels & 1 == 0 {
                continue;
            }
            // With one zone there is nothing to look up.
            if let [(name, served)] = self.list.as_slice() {
                let is_it = name.as_wire().eq_ignore_ascii_case(question.suffix(labels));
                return is_it.then_some((labels, served));
            }
            let candidates = self.index.get(&(question.hash(labels), labels));
            let found = candidates.into_iter().flatten().find_map(|number| {
                let (name, served) = self.list.get(*number)?;
                let is_it = name.as_wire().eq_ignore_ascii_case(question.suffix(labels));
                is_it.then_some(served)
            });
            if let Some(served) = found {
                return Some((labels, served));
            }
        }
        None
    }

    fn rebuild(&mut self) {
        self.index.clear();
        self.depths = 0;
        let mut question = Question::new();
        for (number, (name, _)) in self.list.iter().enumerate() {
            question.set(name);
            let labels = question.labels();
            self.depths |= 1 << labels;
            let key = (question.hash(labels), labels);
            self.index.entry(key).or_default().push(number);
        }
    }
}
