//! What a service manager and an operator expect of a process that serves.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::Command,
};

use nethost_tests::{
    DEADLINE,
    client::Client,
    host::{Host, nethost},
    places::{self, guest, plugin, root, scratch},
};
use rustix::process::{Signal, geteuid};

fn file(name: &str, host: &str, service: &str) -> PathBuf {
    let path = scratch(name).join("nethost.toml");
    let text = format!("[host]\nworkers = 2\n{host}\n[[service]]\nname = \"test\"\n{service}\n");
    fs::write(&path, text).unwrap();
    path
}

fn echo(listen: &str) -> String {
    let plugin = plugin("echo");
    format!(
        "plugin = \"{}\"\nlisten = [\"{listen}\"]\n",
        plugin.display()
    )
}

const TCP: &str = "tcp://127.0.0.1:0";

fn serve(file: &Path) -> Command {
    let mut command = places::host();
    command.arg("serve").arg(file);
    command
}

fn echoes(client: &mut Client) {
    client.send("ping");
    client.expect("ping");
}

/// Where a service manager hears how its service is doing.
struct Manager(UnixDatagram, PathBuf);

impl Manager {
    fn new(name: &str) -> Self {
        let path = scratch(name).join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket, path)
    }

    fn manages(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", &self.1);
        command
    }

    fn heard(&self) -> String {
        let mut buffer = [0; 1000];
        let count = self.0.recv(&mut buffer).expect("the host says something");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }
}

#[test]
fn the_service_manager_is_told_how_it_goes() {
    let file = file("daemon-notify", "", &echo(TCP));
    let manager = Manager::new("daemon-notify-socket");
    let host = Host::start(manager.manages(serve(&file)), 1);
    assert_eq!(
        manager.heard(),
        "READY=1\nSTATUS=services: 1, listeners: 1\n"
    );
    echoes(&mut host.connect());
    host.signal(Signal::HUP);
    let reloading = manager.heard();
    let microseconds = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .and_then(|rest| rest.trim().parse::<u64>().ok());
    assert!(microseconds.is_some_and(|it| it > 0), "{reloading}");
    assert!(manager.heard().starts_with("READY=1\n"));
    host.terminate();
    assert_eq!(manager.heard(), "STOPPING=1\n");
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn the_watchdog_is_fed_as_long_as_every_worker_answers() {
    let plugin = guest("loops");
    let service = format!(
        "plugin = \"{}\"\nlisten = [\"{TCP}\"]\nlimits.callback-time = \"1m\"\n",
        plugin.display()
    );
    let file = file("daemon-watchdog", "", &service);
    let manager = Manager::new("daemon-watchdog-socket");
    let mut command = manager.manages(serve(&file));
    command.env("WATCHDOG_USEC", "200000");
    let host = Host::start(command, 1);
    assert!(manager.heard().starts_with("READY=1\n"));
    for _ in 0..5 {
        assert_eq!(manager.heard(), "WATCHDOG=1\n");
    }
    // Nothing ends the loop for a minute, and its worker does nothing else meanwhile.
    let mut client = host.connect();
    client.send("!");
    host.logged(&["a worker does not answer"]);
    host.signal(Signal::KILL);
    host.ended();
}

#[test]
fn root_is_given_up_by_every_thread_before_a_plugin_runs() {
    let folder = scratch("daemon-user");
    // Who is nobody afterwards has to find the way to what it was given.
    for folder in folder.ancestors().take(2) {
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder, readable).unwrap();
    }
    let plugin = plugin("echo");
    let socket = folder.join("echo.sock");
    let text = format!(
        "[host]\nworkers = 2\nuser = \"nobody\"\ngroup = \"nogroup\"\npid-file = \"nethost.pid\"\n\
         [[service]]\nname = \"test\"\nplugin = \"{}\"\nlisten = [\"tcp://127.0.0.1:{}\", \"unix://{}\"]\n\
         grants.directories.logs = {{ path = \"logs\", mode = \"rw\" }}\n",
        plugin.display(),
        privileged_port(),
        socket.display(),
    );
    let file = folder.join("nethost.toml");
    fs::write(&file, text).unwrap();
    if !geteuid().is_root() {
        let ended = nethost(["serve", file.to_str().unwrap()]);
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        assert!(
            ended.log.contains("only root can become user"),
            "{}",
            ended.log
        );
        return;
    }
    // In a folder of root's it may make nothing, and root makes nothing for it.
    let refused = nethost(["serve", file.to_str().unwrap()]);
    assert_eq!(refused.code, Some(2), "{}", refused.log);
    assert!(
        refused
            .log
            .contains("logs as the `user` that nethost becomes"),
        "{}",
        refused.log
    );
    assert!(!folder.join("logs").exists());
    chown(&folder, Some(65534), Some(65534)).unwrap();
    let host = Host::start(serve(&file), 2);
    echoes(&mut host.connect());
    echoes(&mut Client::unix(&socket));
    let threads = fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap();
    let mut count = 0;
    for thread in threads {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("Uid:"), ["65534"; 4]);
        assert_eq!(of("Gid:"), ["65534"; 4]);
        assert_eq!(of("Groups:"), ["65534"]);
        assert_eq!(of("CapEff:"), ["0000000000000000"]);
        assert_eq!(of("CapPrm:"), ["0000000000000000"]);
        count += 1;
    }
    assert!(count >= 3, "{count} threads");
    for made in ["logs", "echo.sock"] {
        assert_eq!(
            fs::metadata(folder.join(made)).unwrap().uid(),
            65534,
            "{made}"
        );
    }
    host.terminate();
    assert_eq!(host.ended().code, Some(0));
    // Its folder is its own, so the files went with it.
    assert!(!socket.exists() && !folder.join("nethost.pid").exists());
}

/// A port below 1024 that nobody has; any other where this process may not have those.
fn privileged_port() -> u16 {
    let mut ports = (600..1024).rev();
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.unwrap_or(0)
}

#[test]
fn who_is_not_there_is_told_at_once() {
    let file = file(
        "daemon-nobody",
        "user = \"nobody-has-this-name\"",
        &echo(TCP),
    );
    let ended = nethost(["serve", file.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(
        ended
            .log
            .contains("nethost.toml:3:8: `user`: there is no user `nobody-has-this-name`"),
        "{}",
        ended.log
    );
}

#[test]
fn the_pid_file_is_there_as_long_as_the_process() {
    let file = file("daemon-pid", "pid-file = \"nethost.pid\"", &echo(TCP));
    let pid_file = file.with_file_name("nethost.pid");
    // What a process that was killed left behind is in nobody's way.
    fs::write(&pid_file, "1\n").unwrap();
    let host = Host::start(serve(&file), 1);
    let written = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(written, format!("{}\n", host.pid()));
    let second = nethost(["serve", file.to_str().unwrap()]);
    assert_eq!(second.code, Some(2), "{}", second.log);
    let expected = format!(
        "nethost.pid is held by another nethost (process {})",
        host.pid()
    );
    assert!(second.log.contains(&expected), "{}", second.log);
    echoes(&mut host.connect());
    host.terminate();
    assert_eq!(host.ended().code, Some(0));
    assert!(!pid_file.exists());
}

#[test]
fn it_takes_as_many_descriptors_as_it_is_allowed() {
    let file = file("daemon-descriptors", "", &echo(TCP));
    let mut command = Command::new("sh");
    let host = places::host();
    command
        .args([
            "-c",
            "ulimit -S -n 100 && ulimit -H -n 900 && exec \"$@\"",
            "sh",
        ])
        .arg(host.get_program())
        .arg("serve")
        .arg(&file);
    let host = Host::start(command, 1);
    let limits = fs::read_to_string(format!("/proc/{}/limits", host.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[3..5], ["900", "900"], "{limits}");
    let mut clients: Vec<Client> = (0..200).map(|_| host.connect()).collect();
    clients.iter_mut().for_each(echoes);
}

#[test]
fn the_unit_is_right_and_leaves_little_open() {
    let unit = root().join("dist/nethost.service");
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze")
            .args(arguments)
            .arg(&unit)
            .output();
        let output = output.expect("systemd-analyze runs: `cargo xtask test` installs it");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (_, said) = analyze(&["verify"]);
    // The program is not installed here.
    let complaints = said
        .lines()
        .filter(|line| !line.contains("is not executable"));
    assert_eq!(complaints.collect::<Vec<_>>(), [""; 0]);
    // Tenths: 2.0 is well within what systemd calls OK.
    let (is_below, said) = analyze(&["security", "--offline=true", "--threshold=20"]);
    assert!(is_below, "{said}");
}
