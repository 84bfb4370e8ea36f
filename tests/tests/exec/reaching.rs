//! What a command may reach: the hosts and the files that its arguments name.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    process::Command,
    thread,
};

use nethost_tests::{
    host::Run,
    names::{Names, addresses},
    places::{self, guest, plugin, scratch},
};

use super::Exec;

#[test]
fn hosts_that_arguments_mention_may_be_connected_to_and_no_others() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let here = format!("tcp://127.0.0.1:{port}");
    let (this, other) = (
        format!("127.0.0.1:{port}"),
        format!("127.0.0.1:{}", port ^ 1),
    );
    let url = format!("http://{this}/path?query");
    let at = format!("user@{this}");
    for (arguments, outcome) in [
        (&["127.0.0.1"] as &[&str], "connected"),
        (&["@127.0.0.1", "x"], "connected"),
        (&[&this], "connected"),
        (&[&url], "connected"),
        (&[&at], "connected"),
        (&["[::ffff:127.0.0.1]"], "connected"),
        (&[], "denied"),
        (&[&other], "denied"),
        (&["127.0.0.2"], "denied"),
        (&["127.0.0.11", "1127.0.0.1"], "denied"),
        (&["localhost"], "denied"),
        (&["127.0.0.1.example.org"], "denied"),
        (&["0.0.0.0", "*", "*:*", "127.0.0.0/8"], "denied"),
    ] {
        let ended = Exec::script(&[&format!("connect {here}")])
            .arguments(arguments)
            .run();
        let said = ended.output.split(':').next().unwrap().trim();
        assert_eq!(said, outcome, "{arguments:?}: {}", ended.output);
        let told = format!("nethost: tcp://{this} is not granted");
        let flag = format!("--allow-connect {this}\n");
        assert_eq!(
            ended.error.contains(&told),
            outcome == "denied",
            "{}",
            ended.error
        );
        assert_eq!(
            ended.error.contains(&flag),
            outcome == "denied",
            "{}",
            ended.error
        );
    }
    let allowed = Exec::script_with(&["--allow-connect", &this], &[&format!("connect {here}")]);
    assert_eq!(allowed.run().output, "connected\n");
    let quiet = Exec::script_with(&["--quiet"], &[&format!("connect {here}")]).run();
    assert_eq!(quiet.error, "");
}

#[test]
fn names_resolve_where_they_are_mentioned_and_never_to_this_machine() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = Names::start();
    names.set("public.test", addresses("127.0.0.1"));
    names.set("far.test", addresses("192.0.2.7"));
    let server = names.address().to_string();
    let connect = format!("connect tcp://public.test:{port}");
    for (arguments, steps, expected) in [
        (
            &["http://public.test/"] as &[&str],
            &[connect.as_str()] as &[&str],
            "denied",
        ),
        (&["far.test"], &["resolve far.test"], "[192.0.2.7]"),
        (&["FAR.test."], &["resolve far.TEST"], "[192.0.2.7]"),
        (&["x.far.test", "far.tes"], &["resolve far.test"], "denied"),
        (&["192.0.2.7"], &["resolve far.test"], "denied"),
        (&["none.test"], &["resolve none.test"], "name not found"),
    ] {
        let options = ["--nameserver", &server];
        let ended = Exec::script_with(&options, steps)
            .arguments(arguments)
            .run();
        assert!(
            ended.output.starts_with(expected),
            "{arguments:?}: {}",
            ended.output
        );
    }
    // The name `localhost` is this machine, wherever it is mentioned.
    let connect = format!("connect tcp://localhost:{port}");
    let ended = Exec::script(&[&connect])
        .arguments(&["http://LOCALHOST/"])
        .run();
    assert_eq!(ended.output, "connected\n");
}

#[test]
fn tls_trusts_whom_the_command_line_says() {
    let folder = scratch("exec-tls");
    let certificate = folder.join("localhost.pem");
    let mut cert = places::host();
    cert.args(["cert", "self-signed"])
        .arg(&folder)
        .arg("localhost");
    assert!(cert.output().unwrap().status.success());
    let listen = format!("tls://127.0.0.1:0?cert={}", folder.display());
    let server = Run::of(plugin("echo")).listen(&listen).start();
    let url = server.listening().remove(0);
    let port = url.rsplit(':').next().unwrap().split('?').next().unwrap();
    let connect = format!("connect tls://localhost:{port}");
    let ca = certificate.to_str().unwrap();
    for (options, expected) in [(&["--tls-ca", ca] as &[&str], "connected"), (&[], "tls: ")] {
        let exec = Exec::script_with(options, &[&connect]);
        let output = exec.arguments(&["https://localhost/"]).run().output;
        assert!(output.starts_with(expected), "{output}");
    }
}

#[test]
fn datagrams_and_name_servers_go_the_same_way() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = peer.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((count, from)) = peer.recv_from(&mut buffer) {
            peer.send_to(&buffer[..count], from).unwrap();
        }
    });
    let udp = format!("udp udp://{address}");
    let hello = "Ok(Some([104, 101, 108, 108, 111]))\n";
    let ended = Exec::script(&[&udp]).arguments(&[&address]).run();
    assert_eq!(ended.output, hello, "{}", ended.error);
    let ended = Exec::script(&[&udp]).run();
    assert!(ended.output.starts_with("denied"), "{}", ended.output);
    // As a name server it may be asked, at that port.
    let ended = Exec::script_with(&["--nameserver", &address], &["servers", &udp]).run();
    assert_eq!(ended.output, format!("[{address}]\n{hello}"));
    let other = "udp udp://127.0.0.1:9";
    let ended = Exec::script_with(&["--nameserver", &address], &[other]).run();
    assert!(ended.output.starts_with("denied"), "{}", ended.output);
}

fn folder(name: &str) -> PathBuf {
    let folder = scratch(name);
    fs::write(folder.join("in"), "inside").unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    fs::write(folder.join("sub/deep"), "deep").unwrap();
    folder
}

#[test]
fn files_that_arguments_name_are_read_and_written() {
    let folder = folder("exec-files");
    let absolute = folder.join("absolute");
    let absolute = absolute.to_str().unwrap();
    for (arguments, step, expected) in [
        (&["-r", "in"] as &[&str], "read in", "`inside`"),
        (&["-rin"], "read in", "`inside`"),
        (&["in", "sub/deep"], "read sub/deep", "`deep`"),
        (&["-r", "./sub/../in"], "read ./sub/../in", "`inside`"),
        (&["-w", "new"], "write new one", "`one`"),
        (&["-w", "new"], "append new two", "`onetwo`"),
        (&["-w", "new"], "make new x", "exists"),
        (&["-w", "new"], "write new three", "`three`"),
        (&["-w", "new"], "read new", "`three`"),
        (&["-w", absolute], &format!("write {absolute} x"), "`x`"),
        (&["-w", "sub/none/x"], "write sub/none/x y", "not found"),
        (&["-w", "/dev/null"], "write /dev/null x", "``"),
        (&["-r", "none"], "read none", "not found"),
        (&["-r", "sub"], "read sub", "invalid"),
    ] {
        let ended = Exec::script(&[step])
            .arguments(arguments)
            .within(&folder)
            .run();
        let output = &ended.output;
        assert!(
            output.starts_with(expected),
            "{arguments:?} {step}: {output}"
        );
    }
    // Nothing is made before it is opened.
    Exec::script(&[])
        .arguments(&["-w", "unopened", "-w", "in"])
        .within(&folder)
        .run();
    assert!(!folder.join("unopened").exists());
    assert_eq!(fs::read(folder.join("in")).unwrap(), b"inside");
}

#[test]
fn the_host_moves_bytes_from_and_to_the_files() {
    let folder = scratch("exec-bulk");
    let contents: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(folder.join("here"), &contents).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sent = contents.clone();
    let server = thread::spawn(move || {
        listener.accept().unwrap().0.write_all(&sent).unwrap();
        let mut received = Vec::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_end(&mut received)
            .unwrap();
        received
    });
    let (receive, send) = (
        format!("receive tcp://{address} there"),
        format!("send tcp://{address} here"),
    );
    let ended = Exec::script(&[&receive, &send])
        .arguments(&[&address, "-w", "there", "-r", "here"])
        .within(&folder)
        .run();
    assert_eq!(
        ended.output, "1000000 bytes\n1000000 bytes\n",
        "{}",
        ended.error
    );
    assert!(server.join().unwrap() == contents);
    assert!(fs::read(folder.join("there")).unwrap() == contents);
}

#[test]
fn files_that_arguments_do_not_name_so_are_refused() {
    let folder = folder("exec-refused");
    let fifo = folder.join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    for (arguments, step) in [
        (&[] as &[&str], "read in"),
        (&["in"], "read in"),
        (&["sub", "in"], "read in"),
        (&["-r", "in"], "write in x"),
        (&["-r", "in"], "append in x"),
        (&["-r", "in"], "read ./in"),
        (&["-r", "in"], "read sub/../in"),
        (&["-r", "./in"], "read in"),
        (&["-w", "sub/deep"], "read sub/../in"),
        (&["-w", "sub/deep"], "write sub/deep/../../in x"),
        (&["-w", "sub/deep"], "write deep x"),
        (&["-r", "sub/deep"], "read /etc/passwd"),
        (&["--", "-r", "in"], "read in"),
        (&["-x", "in"], "read in"),
        (&["-r", "-"], "read -"),
        (&["-r", "fifo"], "read fifo"),
        (&["-w", "fifo"], "write fifo x"),
    ] {
        let ended = Exec::script(&[step])
            .arguments(arguments)
            .within(&folder)
            .run();
        assert!(
            ended.output.starts_with("denied"),
            "{arguments:?} {step}: {}",
            ended.output
        );
        assert!(
            ended.error.starts_with("nethost: "),
            "{step}: {}",
            ended.error
        );
    }
    assert_eq!(fs::read(folder.join("in")).unwrap(), b"inside");
    assert_eq!(fs::read(folder.join("sub/deep")).unwrap(), b"deep");
}

#[test]
fn inspect_shows_what_arguments_may_grant() {
    let mut command = places::host();
    let output = command
        .arg("inspect")
        .arg(guest("commands"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "command    arguments          ARGUMENTS",
        "reads files        -r, in 1",
        "writes files       -w",
        "asks name servers  to test name servers",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}
