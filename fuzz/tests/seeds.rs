//! Every target holds for its seeds and for what the fuzzer once found, which lies among them.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use nethost_fuzz::{TARGETS, Target};

#[test]
fn every_seed_holds() {
    let mut fails = Vec::new();
    for target in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds {
            let data = fs::read(&seed).unwrap();
            let holds = catch_unwind(AssertUnwindSafe(|| (target.check)(&data)));
            if holds.is_err() {
                fails.push(format!("{}: {}", target.name, seed.display()));
            }
        }
    }
    assert!(fails.is_empty(), "{fails:#?}");
}

#[test]
fn every_name_is_said_once_and_can_be_a_folder() {
    let mut names = BTreeSet::new();
    for target in TARGETS {
        assert!(names.insert(target.name), "{} twice", target.name);
        let fits = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
        assert!(target.name.chars().all(fits), "{}", target.name);
        assert_eq!(Target::find(target.name).unwrap().name, target.name);
    }
}

/// Not every beginning of a seed is one, but a file that was cut off is what is met.
#[test]
fn no_beginning_of_a_short_seed_breaks_anything() {
    for target in TARGETS {
        for seed in seeds(target) {
            let data = fs::read(&seed).unwrap();
            if data.len() > SHORT {
                continue;
            }
            for length in 0..data.len() {
                let beginning = data.get(..length).unwrap();
                let holds = catch_unwind(AssertUnwindSafe(|| (target.check)(beginning)));
                assert!(
                    holds.is_ok(),
                    "{}: the first {length} bytes of {}",
                    target.name,
                    seed.display()
                );
            }
        }
    }
}

fn seeds(target: &Target) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut seeds = Vec::new();
    for place in target.seeds {
        let place = root.join(place);
        if place.is_dir() {
            let files = fs::read_dir(&place).unwrap();
            seeds.extend(files.map(|file| file.unwrap().path()));
        } else {
            seeds.push(place);
        }
    }
    seeds.sort();
    seeds
}

const SHORT: usize = 300;
