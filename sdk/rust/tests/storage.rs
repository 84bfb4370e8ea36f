//! Directories and files, in the test host.

use std::cell::RefCell;

use nethost_sdk::{
    Context, Deferred, Directory, Error, ErrorCode, FileKind, FileLock, FileOpening, Origin,
    Protocol, spawn_for_instance,
    testing::{Access, Grants, Host},
};

/// Does what the test puts here when somebody connects.
struct Session;

type Run = Box<dyn FnOnce()>;

thread_local! {
    static RUN: RefCell<Option<Run>> = RefCell::default();
    static SAID: RefCell<Vec<String>> = RefCell::default();
}

impl Protocol for Session {
    type Factory = ();

    fn connection_made(_: &mut Context<'_, ()>, _: Origin) -> Option<Self> {
        if let Some(run) = RUN.take() {
            run();
        }
        Some(Self)
    }

    fn data_received(&mut self, _: &mut Context<'_, ()>, _: &[u8]) {}
}

fn say(what: impl Into<String>) {
    SAID.with_borrow_mut(|said| said.push(what.into()));
}

fn code<T>(outcome: Result<T, Error>) -> Result<T, ErrorCode> {
    outcome.map_err(|error| error.code)
}

/// Runs a task in a host with the directory `d`, and returns the host with what the task said.
fn run<F>(
    access: Access,
    task: impl FnOnce(Directory) -> F + 'static,
) -> (Host<Session>, Vec<String>)
where
    F: Future<Output = Result<(), Error>> + 'static,
{
    let files: [(&str, &[u8]); 2] = [("a", b"abc"), ("sub/b", b"b")];
    let grants = Grants::new().directory("d", access, files);
    let mut host = Host::<Session>::start_with("{}", grants).expect("a host");
    RUN.set(Some(Box::new(move || {
        let directory = Directory::named("d").expect("a grant");
        spawn_for_instance(async move {
            match task(directory).await {
                Ok(()) => say("end"),
                Err(error) => say(error.to_string()),
            }
        })
        .detach();
    })));
    host.connect();
    (host, SAID.take())
}

#[test]
fn what_was_written_is_read() {
    let (host, said) = run(Access::Write, |directory| async move {
        let file = directory.open("new", FileOpening::CreateNew).await?;
        file.write_at(2, b"cd").await?;
        file.append(b"e").await?;
        file.sync().await?;
        directory.sync(".").await?;
        assert_eq!(file.read_at(1, 3).await?, b"\0cd");
        file.set_size(3).await?;
        assert_eq!(file.size()?, 3);
        Ok(())
    });
    assert_eq!(said, ["end"]);
    assert_eq!(host.file_in("d", "new").unwrap(), b"\0\0c");
}

#[test]
fn names_are_made_changed_and_removed() {
    let (host, said) = run(Access::Write, |directory| async move {
        directory.make_directory("made").await?;
        directory.rename("sub", "made/moved").await?;
        directory.link("made/moved/b", "c").await?;
        let again = directory.link("a", "c").await;
        assert_eq!(code(again), Err(ErrorCode::Exists));
        let full = directory.remove_directory("made").await;
        assert_eq!(code(full), Err(ErrorCode::Exists));
        directory.remove_file("a").await?;
        let page = directory.list_page(".", 0).await?;
        let names: Vec<_> = page
            .entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.metadata.kind))
            .collect();
        assert_eq!(
            names,
            [("c", FileKind::File), ("made", FileKind::Directory)]
        );
        assert_eq!(page.next, None);
        assert_eq!(directory.stat("c").await?.size, 1);
        Ok(())
    });
    assert_eq!(said, ["end"]);
    assert_eq!(host.file_in("d", "a"), None);
    assert_eq!(host.file_in("d", "made/moved/b").unwrap(), b"b");
}

#[test]
fn what_is_no_path_and_what_is_not_granted_is_refused() {
    let (_, said) = run(Access::Read, |directory| async move {
        for path in ["", "..", "../a", "/a", "a/", "a//b", "./a", "a\0"] {
            assert_eq!(code(directory.stat(path).await), Err(ErrorCode::Invalid));
            let opened = directory.open(path, FileOpening::Read).await;
            assert_eq!(code(opened.map(drop)), Err(ErrorCode::Invalid));
        }
        for opening in [
            FileOpening::Update,
            FileOpening::Create,
            FileOpening::Replace,
        ] {
            let opened = directory.open("a", opening).await;
            assert_eq!(code(opened.map(drop)), Err(ErrorCode::Denied));
        }
        let removed = directory.remove_file("a").await;
        assert_eq!(code(removed), Err(ErrorCode::Denied));
        let file = directory.open("a", FileOpening::Read).await?;
        assert_eq!(code(file.append(b"x").await), Err(ErrorCode::Denied));
        assert!(!directory.is_writable());
        let other = Directory::named("e").map(drop);
        assert_eq!(code(other), Err(ErrorCode::Denied));
        Ok(())
    });
    assert_eq!(said, ["end"]);
}

#[test]
fn a_lock_ends_with_its_file() {
    let (_, said) = run(Access::Write, |directory| async move {
        let one = directory.open("a", FileOpening::Update).await?;
        let other = directory.open("a", FileOpening::Update).await?;
        one.lock(FileLock::Exclusive).await?;
        let locked = other.lock(FileLock::Shared).await;
        assert_eq!(code(locked), Err(ErrorCode::Busy));
        drop(one);
        other.lock(FileLock::Shared).await
    });
    assert_eq!(said, ["end"]);
}

#[test]
fn a_watch_completes_when_somebody_writes() {
    let (mut host, said) = run(Access::Read, |directory| async move {
        directory.watch("sub").await
    });
    assert!(said.is_empty());
    host.write_in("d", "a", b"elsewhere");
    assert!(SAID.take().is_empty());
    host.write_in("d", "sub/b", b"new");
    assert_eq!(SAID.take(), ["end"]);
}

#[test]
fn a_file_that_nobody_takes_is_closed() {
    let (_, said) = run(Access::Write, |directory| async move {
        let one = directory.open("a", FileOpening::Update).await?;
        // Dropped when it is complete, and before anybody asks for it.
        let other: Deferred<_> = directory.open("a", FileOpening::Update);
        nethost_sdk::after(std::time::Duration::ZERO).await?;
        drop(other);
        one.lock(FileLock::Exclusive).await
    });
    assert_eq!(said, ["end"]);
}
