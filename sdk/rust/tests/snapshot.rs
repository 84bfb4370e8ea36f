//! State that moves by serde, to a version with another format and back.

use nethost_sdk::{
    Context, Migrate, Origin, Protocol, Refusal, Snapshot, Swap,
    testing::{Host, SwapError},
};
use serde::{Deserialize, Serialize};

/// Counts lines; this version knows no more than how many.
struct First(u32);

/// Knows the last one as well.
struct Second(Counted);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counted {
    last: String,
    count: u64,
}

/// The format of [`First`].
struct Old;

impl Protocol for First {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self(0))
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, _data: &[u8]) {
        self.0 += 1;
        cx.connection.write(self.0.to_string().as_bytes());
    }
}

impl Protocol for Second {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self(Counted::default()))
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, data: &[u8]) {
        let answer = format!("{} {}", self.0.count, self.0.last);
        cx.connection.write(answer.as_bytes());
        self.0.count += 1;
        self.0.last = String::from_utf8_lossy(data).into_owned();
    }
}

impl Snapshot for First {
    const FORMAT: &'static str = "lines/1";
    type Before = ();
    type Shared = ();
    type Session = u32;

    fn save(_factory: &()) -> Result<(), Refusal> {
        Ok(())
    }

    fn restore(_factory: &mut (), _shared: ()) -> Result<(), String> {
        Ok(())
    }

    fn save_session(&self) -> Result<u32, Refusal> {
        if self.0 == 13 {
            return Err(Refusal::Busy);
        }
        Ok(self.0)
    }

    fn restore_session(_cx: &mut Context<'_, ()>, count: u32) -> Result<Self, String> {
        Ok(Self(count))
    }
}

impl Snapshot for Second {
    const FORMAT: &'static str = "lines/2";
    type Before = (Old,);
    type Shared = ();
    type Session = Counted;

    fn save(_factory: &()) -> Result<(), Refusal> {
        Ok(())
    }

    fn restore(_factory: &mut (), _shared: ()) -> Result<(), String> {
        Ok(())
    }

    fn save_session(&self) -> Result<Counted, Refusal> {
        Ok(self.0.clone())
    }

    fn restore_session(_cx: &mut Context<'_, ()>, counted: Counted) -> Result<Self, String> {
        Ok(Self(counted))
    }
}

impl Migrate<Second> for Old {
    const FORMAT: &'static str = "lines/1";
    type Shared = ();
    type Session = u32;

    fn migrate(_old: ()) -> Result<(), String> {
        Ok(())
    }

    fn migrate_session(count: u32) -> Result<Counted, String> {
        Ok(Counted {
            last: "unknown".to_owned(),
            count: count.into(),
        })
    }

    fn revert(_new: ()) -> Result<(), String> {
        Ok(())
    }

    fn revert_session(new: Counted) -> Result<u32, String> {
        u32::try_from(new.count).map_err(|_| "too many lines for lines/1".to_owned())
    }
}

#[test]
fn state_is_migrated_and_reverted() {
    let mut host = Host::<First>::start("{}").unwrap();
    let ann = host.connect();
    host.send(ann, b"x");
    assert_eq!(host.received(ann), b"1");
    let mut host: Host<Second> = host.swap("{}").unwrap();
    host.send(ann, b"why");
    host.send(ann, b"?");
    assert_eq!(host.received(ann), b"1 unknown2 why");
    // To itself, in its own format: nothing is forgotten.
    let mut host: Host<Second> = host.swap("{}").unwrap();
    host.send(ann, b"!");
    assert_eq!(host.received(ann), b"3 ?");
    let mut host: Host<First> = host.swap("{}").unwrap();
    host.send(ann, b"x");
    assert_eq!(host.received(ann), b"5");
}

#[test]
fn one_that_is_busy_does_not_move() {
    let mut host = Host::<First>::start("{}").unwrap();
    let ann = host.connect();
    for _ in 0..13 {
        host.send(ann, b"x");
    }
    let (mut host, error) = host.swap::<Second>("{}").unwrap_err();
    assert_eq!(error, SwapError::Refused(Refusal::Busy));
    host.send(ann, b"x");
    assert!(host.swap::<Second>("{}").is_ok());
}

#[test]
fn what_is_no_state_is_refused() {
    assert_eq!(<Second as Swap>::FORMATS, ["lines/2", "lines/1"]);
    let mut factory = ();
    for (format, state, part) in [
        ("lines/2", &b"x"[..], "1 bytes are left over"),
        ("lines/3", b"", "`lines/3` is none of its formats"),
    ] {
        let error = <Second as Swap>::restore(&mut factory, format, state).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}
