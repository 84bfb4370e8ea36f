//! Keeps the server's zones as the files in the folder `zones` are. Long work is done in slices, between which questions are answered.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use nethost_sdk::{
    Directory, Error, File, FileKind, FileOpening, MAX_TRANSFER, after, log, with_factory,
};

use crate::{
    Dns,
    forward::Hosts,
    server::Served,
    types::Name,
    zone::{Builder, Zone},
    zonefile::{FileError, Parser, Reason, Step},
};

/// When a file was changed last, its size and its number: whatever changes it changes one of them.
type Stamp = (Duration, u64, u64);

/// What is known of a zone's files.
struct Known {
    apex: Name,
    /// The zone's file, and those that it included, as they were when they were read; none for one that is not there.
    files: Vec<(String, Option<Stamp>)>,
}

/// Loads every zone, and again what changes, for as long as the instance lives.
pub(crate) async fn run(directory: Directory) {
    let mut known = BTreeMap::new();
    let hosts = with_factory(|dns: &mut Dns| dns.server.config().hosts.clone());
    let mut hosts = hosts.map(|file| (file, None));
    loop {
        // To miss nothing: first watch, then look.
        let watch = directory.watch(".");
        if let Err(error) = look(&directory, &mut known).await {
            log::error!("looking for zones: {error}");
        }
        if let Some((file, stamp)) = &mut hosts {
            look_at_hosts(&directory, file, stamp).await;
        }
        if let Err(error) = watch.await {
            log::warn!("watching the folder of zones: {error}; it is looked at every 10 s");
            let _again = after(UNWATCHED).await;
        }
        // Who writes a file in several steps is given the time for it.
        let _settled = after(SETTLING).await;
    }
}

async fn look(directory: &Directory, known: &mut BTreeMap<String, Known>) -> Result<(), Error> {
    let mut found = BTreeMap::new();
    let mut next = Some(0);
    while let Some(start) = next {
        let page = directory.list_page(".", start).await?;
        for entry in page.entries {
            if entry.metadata.kind != FileKind::Directory
                && let Some(apex) = apex_of(&entry.name)
            {
                found.insert(entry.name, apex);
            }
        }
        next = page.next;
    }
    known.retain(|file, zone| {
        let stays = found.contains_key(file);
        if !stays {
            log::info!(
                "zone {}: its file is gone, and it is served no more",
                zone.apex
            );
            with_factory(|dns: &mut Dns| dns.server.zones_mut().remove(&zone.apex));
        }
        stays
    });
    with_factory(|dns: &mut Dns| {
        for apex in found.values() {
            if dns.server.zones().state(apex).is_none() {
                dns.server.zones_mut().set(apex, Served::Loading);
            }
        }
    });
    for (file, apex) in found {
        let files = match known.get(&file) {
            Some(zone) if !has_changed(directory, &zone.files).await => continue,
            _ => take_up(directory, &file, apex).await,
        };
        known.insert(file, Known { apex, files });
    }
    Ok(())
}

/// Reads the hosts file if it has changed.
async fn look_at_hosts(directory: &Directory, file: &str, stamp: &mut Option<Stamp>) {
    let now = stamp_of(directory, file).await;
    if now == *stamp {
        return;
    }
    *stamp = now;
    let read = async {
        let file = directory.open(file, FileOpening::Read).await?;
        let mut text = Vec::new();
        loop {
            let piece = file.read_at(text.len() as u64, 1 << 20).await?;
            if piece.is_empty() || text.len() > MAX_HOSTS {
                return Ok::<_, Error>(text);
            }
            text.extend(piece);
        }
    };
    match read.await {
        Ok(text) => {
            let (hosts, wrong) = Hosts::parse(&text);
            for line in wrong {
                log::warn!("{file}:{line}: not an address and names; left out");
            }
            log::info!("{file}: {} names of hosts", hosts.len());
            with_factory(|dns: &mut Dns| dns.forwarder.set_hosts(hosts));
        }
        Err(error) => log::error!("{file}: {error}"),
    }
}

async fn has_changed(directory: &Directory, files: &[(String, Option<Stamp>)]) -> bool {
    for (file, stamp) in files {
        if stamp_of(directory, file).await != *stamp {
            return true;
        }
    }
    false
}

/// Loads a zone and serves it, or says why not and leaves what was served before.
async fn take_up(directory: &Directory, file: &str, apex: Name) -> Vec<(String, Option<Stamp>)> {
    let mut files = Vec::new();
    match load(directory, file, apex, &mut files).await {
        Ok(zone) => {
            log::info!(
                "zone {apex}: {} records, serial {}",
                zone.records(),
                zone.serial()
            );
            with_factory(|dns: &mut Dns| {
                dns.server
                    .zones_mut()
                    .set(&apex, Served::Zone(Rc::new(zone)));
                dns.count_zones();
            });
        }
        Err(error) => with_factory(|dns: &mut Dns| {
            let zones = dns.server.zones_mut();
            if matches!(zones.state(&apex), Some(Served::Zone(_))) {
                log::error!("zone {apex}: {error}; it is served as it was before");
            } else {
                log::error!("zone {apex}: {error}; it is not served");
                zones.set(&apex, Served::Broken);
            }
        }),
    }
    files
}

/// Reads a zone. `files` are those that were read, also if it fails.
async fn load(
    directory: &Directory,
    file: &str,
    apex: Name,
    files: &mut Vec<(String, Option<Stamp>)>,
) -> Result<Zone, FileError> {
    let mut parser = Parser::new(file, apex);
    let mut open = vec![Reading::begin(directory, file, files, &parser).await?];
    let size = files
        .first()
        .and_then(|(_, stamp)| *stamp)
        .map_or(0, |(_, size, _)| size);
    let mut builder = Builder::new(apex, usize::try_from(size / RECORD).unwrap_or(0));
    let mut slice = 0;
    loop {
        let wanted = match parser.step()? {
            Step::Record(record) => {
                let line = record.line;
                if let Err(fault) = builder.add(&record) {
                    return Err(parser.error_at(line, Reason::Zone(fault)));
                }
                slice += 1;
                if slice < RECORDS_AT_ONCE {
                    continue;
                }
                slice = 0;
                Wanted::Pause
            }
            Step::Include(path) => Wanted::File(path),
            Step::More => Wanted::Bytes,
            Step::End => break,
        };
        match wanted {
            Wanted::Pause => pause().await,
            Wanted::File(path) => {
                let reading = Reading::begin(directory, &path, files, &parser).await?;
                parser.include(&path);
                open.push(reading);
            }
            Wanted::Bytes => {
                let Some(reading) = open.last_mut() else {
                    break;
                };
                let bytes = reading.next(&parser).await?;
                if bytes.is_empty() {
                    parser.feed_end();
                    open.pop();
                } else {
                    parser.feed(&bytes);
                }
            }
        }
    }
    loop {
        pause().await;
        match builder.finish_some() {
            Ok(None) => {}
            Ok(Some(zone)) => return Ok(zone),
            Err((line, fault)) => {
                return Err(FileError {
                    file: file.to_owned(),
                    line,
                    reason: Reason::Zone(fault),
                });
            }
        }
    }
}

enum Wanted {
    Pause,
    File(String),
    Bytes,
}

/// A file that is being read.
struct Reading {
    file: File,
    at: u64,
}

impl Reading {
    async fn begin(
        directory: &Directory,
        path: &str,
        files: &mut Vec<(String, Option<Stamp>)>,
        parser: &Parser,
    ) -> Result<Self, FileError> {
        // The stamp first: a change after it is seen as one.
        files.push((path.to_owned(), stamp_of(directory, path).await));
        let file = directory.open(path, FileOpening::Read).await;
        let file = file.map_err(|error| unreadable(parser, path, &error))?;
        Ok(Self { file, at: 0 })
    }

    async fn next(&mut self, parser: &Parser) -> Result<Vec<u8>, FileError> {
        let most = u32::try_from(MAX_TRANSFER).unwrap_or(u32::MAX);
        let bytes = self.file.read_at(self.at, most).await;
        let bytes = bytes.map_err(|error| unreadable(parser, "reading", &error))?;
        self.at += bytes.len() as u64;
        Ok(bytes)
    }
}

fn unreadable(parser: &Parser, what: &str, error: &Error) -> FileError {
    parser.error(Reason::Unreadable(format!("{what}: {error}")))
}

async fn stamp_of(directory: &Directory, path: &str) -> Option<Stamp> {
    let metadata = directory.stat(path).await.ok()?;
    Some((metadata.modified, metadata.size, metadata.number))
}

/// The zone that a file is, by its name: `example.com.zone`. The root's is `@.zone`.
fn apex_of(file: &str) -> Option<Name> {
    match file.strip_suffix(".zone")? {
        "@" => Some(Name::ROOT),
        name => Name::parse(name).ok(),
    }
}

/// Lets everything else that waits be done.
async fn pause() {
    let _done = after(Duration::ZERO).await;
}

/// Records that are read in one piece: some milliseconds.
const RECORDS_AT_ONCE: usize = 4096;

/// Bytes of a record in a file, at least, more or less: how large the table of names is made from the start.
const RECORD: u64 = 32;

/// How long the folder is left alone when it is not watched.
const UNWATCHED: Duration = Duration::from_secs(10);

/// How long after a change the folder is looked at.
const SETTLING: Duration = Duration::from_millis(100);

/// Bytes of a hosts file: 1 MiB, some 20,000 names.
const MAX_HOSTS: usize = 1 << 20;
