use std::collections::BTreeSet;

use toml_edit::{Document, Item, TableLike, Value};

use super::*;
use crate::limits::Limits;

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let parsed = Config::parse(text, Path::new("dir/nethost.toml"));
    parsed.map_err(|Problems(problems)| problems)
}

fn irc(rest: &str) -> String {
    format!("[[service]]\nname = \"irc\"\nplugin = \"irc.wasm\"\n{rest}")
}

#[track_caller]
fn wrong(text: &str, line: usize, column: usize, part: &str) {
    let problems = parse(text).expect_err("it is wrong");
    let found = problems
        .iter()
        .find(|it| (it.line, it.column) == (line, column) && it.line().contains(part));
    assert!(
        found.is_some(),
        "no `{part}` at {line}:{column} in {problems:#?}"
    );
}

/// The example with every key set, for which two things have to be there: a secret's file and a variable.
fn uncommented() -> String {
    let is_key = |line: &&str| {
        let line = line.strip_prefix('#').unwrap_or(line);
        let is_table = line.starts_with('[') && line.ends_with(']');
        let key = line.split(" = ").next().unwrap_or_default();
        let is_word = |key: &str| key.bytes().all(|it| it.is_ascii_lowercase() || it == b'-');
        is_table || (line.contains(" = ") && is_word(key))
    };
    let lines = EXAMPLE.lines().filter(is_key);
    let lines: Vec<_> = lines
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .collect();
    let text = lines.join("\n");
    text.replace("env = \"IRC_OPER\"", "env = \"PATH\"")
        .replace("file = \"oper-password\"", "file = \"/proc/self/comm\"")
        .replace(
            "/etc/nethost/admin-token",
            "/proc/sys/kernel/random/boot_id",
        )
}

#[test]
fn the_example_is_a_file_as_it_is_and_with_every_key() {
    let path = Path::new("nethost.toml");
    let plain = Config::parse(EXAMPLE, path).unwrap_or_else(|error| panic!("{error}"));
    let defaults = ServiceConfig {
        name: Some("irc".to_owned()),
        ..ServiceConfig::new("plugins/irc.wasm".into())
    };
    assert_eq!(plain.host, HostConfig::default());
    assert_eq!(plain.services[0].config, defaults);
    let full = Config::parse(&uncommented(), path).unwrap_or_else(|error| panic!("{error}"));
    // What is said to be the default is.
    let limits = Limits {
        // Set, they count for loopback as well.
        connections_per_peer: Some(256),
        connections_per_prefix: Some(4096),
        ..Limits::default()
    };
    assert_eq!(full.services[0].config.limits, limits);
    assert_eq!(full.host.drain_timeout, DRAIN_TIMEOUT);
    assert!(!full.services[0].config.anonymous);
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let text = uncommented();
    let document = Document::parse(text.as_str()).unwrap();
    let mut found = BTreeSet::new();
    collect("", document.as_table(), &mut found);
    let mut known = BTreeSet::new();
    for (table, keys) in [
        ("", keys::ROOT.to_vec()),
        ("host.", keys::HOST.to_vec()),
        ("host.admin-token.", vec!["file"]),
        ("service.", keys::SERVICE.to_vec()),
        ("service.limits.", limits::keys()),
        ("service.grants.", keys::GRANTS.to_vec()),
        ("service.grants.directories.", keys::DIRECTORY.to_vec()),
        ("service.grants.files.", keys::FILE.to_vec()),
        ("service.grants.tls.", keys::TLS.to_vec()),
        ("service.config.", keys::SECRET.to_vec()),
    ] {
        known.extend(keys.iter().map(|key| format!("{table}{key}")));
    }
    assert_eq!(found, known);
}

/// Collects the keys with their tables; names that the operator gives are left out.
fn collect(table: &str, keys: &dyn TableLike, found: &mut BTreeSet<String>) {
    for (key, item) in keys.iter() {
        let is_named = ["service.grants.directories.", "service.grants.files."].contains(&table);
        let of_plugin = table == "service.config." && !keys::SECRET.contains(&key);
        let inner = if (is_named || of_plugin) && item.is_table_like() {
            table.to_owned()
        } else if of_plugin {
            continue;
        } else {
            found.insert(format!("{table}{key}"));
            format!("{table}{key}.")
        };
        match item {
            Item::Table(table) => collect(&inner, table, found),
            Item::Value(Value::InlineTable(table)) => collect(&inner, table, found),
            Item::ArrayOfTables(tables) => {
                for table in tables {
                    collect(&inner, table, found);
                }
            }
            Item::Value(_) | Item::None => {}
        }
    }
}

/// serde's refusal of unknown fields had gaps; this is no serde, and the test is here even so.
#[test]
fn a_misspelling_of_every_key_is_refused_with_its_line_and_the_key() {
    let text = uncommented();
    let mut count = 0;
    for (index, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else {
            continue;
        };
        let table = text.lines().take(index).filter(|it| it.starts_with('['));
        if table.last() == Some("[service.config]") {
            continue;
        }
        count += 1;
        let misspelled = format!("{key}e = {value}");
        let lines = text.lines().enumerate();
        let lines: Vec<_> = lines
            .map(|(at, line)| if at == index { &misspelled } else { line })
            .collect();
        let problems = parse(&lines.join("\n")).expect_err(key);
        let told = problems.iter().any(|problem| {
            problem.line == index + 1
                && problem.message.ends_with(&format!("has no key `{key}e`"))
                && problem.mend.as_deref() == Some(&format!("did you mean `{key}`?"))
        });
        assert!(told, "{key}: {problems:#?}");
    }
    assert!(count > 40, "{count}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_files_order() {
    let text =
        "[host]\nworkers = 0\nlisten = 1\n[[service]]\nname = \"a b\"\n[[service]]\nplugin = 5\n";
    let problems = parse(text).unwrap_err();
    let places: Vec<_> = problems.iter().map(|it| (it.line, it.column)).collect();
    assert_eq!(places, [(2, 11), (3, 1), (4, 1), (5, 8), (6, 1), (7, 10)]);
}

#[test]
fn what_is_written_is_what_the_service_is_told() {
    let text = irc(r#"listen = ["tls://[::]:6697?cert=certs&key=/etc/key.pem"]
isolation = "service"
limits.memory = "64MiB"
limits.callback-time = "20ms"
[service.grants]
connect = ["10.0.0.0/8:*"]
users = "../users.toml"
directories = { logs = { path = "logs", mode = "rw", quota = 4096 } }
[service.config]
network = "TestNet"
nick-length = 9
flood = true
motd = ["a", "b"]
[host]
name-servers = ["192.0.2.1"]
drain-timeout = "0s"
metrics = "unix:///run/metrics.sock"
"#);
    let config = parse(&text).unwrap();
    let service = &config.services[0].config;
    assert_eq!(service.plugin, Path::new("dir/irc.wasm"));
    assert_eq!(
        service.listen[0].to_string(),
        "tls://[::]:6697?cert=dir/certs&key=/etc/key.pem"
    );
    assert_eq!(
        service.users.as_deref(),
        Some(Path::new("dir/../users.toml"))
    );
    assert_eq!(service.limits.memory, 64 << 20);
    assert_eq!(service.limits.callback_time, Duration::from_millis(20));
    assert_eq!(service.limits.unsent, Limits::default().unsent);
    assert_eq!(service.directories[0].grant.path, Path::new("dir/logs"));
    assert_eq!(service.directories[0].quota, Some(4096));
    assert_eq!(service.name_servers[0].to_string(), "192.0.2.1:53");
    assert_eq!(config.host.drain_timeout, Duration::ZERO);
    let text = |text: &str| Text::Plain(text.to_owned());
    for (key, expected) in [
        ("network", Setting::Text(text("TestNet"))),
        ("nick-length", Setting::Integer(9)),
        ("flood", Setting::Boolean(true)),
        ("motd", Setting::List(vec![text("a"), text("b")])),
    ] {
        assert_eq!(service.settings[key], expected, "{key}");
    }
}

#[test]
fn two_at_one_place_are_one_too_many() {
    let both = |one: &str, other: &str| {
        format!(
            "[[service]]\nname = \"a\"\nplugin = \"p\"\nlisten = [\"{one}\"]\n[[service]]\nname = \"b\"\nplugin = \"p\"\nlisten = [\"{other}\"]\n"
        )
    };
    for (one, other) in [
        ("tcp://127.0.0.1:7", "tcp://127.0.0.1:7?backlog=5"),
        ("tcp://127.0.0.1:7", "tls://127.0.0.1:7?cert=x"),
        ("unix:///x", "unix:///x?mode=600"),
        ("fd://3", "fd://3"),
    ] {
        wrong(&both(one, other), 8, 11, "is taken by service `a`");
    }
    let metrics = "[host]\nmetrics = \"tcp://127.0.0.1:7\"\n";
    let text = irc("listen = [\"tcp://127.0.0.1:7\"]\n") + metrics;
    wrong(&text, 4, 11, "is taken by `metrics` of [host]");
    for (one, other) in [
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp://127.0.0.1:7", "udp://127.0.0.1:7"),
        ("tcp://127.0.0.1:7", "tcp://127.0.0.2:7"),
    ] {
        assert!(parse(&both(one, other)).is_ok(), "{one}");
    }
}

#[test]
fn a_secret_does_not_show() {
    let path = std::env::temp_dir().join(format!("nethost-shown-{}", std::process::id()));
    std::fs::write(&path, "hush-hush\n").unwrap();
    let text = irc(&format!(
        "[service.config]\npassword = {{ file = \"{}\" }}\nlist = [\"a\", {{ env = \"PATH\" }}]\n",
        path.display()
    ));
    let config = parse(&text).unwrap();
    std::fs::remove_file(&path).unwrap();
    let service = &config.services[0].config;
    assert!(!format!("{config:?}").contains("hush-hush"));
    let Setting::Text(secret) = &service.settings["password"] else {
        panic!("{service:?}");
    };
    assert_eq!(
        (secret.expose(), secret.to_string().as_str()),
        ("hush-hush", "(secret)")
    );
    assert_eq!(
        service.secrets().redact("`hush-hush` is too short"),
        "`(secret)` is too short"
    );
    // A plugin may say a line of it alone, and control characters are escaped only after this.
    let key = "-----BEGIN KEY-----\nabcdefgh\n}\n";
    let lines = Secrets::of([&Secret::of_text(key)].into_iter());
    assert_eq!(lines.redact("bad: abcdefgh }"), "bad: (secret) }");
    assert_eq!(lines.redact(&format!("`{key}`")), "`(secret)`");
    // Others may read it, which is only warned of.
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].line().contains("chmod 600"));
    for (value, part) in [
        ("{ file = \"/nowhere\" }", "/nowhere"),
        ("{ env = \"NETHOST_NOT_SET\" }", "NETHOST_NOT_SET"),
        ("{}", "is nowhere"),
        ("{ file = \"a\", env = \"B\" }", "in two places"),
        ("{ fil = \"a\" }", "did you mean `file`?"),
    ] {
        let text = irc(&format!("[service.config]\npassword = {value}\n"));
        let problems = parse(&text).unwrap_err();
        assert_eq!(problems[0].line, 5);
        assert!(problems[0].line().contains(part), "{problems:?}");
    }
}

const EXAMPLE: &str = include_str!("../../../nethost.example.toml");
