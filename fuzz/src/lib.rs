//! What must hold for any input: the targets of `cargo xtask fuzz`, and how to add one, which `README.md` in this folder tells.
//!
//! * [`TARGETS`]: all of them.
//! * `text`: what the host reads from operators, plugins and proxies.
//! * `contract`: the host's side of the contract.
//! * The rest lies with the plugins.

mod contract;

mod text;

#[path = "../../plugins/dns/fuzz/checks.rs"]
mod dns;
#[path = "../../plugins/http/fuzz/checks.rs"]
mod http1;
#[path = "../../plugins/irc/fuzz/checks.rs"]
mod irc;

/// Something that must hold for any input.
#[derive(Debug)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Panics if it does not hold.
    pub check: fn(&[u8]),
    /// Files, and folders of files, that inputs are made of; their paths are relative to the checkout.
    pub seeds: &'static [&'static str],
    /// Bytes of the longest input that is made.
    pub longest: usize,
}

impl Target {
    const fn new(name: &'static str, check: fn(&[u8]), seeds: &'static [&'static str]) -> Self {
        Self {
            name,
            check,
            seeds,
            longest: LONGEST,
        }
    }

    const fn longest(mut self, longest: usize) -> Self {
        self.longest = longest;
        self
    }

    /// Returns the target of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

/// Every target there is.
pub const TARGETS: &[Target] = &[
    Target::new("endpoint", text::endpoint, &["fuzz/corpus/endpoint"]).longest(300),
    Target::new(
        "config",
        text::config,
        &[
            "nethost.example.toml",
            "fuzz/corpus/config",
            "tests/config/invalid",
        ],
    ),
    Target::new("manifest", text::manifest, &["fuzz/corpus/manifest"]),
    Target::new("component", text::component, &["fuzz/corpus/component"]),
    Target::new("proxy", text::proxy, &["fuzz/corpus/proxy"]).longest(700),
    Target::new("contract", contract::check, &["fuzz/corpus/contract"]).longest(1000),
    Target::new("http-head", http1::head, &["plugins/http/fuzz/corpus/head"]),
    Target::new(
        "http-chunked",
        http1::chunked,
        &["plugins/http/fuzz/corpus/chunked"],
    )
    .longest(2000),
    Target::new(
        "http-session",
        http1::session,
        &["plugins/http/fuzz/corpus/session"],
    )
    .longest(2000),
    Target::new(
        "dns-decode",
        dns::decode_any,
        &["plugins/dns/fuzz/corpus/decode"],
    ),
    Target::new(
        "dns-encode",
        dns::encode_decode,
        &["plugins/dns/fuzz/corpus/encode"],
    ),
    Target::new(
        "dns-zone",
        dns::zone_file,
        &["plugins/dns/fuzz/corpus/zone"],
    ),
    Target::new(
        "dns-answer",
        dns::answer,
        &["plugins/dns/fuzz/corpus/answer"],
    ),
    Target::new(
        "irc-decode",
        irc::decode_any,
        &["plugins/irc/fuzz/corpus/decode"],
    )
    .longest(9000),
    Target::new(
        "irc-encode",
        irc::encode_decode,
        &["plugins/irc/fuzz/corpus/encode"],
    ),
    Target::new(
        "irc-session",
        irc::session,
        &["plugins/irc/fuzz/corpus/session"],
    ),
];

/// As long as libFuzzer's own default.
const LONGEST: usize = 4096;
