//! A loaded plugin: its component, compiled and linked, and its manifest.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use wasmtime::component::{Component, InstancePre};

use crate::{
    bindings::exports::nethost::plugin::{
        command_handler, datagram_handler, deferred_handler, handler, session_swap_handler,
        swap_handler,
    },
    checkpoints,
    dumps::Dumps,
    engine::Engine,
    inspect::{self, Description, Unfit},
    instance::State,
    limits::Limits,
    manifest::{Isolation, Manifest},
};

/// A component that is ready to be instantiated on any worker.
pub struct Plugin {
    /// Where it was loaded from.
    pub path: PathBuf,
    /// What it says of itself, or what is assumed of a component without a manifest.
    pub manifest: Manifest,
    /// The SHA-256 digest of its bytes.
    pub(crate) digest: [u8; 32],
    pub(crate) pre: InstancePre<State>,
    pub(crate) exports: ExportIndices,
    /// Where core dumps go.
    pub(crate) dumps: Option<Arc<Dumps>>,
    /// What it was made from, if it may have to be compiled again for a pool.
    source: Option<Source>,
}

/// A component, and the names of what it exports.
#[derive(Clone)]
struct Source {
    bytes: Arc<[u8]>,
    exports: Arc<[String]>,
}

/// Which of the contract's exports the component has.
#[derive(Clone)]
pub(crate) struct ExportIndices {
    pub(crate) handler: handler::GuestIndices,
    pub(crate) deferred_handler: Option<deferred_handler::GuestIndices>,
    pub(crate) datagram_handler: Option<datagram_handler::GuestIndices>,
    pub(crate) command_handler: Option<command_handler::GuestIndices>,
    pub(crate) swap: Option<(
        swap_handler::GuestIndices,
        session_swap_handler::GuestIndices,
    )>,
}

/// Why a plugin cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It is not a component that fits the contract.
    #[error("{}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        reason: Unfit,
    },
    /// It is larger than the limit.
    #[error(
        "{}: it has {size} bytes; `component-bytes` allows {most}",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        size: usize,
        /// The limit.
        most: usize,
    },
    /// It takes longer to compile than the limit.
    #[error(
        "{}: it takes longer to compile than `compile-time` allows, which is {limit:?}",
        path.display()
    )]
    TooSlow {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// No thread can be started to compile it in.
    #[error("{}: no thread to compile it in", path.display())]
    NoThread {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// It looks fit, and wasmtime refuses it: an import of another type, or code that is not valid.
    #[error("{}: {reason:#}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What wasmtime said.
        reason: wasmtime::Error,
    },
}

impl Plugin {
    /// Reads, checks and compiles a component, within the default limits.
    pub fn load(engine: &Engine, path: &Path) -> Result<Self, LoadError> {
        Self::load_within(engine, path, &Limits::default())
    }

    /// As [`Self::load`], within these limits. One that takes too long is given up: the thread that compiles it goes on, to the end or that of the process, and what it makes
    /// is thrown away.
    pub fn load_within(engine: &Engine, path: &Path, limits: &Limits) -> Result<Self, LoadError> {
        let unfit = |reason| LoadError::Unfit {
            path: path.to_owned(),
            reason,
        };
        let bytes = inspect::read(path).map_err(unfit)?;
        Self::of(engine, path, bytes, limits)
    }

    /// Checks and compiles a component that was read already; `path` is what to call it.
    pub fn of(
        engine: &Engine,
        path: &Path,
        bytes: Vec<u8>,
        limits: &Limits,
    ) -> Result<Self, LoadError> {
        let unfit = |reason| LoadError::Unfit {
            path: path.to_owned(),
            reason,
        };
        let (size, most) = (bytes.len(), limits.component_bytes);
        if size > most {
            let path = path.to_owned();
            return Err(LoadError::TooLarge { path, size, most });
        }
        let Description {
            manifest, exports, ..
        } = inspect::describe(&bytes).map_err(unfit)?;
        let manifest = manifest.unwrap_or_else(|| {
            let stem = path.file_stem().unwrap_or_default();
            Manifest::assumed(&stem.to_string_lossy())
        });
        let limit = limits.compile_time;
        let (sender, compiled) = mpsc::channel();
        let (engine, file) = (engine.clone(), path.to_owned());
        let compile = move || {
            // Who waited for it has given up if it cannot be told.
            let _late = sender.send(Self::compile(&engine, &file, &bytes, manifest, &exports));
        };
        let path = path.to_owned();
        let thread = thread::Builder::new()
            .name("compile".to_owned())
            .stack_size(COMPILER_STACK);
        if let Err(error) = thread.spawn(compile) {
            return Err(LoadError::NoThread { path, error });
        }
        let reason = match compiled.recv_timeout(limit) {
            Ok(Ok(plugin)) => return Ok(plugin),
            Ok(Err(reason)) => reason,
            Err(RecvTimeoutError::Timeout) => return Err(LoadError::TooSlow { path, limit }),
            Err(RecvTimeoutError::Disconnected) => wasmtime::Error::msg("compiling it failed"),
        };
        Err(LoadError::Refused { path, reason })
    }

    /// Loads the same component into another engine.
    pub(crate) fn load_again(&self, engine: &Engine) -> Result<Self, LoadError> {
        let refused = |reason| LoadError::Refused {
            path: self.path.clone(),
            reason,
        };
        let Source { bytes, exports } = self.source.as_ref().ok_or_else(|| {
            refused(wasmtime::Error::msg(
                "it does not permit isolation `connection`",
            ))
        })?;
        Self::compile(engine, &self.path, bytes, self.manifest.clone(), exports).map_err(refused)
    }

    /// Returns whether the plugin's state can move to another version.
    pub fn can_swap(&self) -> bool {
        self.exports.swap.is_some()
    }

    /// Returns whether the plugin serves datagrams.
    pub fn takes_datagrams(&self) -> bool {
        self.exports.datagram_handler.is_some()
    }

    /// Returns whether the plugin is a command as well.
    pub fn is_command(&self) -> bool {
        self.exports.command_handler.is_some()
    }

    fn compile(
        engine: &Engine,
        path: &Path,
        bytes: &[u8],
        manifest: Manifest,
        exports: &[String],
    ) -> wasmtime::Result<Self> {
        let started = Instant::now();
        let component = checkpoints::insert(bytes)?;
        let component = Component::from_binary(engine.wasmtime(), &component)?;
        let pre = engine.linker().instantiate_pre(&component)?;
        tracing::debug!(plugin = manifest.name, elapsed = ?started.elapsed(), "compiled");
        let has = |interface: &str| {
            exports
                .iter()
                .any(|export| export.contains(&format!("/{interface}@")))
        };
        let is_poolable = manifest.isolation.contains(&Isolation::Connection);
        let source = is_poolable.then(|| Source {
            bytes: bytes.into(),
            exports: exports.into(),
        });
        let exports = ExportIndices {
            handler: handler::GuestIndices::new(&pre)?,
            deferred_handler: has("deferred-handler")
                .then(|| deferred_handler::GuestIndices::new(&pre))
                .transpose()?,
            datagram_handler: has("datagram-handler")
                .then(|| datagram_handler::GuestIndices::new(&pre))
                .transpose()?,
            command_handler: has("command-handler")
                .then(|| command_handler::GuestIndices::new(&pre))
                .transpose()?,
            swap: if has("swap-handler") && has("session-swap-handler") {
                Some((
                    swap_handler::GuestIndices::new(&pre)?,
                    session_swap_handler::GuestIndices::new(&pre)?,
                ))
            } else {
                None
            },
        };
        Ok(Self {
            path: path.to_owned(),
            manifest,
            digest: Sha256::digest(bytes).into(),
            pre,
            exports,
            dumps: engine.dumps().cloned(),
            source,
        })
    }
}

/// Bytes of the stack of a thread that compiles: 8 MiB, as the main thread has them.
const COMPILER_STACK: usize = 8 << 20;

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("path", &self.path).finish()
    }
}
