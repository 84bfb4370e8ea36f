use super::*;

const FULL: &str = r#"
[plugin]
name = "irc"
version = "0.1.0"
description = "An IRC server"
listen = ["tcp://127.0.0.1:6667", "unix:///run/irc.sock?mode=660"]
isolation = ["service", "connection"]

[grants]
connect = "to dial the upstream"

[grants.directories.logs]
mode = "rw"
reason = "to keep what was said"

[config.network]
type = "string"
default = "ExampleNet"
description = "The network's name"

[config.max-channels]
type = "integer"
default = 20
description = "How many channels a client may be in"

[config.flood-control]
type = "boolean"
default = false
description = "Slow fast clients down"

[config.ping-interval]
type = "duration"
default = "30s"
description = "How often an idle client is pinged"

[config.motd]
type = "list"
default = ["Welcome"]
description = "The lines of the message of the day"
"#;

fn full() -> Manifest {
    Manifest::parse(FULL, "plugin.toml").unwrap()
}

fn sets(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn a_full_manifest_is_read() {
    let manifest = full();
    assert_eq!(manifest.name, "irc");
    assert_eq!(manifest.version.as_deref(), Some("0.1.0"));
    assert_eq!(manifest.listen.len(), 2);
    assert_eq!(
        manifest.isolation,
        [Isolation::Service, Isolation::Connection]
    );
    assert_eq!(manifest.default_isolation(), Isolation::Service);
    assert_eq!(manifest.grants["connect"], "to dial the upstream");
    let logs = &manifest.directories["logs"];
    assert_eq!(logs.mode, FileMode::ReadWrite);
    assert_eq!(logs.reason, "to keep what was said");
    assert_eq!(
        manifest.config["ping-interval"].default,
        Some(30_000_000_000u64.into())
    );
}

#[test]
fn the_least_manifest_is_a_name_and_a_version() {
    let manifest = Manifest::parse("[plugin]\nname = \"x\"\nversion = \"1.0.0\"\n", "f").unwrap();
    assert_eq!(manifest.isolation, [Isolation::Worker]);
    assert!(manifest.listen.is_empty() && manifest.grants.is_empty() && manifest.config.is_empty());
}

#[test]
fn a_bad_manifest_is_refused_with_file_key_and_reason() {
    let head = "[plugin]\nname = \"x\"\nversion = \"0.1.0\"\n";
    for (text, expected) in [
        ("", "f:1: missing field `plugin`"),
        ("[plugin\n", "f:1: "),
        ("[plugin]\nversion = \"0.1.0\"\n", "missing field `name`"),
        ("[plugin]\nname = \"x\"\n", "missing field `version`"),
        (
            &format!("{head}listne = []\n"),
            "f:4: unknown field `listne`, expected one of `name`",
        ),
        (
            &format!("{head}listen = \"x\"\n"),
            "f:4: invalid type: string",
        ),
        (
            &format!("{head}listen = [\"localhost\"]\n"),
            "f: `plugin.listen`: `localhost`",
        ),
        (
            &format!("{head}isolation = [\"process\"]\n"),
            "f:4: unknown variant `process`, expected one of `worker`, `service`, `connection`",
        ),
        (
            &format!("{head}isolation = [\"worker\", \"worker\"]\n"),
            "f: `plugin.isolation`: `worker` is named twice",
        ),
        (
            &format!("{head}[grant]\n"),
            "unknown field `grant`, expected one of `plugin`, `grants`, `command`, `config`",
        ),
        (
            &format!("{head}description = \"a\\u001B[2Jb\"\n"),
            r"f: `plugin.description`: `a\u{1b}[2Jb` has a line end or another control character in it",
        ),
        (
            &format!("{head}listen = [\"unix:///run/\\u0007\"]\n"),
            "f: `plugin.listen`: ",
        ),
        (
            &format!("{head}[grants]\nconnect = \"\"\"to\ndial\"\"\"\n"),
            r"f: `grants.connect`: `to\ndial` has a line end",
        ),
        (
            &format!("{head}[grants.directories.d]\nmode = \"ro\"\nreason = \"\\u009B2J\"\n"),
            r"f: `grants.directories.d.reason`: `\u{9b}2J` has",
        ),
        (
            &format!("{head}[command]\nusage = \"\\r\"\n"),
            r"f: `command.usage`: `\r` has",
        ),
        (
            &format!("{head}[command]\nname-servers = \"x\\u007F\"\n"),
            r"f: `command.name-servers`: `x\u{7f}` has",
        ),
        (
            &format!("{head}[config.k]\ntype = \"string\"\ndescription = \"a\\tb\"\n"),
            r"f: `config.k.description`: `a\tb` has",
        ),
        // What was wrong is not written to the terminal either.
        (
            "[plugin]\nname = \"\\u001B[2J\"\nversion = \"0.1.0\"\n",
            r"f: `plugin.name`: `\u{1b}[2J` is not a name",
        ),
        (
            &format!("{head}\"x\\u001B\" = 1\n"),
            r"f:4: unknown field `x\u{1b}`",
        ),
        (
            &format!("{head}[command]\nread = []\n"),
            "f:5: unknown field `read`, expected one of `usage`, `reads`, `writes`, `values`, `name-servers`",
        ),
        (
            &format!("{head}[command]\nwrites = [\"-output\"]\n"),
            "f: `command.writes`: `-output` does not say where a file is named",
        ),
        (
            &format!("{head}[command]\nvalues = [\"H\"]\n"),
            "f: `command.values`: `H` is no option",
        ),
        (
            &format!("{head}[command]\nname-servers = \"\"\n"),
            "f: `command.name-servers`: says nothing about why",
        ),
        (
            &format!("{head}[grants]\nconect = \"x\"\n"),
            "f:5: unknown field `conect`, expected one of `connect`, `directories`, `users`, `anonymous`",
        ),
        (
            &format!("{head}[grants]\nconnect = \" \"\n"),
            "f: `grants.connect`: says nothing",
        ),
        (
            &format!("{head}[grants.directories.A]\nmode = \"rw\"\nreason = \"x\"\n"),
            "f: `grants.directories.A`: `A` is not a name",
        ),
        (
            &format!("{head}[grants.directories.a]\nmode = \"rw\"\nreason = \" \"\n"),
            "f: `grants.directories.a.reason`: says nothing",
        ),
        (
            &format!("{head}[grants.directories.a]\nmode = \"w\"\nreason = \"x\"\n"),
            "f:5: unknown variant `w`, expected `ro` or `rw`",
        ),
        (
            &format!("{head}[grants.directories.a]\nreason = \"x\"\n"),
            "missing field `mode`",
        ),
        (
            &format!("{head}[config.a]\ntype = \"int\"\ndescription = \"\"\n"),
            "f:5: unknown variant `int`, expected one of `string`, `integer`",
        ),
        (
            &format!("{head}[config.a]\ntype = \"integer\"\n"),
            "missing field `description`",
        ),
        (
            &format!(
                "{head}[config.a]\ntype = \"string\"\ndescription = \"\"\nneeds = \"connect\"\n"
            ),
            "f: `config.a.needs`: `connect` is no grant that [grants] asks for",
        ),
        (
            &format!("{head}[config.A]\ntype = \"integer\"\ndescription = \"\"\n"),
            "f: `config.A`: `A` is not a name",
        ),
        (
            &format!("{head}[config.a]\ntype = \"integer\"\ndefault = \"1\"\ndescription = \"\"\n"),
            "f: `config.a.default`: `\"1\"` is not an integer",
        ),
        (
            &format!("{head}[config.a]\ntype = \"duration\"\ndefault = 30\ndescription = \"\"\n"),
            "f: `config.a.default`: `30` is not a duration such as `30s`",
        ),
        (
            &format!("{head}[config.a]\ntype = \"list\"\ndefault = [1]\ndescription = \"\"\n"),
            "f: `config.a.default`: `[1]` is not a list of strings",
        ),
        (
            &format!("{head}[config.a]\ntype = \"string\"\ndefautl = \"\"\ndescription = \"\"\n"),
            "f:6: unknown field `defautl`",
        ),
        (
            "[plugin]\nname = \"My Plugin\"\nversion = \"0.1.0\"\n",
            "f: `plugin.name`: `My Plugin` is not a name",
        ),
        (
            "[plugin]\nname = \"x\"\nversion = \"one\"\n",
            "f: `plugin.version`: `one` is not a version",
        ),
    ] {
        let error = Manifest::parse(text, "f").expect_err(text).to_string();
        assert!(
            error.contains(expected),
            "{text:?}\n got {error}\nwant {expected}"
        );
        assert!(!error.contains(char::is_control), "{error}");
    }
}

#[test]
fn config_holds_every_key_with_its_default() {
    assert_eq!(
        Value::Object(full().config(&[]).unwrap()).to_string(),
        r#"{"flood-control":false,"max-channels":20,"motd":["Welcome"],"network":"ExampleNet","ping-interval":30000000000}"#
    );
}

#[test]
fn a_setting_replaces_the_default() {
    for (settings, key, expected) in [
        (&[("network", "a=b, c")][..], "network", r#""a=b, c""#),
        (&[("network", "")], "network", r#""""#),
        (&[("max-channels", "-3")], "max-channels", "-3"),
        (&[("flood-control", "true")], "flood-control", "true"),
        (&[("ping-interval", "2m")], "ping-interval", "120000000000"),
        (
            &[("motd", "a, b"), ("motd", "c")],
            "motd",
            r#"["a, b","c"]"#,
        ),
        (&[("motd", "")], "motd", "[]"),
        (&[("motd", ""), ("motd", "")], "motd", r#"["",""]"#),
    ] {
        let config = full().config(&sets(settings)).unwrap();
        assert_eq!(config[key].to_string(), expected, "{settings:?}");
    }
}

#[test]
fn a_bad_setting_is_refused_with_key_value_and_expectation() {
    for (settings, expected) in [
        (
            &[("netwrok", "x")][..],
            "unknown config key `netwrok`, did you mean `network`? (the keys of `irc`: `flood-control`, `max-channels`, `motd`, `network`, `ping-interval`)",
        ),
        (
            &[("colour", "x")],
            "unknown config key `colour` (the keys of `irc`: ",
        ),
        (
            &[("max-channels", "many")],
            "config key `max-channels`: `many` is not an integer",
        ),
        (
            &[("max-channels", "99999999999999999999")],
            "is not an integer",
        ),
        (
            &[("flood-control", "yes")],
            "config key `flood-control`: `yes` is not `true` or `false`",
        ),
        (
            &[("ping-interval", "30")],
            "config key `ping-interval`: `30` is not a duration such as `30s` (ms, s, m, h, d)",
        ),
        (
            &[("network", "a"), ("network", "b")],
            "config key `network` is set twice, and holds one string",
        ),
    ] {
        let error = full()
            .config(&sets(settings))
            .expect_err(expected)
            .to_string();
        assert!(error.contains(expected), "got {error}\nwant {expected}");
    }
}

#[test]
fn a_key_without_a_default_has_to_be_set() {
    let text = "[plugin]\nname = \"relay\"\nversion = \"0.1.0\"\n[config.upstream]\ntype = \"string\"\ndescription = \"\"\n";
    let manifest = Manifest::parse(text, "f").unwrap();
    assert_eq!(
        manifest.config(&[]).unwrap_err().to_string(),
        "`relay` needs a value for `upstream`"
    );
    assert!(manifest.config(&sets(&[("upstream", "x")])).is_ok());
}

#[test]
fn a_component_without_a_manifest_has_no_keys() {
    assert_eq!(
        Manifest::assumed("made elsewhere\n").name,
        "made-elsewhere-"
    );
    let manifest = Manifest::assumed("made-elsewhere");
    assert_eq!(manifest.config(&[]), Ok(Map::new()));
    assert_eq!(
        manifest
            .config(&sets(&[("a", "b")]))
            .unwrap_err()
            .to_string(),
        "cannot set `a`: `made-elsewhere` carries no manifest, so it has no config keys"
    );
}

#[test]
fn values_are_shown_as_the_operator_writes_them() {
    let shown: Vec<String> = full()
        .config
        .values()
        .map(|key| key.kind.show(key.default.as_ref().unwrap()))
        .collect();
    assert_eq!(
        shown,
        ["false", "20", r#"["Welcome"]"#, r#""ExampleNet""#, "30s"]
    );
}
