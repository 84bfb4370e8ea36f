//! State that moves by serde: what a plugin says of its state, and what becomes of it.

use serde::{Serialize, de::DeserializeOwned};

use crate::protocol::{Context, Protocol, Refusal, Swap};

/// A protocol whose state is values that serde can write and read, and so moves to another version of the plugin while its connections stay open. Exported with
/// `export_plugin!(Name, swap)`.
///
/// ```
/// # use nethost_sdk::{Context, Origin, Protocol, Refusal, Snapshot};
/// # struct Echo { echoed: u64 }
/// # impl Protocol for Echo {
/// #     type Factory = ();
/// #     fn connection_made(_: &mut Context<'_, ()>, _: Origin) -> Option<Self> { None }
/// #     fn data_received(&mut self, _: &mut Context<'_, ()>, _: &[u8]) {}
/// # }
/// impl Snapshot for Echo {
///     const FORMAT: &'static str = "echo/1";
///     type Before = ();
///     type Shared = ();
///     type Session = u64;
///     fn save(_: &()) -> Result<(), Refusal> { Ok(()) }
///     fn restore(_: &mut (), _: ()) -> Result<(), String> { Ok(()) }
///     fn save_session(&self) -> Result<u64, Refusal> { Ok(self.echoed) }
///     fn restore_session(_: &mut Context<'_, ()>, echoed: u64) -> Result<Self, String> { Ok(Self { echoed }) }
/// }
/// ```
///
/// `Shared` and `Session` are the plugin's own types with `#[derive(Serialize, Deserialize)]`. When one of them changes, `FORMAT` gets another number, the old types stay
/// as they were, and a [`Migrate`] in `Before` makes new ones of them.
///
/// What is on its way is saved as its id ([`Deferred::id`](crate::Deferred::id), [`File::id`](crate::File::id)), and adopted in `restore` or `restore_session`. A session that owns a
/// running [task](crate::spawn) is busy by itself; one that cannot move for another reason answers [`Refusal::Busy`]. Saving changes nothing: when the swap fails, everything goes
/// on.
///
/// On the wire it is [postcard](https://postcard.jamesmunns.com/wire-format), whose format is specified and does not change: fields one after the other, integers in 1 to 10 bytes, no
/// names. It is small and quick, and one that has other fields cannot read it; hence the version in `FORMAT`. `testing::Host::swap` does a whole swap in a unit test.
pub trait Snapshot: Protocol {
    /// The format's name and version, such as `irc/2`.
    const FORMAT: &'static str;

    /// The formats of before that this version reads, and writes for a swap back: `()`, or a tuple of up to four types that implement [`Migrate`], the best first.
    type Before: Formats<Self>;

    /// What the sessions share.
    type Shared: Serialize + DeserializeOwned;

    /// One session's state.
    type Session: Serialize + DeserializeOwned;

    /// Saves what the sessions share.
    fn save(factory: &Self::Factory) -> Result<Self::Shared, Refusal>;

    /// Takes over what the sessions share. `factory` is configured already; no session is restored yet.
    fn restore(factory: &mut Self::Factory, shared: Self::Shared) -> Result<(), String>;

    /// Saves one session.
    fn save_session(&self) -> Result<Self::Session, Refusal>;

    /// Makes a session again, on the same connection. Groups are rebuilt here; what is written is held until the swap is certain.
    fn restore_session(
        cx: &mut Context<'_, Self::Factory>,
        session: Self::Session,
    ) -> Result<Self, String>;
}

/// A format of before, and the way from it to the one of now.
pub trait Migrate<P: Snapshot> {
    /// Its name and version.
    const FORMAT: &'static str;

    /// What the sessions shared.
    type Shared: Serialize + DeserializeOwned;

    /// A session's state.
    type Session: Serialize + DeserializeOwned;

    /// Makes the shared state of now. An error puts everything back on the old version.
    fn migrate(old: Self::Shared) -> Result<P::Shared, String>;

    /// Makes a session's state of now.
    fn migrate_session(old: Self::Session) -> Result<P::Session, String>;

    /// Makes the shared state of before, for a swap back. Without it there is no way back to a version that has no newer format.
    fn revert(new: P::Shared) -> Result<Self::Shared, String> {
        let _ = new;
        Err(format!("there is no way back to {}", Self::FORMAT))
    }

    /// Makes a session's state of before.
    fn revert_session(new: P::Session) -> Result<Self::Session, String> {
        let _ = new;
        Err(format!("there is no way back to {}", Self::FORMAT))
    }
}

/// The formats of before: `()`, or a tuple of types that implement [`Migrate`].
pub trait Formats<P: Snapshot> {
    /// The formats' names, that of now first.
    #[doc(hidden)]
    const ALL: &'static [&'static str];
    #[doc(hidden)]
    fn write(format: &str, shared: P::Shared) -> Result<Vec<u8>, String>;
    #[doc(hidden)]
    fn write_session(format: &str, session: P::Session) -> Result<Vec<u8>, String>;
    #[doc(hidden)]
    fn read(format: &str, state: &[u8]) -> Result<P::Shared, String>;
    #[doc(hidden)]
    fn read_session(format: &str, state: &[u8]) -> Result<P::Session, String>;
}

macro_rules! formats {
    ($($before:ident)*) => {
        impl<P: Snapshot, $($before: Migrate<P>),*> Formats<P> for ($($before,)*) {
            const ALL: &'static [&'static str] = &[P::FORMAT, $($before::FORMAT),*];

            fn write(format: &str, shared: P::Shared) -> Result<Vec<u8>, String> {
                $(if format == $before::FORMAT {
                    return encode(&$before::revert(shared)?);
                })*
                known::<P>(format)?;
                encode(&shared)
            }

            fn write_session(format: &str, session: P::Session) -> Result<Vec<u8>, String> {
                $(if format == $before::FORMAT {
                    return encode(&$before::revert_session(session)?);
                })*
                known::<P>(format)?;
                encode(&session)
            }

            fn read(format: &str, state: &[u8]) -> Result<P::Shared, String> {
                $(if format == $before::FORMAT {
                    return $before::migrate(decode(format, state)?);
                })*
                known::<P>(format)?;
                decode(format, state)
            }

            fn read_session(format: &str, state: &[u8]) -> Result<P::Session, String> {
                $(if format == $before::FORMAT {
                    return $before::migrate_session(decode(format, state)?);
                })*
                known::<P>(format)?;
                decode(format, state)
            }
        }
    };
}

formats!();
formats!(A);
formats!(A B);
formats!(A B C);
formats!(A B C D);

impl<P: Snapshot> Swap for P {
    const FORMATS: &'static [&'static str] = <P::Before as Formats<P>>::ALL;

    fn save(factory: &P::Factory, format: &str) -> Result<Vec<u8>, Refusal> {
        let shared = <P as Snapshot>::save(factory)?;
        P::Before::write(format, shared).map_err(Refusal::Failed)
    }

    fn restore(factory: &mut P::Factory, format: &str, state: &[u8]) -> Result<(), String> {
        <P as Snapshot>::restore(factory, P::Before::read(format, state)?)
    }

    fn save_session(&self, format: &str) -> Result<Vec<u8>, Refusal> {
        let session = <P as Snapshot>::save_session(self)?;
        P::Before::write_session(format, session).map_err(Refusal::Failed)
    }

    fn restore_session(
        cx: &mut Context<'_, P::Factory>,
        format: &str,
        state: &[u8],
    ) -> Result<Self, String> {
        <P as Snapshot>::restore_session(cx, P::Before::read_session(format, state)?)
    }
}

fn known<P: Snapshot>(format: &str) -> Result<(), String> {
    if format == P::FORMAT {
        Ok(())
    } else {
        Err(format!("`{format}` is none of its formats"))
    }
}

fn encode<T: Serialize>(state: &T) -> Result<Vec<u8>, String> {
    postcard::to_allocvec(state).map_err(|error| format!("writing its state: {error}"))
}

/// All of it has to be one value: what is left over is a sign of another format.
fn decode<T: DeserializeOwned>(format: &str, state: &[u8]) -> Result<T, String> {
    let (value, rest) = postcard::take_from_bytes(state)
        .map_err(|error| format!("this is no state of {format}: {error}"))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(format!(
            "this is no state of {format}: {} bytes are left over",
            rest.len()
        ))
    }
}
