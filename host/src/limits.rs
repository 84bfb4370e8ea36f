//! What each limit is, its default, and how it ends. `[service.limits]` of a config file sets them, and `--limit NAME=VALUE` of `run` and `exec`.

use std::time::Duration;

/// The limits of one service. Every queue and buffer that a plugin or a peer can make grow has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Linear memory of one instance, all its core modules together, in bytes. Default 256 MiB: a component made from Python or
    /// JavaScript takes 30 to 60 MiB before its first connection. Growing past it ends the instance.
    pub memory: usize,
    /// Elements of all tables of one instance together. Default 100,000; a component made from Python has about 20,000.
    pub table_elements: usize,
    /// Processor time of one callback. Default 50 ms. Longer ends the instance.
    pub callback_time: Duration,
    /// Processor time of instantiation, `configure`, `save` and `restore`, each. Default 5 s.
    pub setup_time: Duration,
    /// Percent of one worker's processor time that the service has on each of its workers before it takes turns with the others there. Default 25: four services that want everything share a worker evenly,
    /// and one more waits. Time that nobody else wants is the service's as well, so 1 is enough for one that is alone; with 100 it never lets
    /// others go first. `host/src/reactor/turns.rs` says how long those can be held up.
    pub cpu_share: u32,
    /// Connections, open or being made, and datagram sockets of one instance. Default 50,000: wasmtime allows 100,000 handles in a store, and a session takes two. A further
    /// connection is closed at once.
    pub connections: usize,
    /// Connections of one address, those that are being established included. Default: 256, and any number from loopback; one that is set counts
    /// for loopback as well. A further connection is closed at once. Behind a proxy it is the address that its header tells.
    pub connections_per_peer: Option<usize>,
    /// Connections of one /24 of IPv4 or /64 of IPv6, counted as those of one address. Default: 4,096, and any number from loopback.
    pub connections_per_prefix: Option<usize>,
    /// Connections that are accepted in a second, with bursts of a tenth as many. Default 20,000. Further ones wait in the kernel.
    pub accept_rate: u32,
    /// How long a connection that was accepted may stay without a byte in either direction from its beginning on. Default 60 s, and up to a quarter more
    /// until it is looked at; then it is closed as idle.
    pub first_byte_time: Duration,
    /// How long a connection that was accepted may stay without a byte in either direction. Default 1 h, and up to a quarter more until it is
    /// looked at. Plugins set shorter ones for themselves.
    pub idle_time: Duration,
    /// Unsent bytes of one connection or socket, and unwritten ones of a command's standard output or error. Default 1 MiB. The connection is closed with the reason `limit`;
    /// a datagram is dropped; a command ends with an error.
    pub unsent: usize,
    /// Bytes of one datagram that are taken. Default 65,527, all that UDP can carry (RFC 768: a length of 16 bits, of which the header is 8 bytes). What is
    /// longer is cut, and the plugin is told.
    pub datagram: usize,
    /// Datagrams that one call brings. Default, and most: 64, by when the costs of the call are shared. Further ones come with the next call.
    pub datagram_batch: usize,
    /// Outbound connections of one instance that are being made at once. Default 1,000. A further one completes with `limit`.
    pub connects: usize,
    /// Outbound connections that the service begins in a second, on each worker, with bursts of a tenth as many. Default 1,000: more than a scan of a network would be
    /// content with, and enough for a relay. A further one completes with `limit`.
    pub connect_rate: u32,
    /// Listeners of the service, those of the plugin's manifest if it was told no others. Default 64. With more it does not start.
    pub listeners: usize,
    /// Operations in flight (timers included) of one instance. Default 200,000: a few for each connection. A further one completes with `limit`.
    pub operations: usize,
    /// Timers of one instance; they are operations as well. Default 100,000: two for each connection. A further one completes with `limit`.
    pub timers: usize,
    /// Handles of one instance beside two for each connection: groups, files, directories, sockets, metrics, and what is on its way between guest and host. Default 20,000. A
    /// further one is a trap.
    pub handles: usize,
    /// Memberships in groups of one instance, all groups together. Default 1,000,000: twenty for each connection. A further one is a trap.
    pub memberships: usize,
    /// Bytes that one call of a host function may bring in, and one result of a callback. Default 4 MiB; more is a trap. What `save`
    /// returns may be as large as the memory.
    pub hostcall_bytes: usize,
    /// Log lines a second of one instance. Default 100, with bursts of ten times as many. What is over is counted and dropped.
    pub log_lines: u32,
    /// Open files of one instance, those in directories and those granted by name each. Default 1024. A further one is refused with `limit`.
    pub open_files: usize,
    /// Bytes that one instance's file operations hold until they complete, or until their result is taken: data to write, data to read, paths, pages, and 1 KiB for each
    /// operation. Default 16 MiB: sixteen of the largest. A further one completes with `limit`.
    pub storage_bytes: usize,
    /// Series of the metrics of the service's plugin that have labels, on all workers together. Default 1,000: a metric by each of some hundred commands or channels. What is recorded
    /// in a further one is told as one series with the rest, whose labels say `(overflow)`; that is counted, and logged once.
    pub metric_series: usize,
    /// Bytes of the config that `configure` gets, as JSON. Default 1 MiB. With more the service does not start.
    pub config_bytes: usize,
    /// Bytes of the component. Default 128 MiB, which is the most: one made from Python has 18 MB. A larger one is not loaded.
    pub component_bytes: usize,
    /// How long the component may take to compile. Default 2 min; one made from Python takes some 10 s on one core. Then it is not loaded; the thread that compiles goes on and what it makes is
    /// thrown away.
    pub compile_time: Duration,
    /// How long `close` waits for the peer to take what is queued. Default 30 s; then the connection is aborted.
    pub close_time: Duration,
    /// How long an outbound connection or a look-up may take, and the first includes the second. Default 30 s.
    pub connect_time: Duration,
    /// How long a stream that was accepted may take until it is a connection: the header of the PROXY protocol and the handshake of TLS, both together; and the
    /// handshake of `start-tls`. Default 10 s: section 2 of the PROXY protocol's specification wants at least 3, so that a lost segment is sent again.
    /// Later, the stream is reset, and the plugin never sees it. Until then it counts as a connection.
    pub handshake_time: Duration,
    /// How long a new version may break after a swap and be replaced by the one before. Default 10 s: what a bug in it meets every client with, it meets some
    /// with by then; and so long both versions take their memory.
    pub probation: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            table_elements: 100_000,
            callback_time: Duration::from_millis(50),
            setup_time: Duration::from_secs(5),
            cpu_share: 25,
            connections: 50_000,
            connections_per_peer: None,
            connections_per_prefix: None,
            accept_rate: ACCEPT_RATE,
            first_byte_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(3600),
            unsent: 1 << 20,
            datagram: LONGEST_DATAGRAM,
            datagram_batch: DATAGRAM_BATCH,
            connects: 1000,
            connect_rate: 1000,
            listeners: 64,
            operations: 200_000,
            timers: 100_000,
            handles: 20_000,
            memberships: 1_000_000,
            hostcall_bytes: 4 << 20,
            log_lines: 100,
            open_files: 1024,
            storage_bytes: 16 << 20,
            metric_series: 1000,
            config_bytes: 1 << 20,
            component_bytes: 128 << 20,
            compile_time: Duration::from_secs(120),
            close_time: Duration::from_secs(30),
            connect_time: Duration::from_secs(30),
            handshake_time: Duration::from_secs(10),
            probation: Duration::from_secs(10),
        }
    }
}

/// Connections that a service accepts in a second: 20,000. Several times what one worker can serve that each bring a question, and far from what a flood
/// brings.
const ACCEPT_RATE: u32 = 20_000;

/// Connections of one address that is not loopback, if the limit is not set: 256, some browsers' worth behind one router.
pub const DEFAULT_PER_PEER: usize = 256;

/// Connections of one /24 of IPv4 or /64 of IPv6 that is not loopback, if the limit is not set: 4,096.
pub const DEFAULT_PER_PREFIX: usize = 4096;

/// Unsent bytes at which the host stops reading from a connection, and a plugin should stop writing to it: 64 KiB, as much as one read brings.
pub const HIGH_WATER: usize = 64 << 10;

/// Unsent bytes below which reading goes on and `writable` is called: 16 KiB, so that the peer is never idle for want of data.
pub const LOW_WATER: usize = 16 << 10;

/// The most bytes that one `data-received` brings: 64 KiB.
pub const READ_SIZE: usize = 64 << 10;

/// The most datagrams that one `datagrams-received` brings, and that one system call receives or sends: 64. The costs of the call are shared by then;
/// and 64 datagrams of 1,024 bytes are the 64 KiB of one call.
pub const DATAGRAM_BATCH: usize = 64;

/// The most payload that one `datagrams-received` brings: 64 KiB, as with a connection. The longest datagram fits.
pub const DATAGRAM_BYTES: usize = 64 << 10;

/// The most datagrams of one `send`, and that wait for the kernel to take them: 1,024.
pub const DATAGRAMS_UNSENT: usize = 1024;

/// Bytes of the longest payload that UDP can carry: 65,535, less the header (RFC 768).
pub const LONGEST_DATAGRAM: usize = 65_527;

/// The most bytes that one `read-at`, `write-at` or `append` moves: 1 MiB, so that a copy takes a fraction of a millisecond of the worker's time.
pub const STORAGE_SIZE: usize = 1 << 20;

/// Threads that one instance's file operations may wait for a disk in: 8. Further operations wait for these.
pub const STORAGE_THREADS: usize = 8;

/// The most entries of one page of a directory: 256, which with the longest names are 80 KiB.
pub const STORAGE_ENTRIES: usize = 256;

/// The most metrics of one instance: 100.
pub const METRICS: usize = 100;

/// With isolation `connection`, for each series that a service may have: values of gauges that the instances of one worker add up: 100, some 100 bytes each.
pub const METRIC_PARTS: usize = 100;

/// The most labels of a metric: 8.
pub const METRIC_LABELS: usize = 8;

/// The most buckets of a histogram: 32.
pub const METRIC_BUCKETS: usize = 32;

/// Bytes of the longest name of a metric, a unit or a label: 64.
pub const METRIC_NAME: usize = 64;

/// Bytes of the longest help text of a metric: 512.
pub const METRIC_HELP: usize = 512;

/// Bytes of the longest value of a label: 128. What is beyond is cut.
pub const METRIC_LABEL_VALUE: usize = 128;
