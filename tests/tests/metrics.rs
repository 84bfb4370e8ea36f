//! What the host counts and tells: `--metrics`.

use std::{
    cell::Cell,
    io::{Read as _, Write as _},
    num::NonZeroUsize,
    rc::Rc,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use nethost::{
    limits::Limits,
    manifest::Isolation,
    metrics::{endpoint, registry::Phase},
    reactor::{CloseReason, Connection, Handler, Id, Origin, Outcome, SessionKey},
    service::{Host as Library, NativeProtocol, Protocol, ServiceSpec},
};
use nethost_tests::{
    client::Client,
    host::{Host, Run, nethost},
    metrics::{Endpoint, Scrape},
    places,
    service::{Running, program},
};

fn start(run: Run) -> (Host, Endpoint) {
    let host = run.arguments(["--metrics", "tcp://127.0.0.1:0"]).start();
    let endpoint = Endpoint::of(&host);
    (host, endpoint)
}

/// Sends a command to the guest `counts`, and returns the answer.
fn tell(client: &mut Client, command: &str) -> String {
    client.command(command);
    client.line()
}

#[test]
fn what_is_told_of_known_traffic_is_exact() {
    let run = Run::of(places::plugin("echo")).arguments(["--workers", "2"]);
    let (host, endpoint) = start(run.listen("tcp://127.0.0.1:0").listen("udp://127.0.0.1:0"));
    let listener = host.listening().first().cloned().unwrap_or_default();
    let before = endpoint.scrape();
    before.has(&[
        ("nethost_workers", 2.0),
        (r#"nethost_worker_responsive{worker="0"}"#, 1.0),
        (r#"nethost_worker_responsive{worker="1"}"#, 1.0),
        (r#"nethost_service_listening{service="echo"}"#, 1.0),
        (
            r#"nethost_service_info{service="echo",plugin="echo",version="0.1.0"}"#,
            1.0,
        ),
        (r#"nethost_instances{service="echo"}"#, 2.0),
        (r#"nethost_instances_made_total{service="echo"}"#, 2.0),
        (r#"nethost_connections{service="echo"}"#, 0.0),
        (r#"nethost_datagram_sockets{service="echo"}"#, 2.0),
        (
            r#"nethost_guest_calls_total{service="echo",callback="configure"}"#,
            2.0,
        ),
        (
            r#"nethost_guest_calls_total{service="echo",callback="data-received"}"#,
            0.0,
        ),
        (r#"echo_echoed_bytes_total{service="echo"}"#, 0.0),
    ]);
    for worker in ["0", "1"] {
        let memory =
            format!(r#"nethost_instance_memory_bytes{{service="echo",worker="{worker}"}}"#);
        assert!(before.value(&memory) >= Some(65_536.0), "{}", before.0);
    }
    let mut clients: Vec<_> = (0..3).map(|_| host.connect()).collect();
    for client in &mut clients {
        for _ in 0..2 {
            client.send([b'x'; 100]);
            client.expect([b'x'; 100]);
        }
    }
    let open = endpoint.await_value(r#"nethost_connections{service="echo"}"#, 3.0);
    let accepted =
        format!(r#"nethost_connections_accepted_total{{service="echo",listener="{listener}"}}"#);
    open.has(&[(&accepted, 3.0)]);
    for mut client in clients {
        client.close_write();
        client.end();
    }
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(host.address_of(1)).unwrap();
    socket
        .set_read_timeout(Some(nethost_tests::DEADLINE))
        .unwrap();
    for _ in 0..5 {
        socket.send(b"0123456789").unwrap();
        assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 10);
    }
    let after = endpoint.await_value(r#"nethost_connections{service="echo"}"#, 0.0);
    after.has(&[
        (&accepted, 3.0),
        (
            r#"nethost_connections_closed_total{service="echo",reason="done"}"#,
            3.0,
        ),
        (r#"nethost_received_bytes_total{service="echo"}"#, 650.0),
        (r#"nethost_sent_bytes_total{service="echo"}"#, 650.0),
        (r#"nethost_datagrams_received_total{service="echo"}"#, 5.0),
        (r#"nethost_datagrams_sent_total{service="echo"}"#, 5.0),
        (r#"nethost_datagrams_dropped_total{service="echo"}"#, 0.0),
        (
            r#"nethost_guest_calls_total{service="echo",callback="connection-made"}"#,
            3.0,
        ),
        (
            r#"nethost_guest_calls_total{service="echo",callback="data-received"}"#,
            6.0,
        ),
        (
            r#"nethost_guest_calls_total{service="echo",callback="datagrams-received"}"#,
            5.0,
        ),
        (
            r#"nethost_guest_calls_total{service="echo",callback="connection-lost"}"#,
            3.0,
        ),
        (r#"nethost_traps_total{service="echo",kind="trap"}"#, 0.0),
        (r#"echo_echoed_bytes_total{service="echo"}"#, 650.0),
    ]);
    let time = r#"nethost_guest_seconds_total{service="echo",callback="data-received"}"#;
    assert!(after.value(time) > Some(0.0), "{}", after.0);
    // Two instantiations, two `configure`, two `formats`, two sockets' constructors, and what is above, with the sessions' destructors.
    let calls = r#"nethost_guest_call_duration_seconds_count{service="echo"}"#;
    after.has(&[(
        calls,
        2.0 + 2.0 + 2.0 + 2.0 + 3.0 + 6.0 + 3.0 + 3.0 + 3.0 + 5.0,
    )]);
    for process in [
        "cpu_seconds_total",
        "resident_memory_bytes",
        "open_fds",
        "max_fds",
    ] {
        assert!(
            after.value(&format!("process_{process}")) > Some(0.0),
            "{process}"
        );
    }
    after.is_clean();
}

#[test]
fn a_trap_is_counted_and_no_counter_goes_back() {
    let (host, endpoint) = start(Run::of(places::guest("counts")));
    let mut first = host.connect();
    for command in ["add 5", "kind a", "level 7", "size 50"] {
        assert_eq!(tell(&mut first, command), "ok");
    }
    let before = made(&endpoint.scrape());
    first.command("trap");
    first.end();
    // Another instance comes at once.
    let made_total = r#"nethost_instances_made_total{service="counts"}"#;
    endpoint.await_value(made_total, before + 1.0);
    let broken = endpoint.await_value(
        r#"nethost_connections_closed_total{service="counts",reason="trapped"}"#,
        1.0,
    );
    broken.has(&[
        (r#"nethost_traps_total{service="counts",kind="trap"}"#, 1.0),
        (r#"counts_things_total{service="counts"}"#, 5.0),
    ]);
    // What an instance had that is no more is not said: the new one begins anew.
    assert_eq!(broken.value(r#"counts_level{service="counts"}"#), Some(0.0));
    let mut second = host.connect();
    for command in ["add 2", "kind a", "raise 1", "size 5"] {
        assert_eq!(tell(&mut second, command), "ok");
    }
    let scrape = endpoint.scrape();
    scrape.has(&[
        (made_total, before + 1.0),
        (r#"counts_things_total{service="counts"}"#, 7.0),
        (r#"counts_kinds_total{service="counts",kind="a"}"#, 2.0),
        (r#"counts_level{service="counts"}"#, 1.0),
        (
            r#"counts_sizes_bytes_bucket{service="counts",le="10"}"#,
            1.0,
        ),
        (
            r#"counts_sizes_bytes_bucket{service="counts",le="+Inf"}"#,
            2.0,
        ),
        (r#"counts_sizes_bytes_sum{service="counts"}"#, 55.0),
    ]);
    scrape.is_clean();
}

fn made(scrape: &Scrape) -> f64 {
    let made = scrape.value(r#"nethost_instances_made_total{service="counts"}"#);
    made.expect("it is told")
}

#[test]
fn a_swap_loses_nothing_that_was_counted() {
    let guest = places::guest("counts");
    let running = Running::start(&guest, "{}", Isolation::Worker, 2);
    let mut clients: Vec<_> = (0..8).map(|_| running.connect()).collect();
    for client in &mut clients {
        for command in ["add 1", "raise 1", "kind a", "size 5"] {
            assert_eq!(tell(client, command), "ok");
        }
    }
    let expected = [
        (r#"counts_things_total{service="test"}"#, 8.0),
        (r#"counts_kinds_total{service="test",kind="a"}"#, 8.0),
        (r#"counts_level{service="test"}"#, 8.0),
        (r#"counts_sizes_bytes_count{service="test"}"#, 8.0),
        (r#"counts_sizes_bytes_sum{service="test"}"#, 40.0),
    ];
    running.scrape().has(&expected);
    running.swap(&guest, "{}").unwrap();
    let scrape = running.scrape();
    scrape.has(&expected);
    scrape.has(&[(r#"nethost_instance_swaps_total{service="test"}"#, 2.0)]);
    for client in &mut clients {
        assert_eq!(tell(client, "add 1"), "ok");
    }
    running
        .scrape()
        .has(&[(r#"counts_things_total{service="test"}"#, 16.0)]);
}

#[test]
fn a_limit_that_is_hit_is_counted() {
    let limits = Limits {
        connections: 1,
        callback_time: Duration::from_millis(20),
        ..Limits::default()
    };
    let running = Running::limited(limits, &places::guest("loops"));
    let mut first = running.connect();
    first.send("a");
    first.expect("a");
    running.connect().end();
    let scrape = running.scrape();
    scrape.has(&[
        (
            r#"nethost_connections_refused_total{service="test",reason="limit"}"#,
            1.0,
        ),
        (
            r#"nethost_limits_hit_total{service="test",limit="connections"}"#,
            1.0,
        ),
        (
            r#"nethost_limits_hit_total{service="test",limit="call-time"}"#,
            0.0,
        ),
    ]);
    first.send("!");
    first.end();
    let scrape = running.scrape();
    scrape.has(&[
        (
            r#"nethost_traps_total{service="test",kind="deadline"}"#,
            1.0,
        ),
        (
            r#"nethost_limits_hit_total{service="test",limit="call-time"}"#,
            1.0,
        ),
    ]);
}

#[test]
fn instances_of_one_connection_each_count_together() {
    let run = Run::of(places::guest("counts"));
    let run = run.arguments(["--isolation", "connection", "--workers", "1"]);
    let (host, endpoint) = start(run);
    let mut clients: Vec<_> = (0..3).map(|_| host.connect()).collect();
    for client in &mut clients {
        for command in ["add 2", "kind a", "size 50", "level 0.1", "raise 0.2"] {
            assert_eq!(tell(client, command), "ok");
        }
        assert_eq!(tell(client, "flood 2000"), "ok");
    }
    let scrape = endpoint.scrape();
    scrape.has(&[
        (r#"counts_things_total{service="counts"}"#, 6.0),
        (r#"counts_kinds_total{service="counts",kind="a"}"#, 3.0),
        (r#"counts_kinds_total{service="counts",kind="998"}"#, 3.0),
        (
            r#"counts_kinds_total{service="counts",kind="(overflow)"}"#,
            3.0 * 1001.0,
        ),
        (r#"counts_sizes_bytes_count{service="counts"}"#, 3.0),
    ]);
    let level = scrape.value(r#"counts_level{service="counts"}"#);
    assert!(
        level.is_some_and(|level| (level - 0.9).abs() < 1e-9),
        "{level:?}"
    );
    // It is logged once, and not by each.
    host.logged(&["WARN", "more metrics or series"]);
    assert_eq!(host.log().matches("more metrics or series").count(), 1);
    // One breaks, the others go; nothing that they counted does, and nothing is left of what was true of them.
    let mut broken = clients.remove(0);
    broken.command("trap");
    broken.end();
    drop(clients);
    let scrape = endpoint.await_value(r#"nethost_connections{service="counts"}"#, 0.0);
    scrape.has(&[
        (r#"counts_things_total{service="counts"}"#, 6.0),
        (r#"counts_kinds_total{service="counts",kind="998"}"#, 3.0),
    ]);
    endpoint.await_value(r#"counts_level{service="counts"}"#, 0.0);
    scrape.is_clean();
}

#[test]
fn two_services_share_families_and_not_values() {
    let services = Services::start(&[("one", "echo"), ("two", "echo"), ("three", "irc")]);
    for (service, bytes) in [(0, 10_usize), (1, 20)] {
        let mut client = services.connect(service);
        client.send(vec![b'x'; bytes]);
        client.expect(vec![b'x'; bytes]);
        client.close_write();
        client.end();
    }
    let endpoint = services.endpoint();
    endpoint.await_value(r#"nethost_connections{service="one"}"#, 0.0);
    let scrape = endpoint.await_value(r#"nethost_connections{service="two"}"#, 0.0);
    scrape.has(&[
        (r#"echo_echoed_bytes_total{service="one"}"#, 10.0),
        (r#"echo_echoed_bytes_total{service="two"}"#, 20.0),
        (r#"nethost_received_bytes_total{service="one"}"#, 10.0),
        (r#"nethost_received_bytes_total{service="two"}"#, 20.0),
        (r#"nethost_received_bytes_total{service="three"}"#, 0.0),
    ]);
    let helps = scrape.0.matches("# HELP echo_echoed_bytes_total ").count();
    assert_eq!(helps, 1);
    scrape.is_clean();
}

#[test]
fn a_plugin_that_breaks_the_rules_harms_only_its_own_metrics() {
    let (host, endpoint) = start(Run::of(places::guest("counts")));
    let mut client = host.connect();
    for (command, part) in [
        ("again", "declared already"),
        ("name nethost-connections", "a name has 1 to 64"),
        ("name x_total", "`total`"),
        ("name UPPER", "a name has 1 to 64"),
        ("name \u{1b}[31m", "a name has 1 to 64"),
        ("long-name 1000000", "a name has 1 to 64"),
        ("long-help 1000000", "1 to 512 bytes"),
        ("label service", "not a plugin's to give"),
        ("label __name__", "a name has 1 to 64"),
        ("bounds 1", "not ascending"),
        ("bounds NaN", "not ascending"),
        ("declare 200", "100 metrics are declared"),
    ] {
        let answer = tell(&mut client, command);
        assert!(answer.contains(part), "{command}: {answer}");
    }
    for command in [
        "level NaN",
        "level inf",
        "raise -inf",
        "size NaN",
        "size inf",
        "level 1e308",
    ] {
        assert_eq!(tell(&mut client, command), "ok");
    }
    assert_eq!(tell(&mut client, "long-value 100000"), "ok");
    // Names that look like the host's are the plugin's own.
    assert_eq!(
        tell(&mut client, "kind \"},nethost_workers{x=\\\"\u{7}"),
        "ok"
    );
    assert_eq!(tell(&mut client, "flood 5000"), "ok");
    let scrape = endpoint.scrape();
    let series = scrape
        .0
        .lines()
        .filter(|line| line.starts_with("counts_kinds_total{"));
    // Those that share one, and no place is taken by metrics without labels.
    assert_eq!(series.clone().count(), 1_000 + 1, "{}", scrape.0);
    let counted: f64 = series
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    assert!((counted - 5002.0).abs() < 0.5, "{counted}");
    scrape.has(&[
        (
            "nethost_workers",
            scrape.value("nethost_workers").unwrap_or_default(),
        ),
        (
            r#"nethost_metric_values_ignored_total{service="counts"}"#,
            5.0,
        ),
        (r#"counts_level{service="counts"}"#, 1e308),
        (r#"counts_sizes_bytes_count{service="counts"}"#, 0.0),
    ]);
    let hit = scrape.value(r#"nethost_limits_hit_total{service="counts",limit="metrics"}"#);
    assert!(hit >= Some(4_000.0), "{hit:?}");
    assert!(scrape.0.contains(r#"kind="(overflow)""#));
    let long = scrape.0.lines().map(str::len).max();
    assert!(long < Some(1_000), "{long:?}");
    host.logged(&["WARN", "more metrics or series"]);
    let warned = host.log().matches("more metrics or series").count();
    assert_eq!(warned, 1);
    scrape.is_clean();
}

#[test]
fn readiness_follows_start_and_drain_and_health_does_not() {
    let (host, endpoint) = start(Run::of(places::plugin("echo")));
    let listener = host.listening().first().cloned().unwrap_or_default();
    let ready = endpoint.get("/readyz");
    assert_eq!(
        (ready.status, ready.body),
        (200, format!("echo listening {listener}\n"))
    );
    assert_eq!(endpoint.get("/healthz").status, 200);
    let mut client = host.connect();
    client.send("a");
    client.expect("a");
    host.terminate();
    let deadline = Instant::now() + nethost_tests::DEADLINE;
    loop {
        let answer = endpoint.get("/readyz");
        if answer.status == 503 && answer.body.contains("echo draining") {
            assert!(answer.body.starts_with("draining\n"), "{}", answer.body);
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    }
    assert_eq!(endpoint.get("/healthz").status, 200);
    endpoint
        .scrape()
        .has(&[(r#"nethost_service_listening{service="echo"}"#, 0.0)]);
    drop(client);
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn a_host_is_not_ready_before_its_services_are() {
    let services = Services::start(&[]);
    let answer = services.endpoint().get("/readyz");
    assert_eq!((answer.status, answer.body), (503, "starting\n".to_owned()));
    // The program says when it has started everything.
    let services = Services::start(&[("one", "echo")]);
    assert_eq!(services.endpoint().get("/readyz").status, 503);
    services.host.registry().enter(Phase::Serving);
    assert_eq!(services.endpoint().get("/readyz").status, 200);
}

#[test]
fn a_successor_that_is_made_leaves_the_host_ready() {
    let services = Services::start(&[("one", "echo")]);
    services.host.registry().enter(Phase::Serving);
    let runtime = runtime();
    let stage = |name| {
        let spec = spec(name, plugin("echo"));
        let staged = runtime.block_on(services.host.stage(spec, &[], &[]));
        staged.expect("it is configured")
    };
    let successor = stage("one");
    let answer = services.endpoint().get("/readyz");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("one starting\n"), "{}", answer.body);
    // Of a name that nobody serves it is waited for.
    let other = stage("two");
    assert_eq!(services.endpoint().get("/readyz").status, 503);
    other.discard();
    successor.discard();
}

#[test]
fn a_worker_that_hangs_is_named_and_hangs_nobody_else() {
    let (release, held) = mpsc::channel();
    let held = Arc::new(Mutex::new(Some(held)));
    let native: NativeProtocol = Arc::new(move |_| {
        let held = held.lock().unwrap().take();
        Rc::new(Hangs(Cell::new(held)))
    });
    let services = Services::start_with(vec![("hangs", Protocol::Native(native))]);
    let endpoint = services.endpoint();
    assert_eq!(endpoint.get("/healthz").body, "ok\n");
    let mut client = services.connect(0);
    client.send("a");
    // It may answer one more question before it hangs.
    let deadline = Instant::now() + nethost_tests::DEADLINE;
    loop {
        let answer = endpoint.get("/healthz");
        if answer.status == 503 {
            assert_eq!(answer.body, "worker 0 does not answer\n");
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    }
    endpoint.scrape().has(&[
        (r#"nethost_worker_responsive{worker="0"}"#, 0.0),
        (r#"nethost_received_bytes_total{service="hangs"}"#, 1.0),
    ]);
    release.send(()).unwrap();
    endpoint.await_value(r#"nethost_worker_responsive{worker="0"}"#, 1.0);
    assert_eq!(endpoint.get("/healthz").status, 200);
}

#[test]
fn only_what_is_there_is_answered() {
    let (_host, endpoint) = start(Run::of(places::plugin("echo")));
    for (method, path, status) in [
        ("GET", "/metrics", 200),
        ("GET", "/metrics?name=x", 200),
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/readyz", 405),
        ("HEAD", "/healthz", 200),
        ("HEAD", "/metrics", 200),
    ] {
        let answer = endpoint.request(method, path);
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.body.is_empty(), method == "HEAD", "{method} {path}");
    }
    let metrics = endpoint.get("/metrics").header;
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{metrics}"
    );
    let refused = endpoint.request("POST", "/metrics").header;
    assert!(refused.contains("allow: get, head"), "{refused}");
}

#[test]
fn clients_that_say_nothing_or_too_much_keep_nobody_out() {
    let (_host, endpoint) = start(Run::of(places::plugin("echo")));
    let _silent: Vec<_> = (0..20).map(|_| endpoint.connect()).collect();
    let mut endless = endpoint.connect();
    let header = [
        b"GET /metrics HTTP/1.1\r\nX: ".as_slice(),
        &[b'x'; 64 << 10],
    ]
    .concat();
    // It may be cut off before it has said everything.
    let _ = endless.write_all(&header);
    let mut answer = Vec::new();
    let _ = endless.read_to_end(&mut answer);
    assert!(
        !answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        answer.escape_ascii()
    );
    assert_eq!(endpoint.get("/healthz").status, 200);
}

#[test]
fn metrics_come_over_a_unix_socket_too() {
    let path = places::scratch("metrics").join("metrics.sock");
    let url = format!("unix://{}?mode=600", path.display());
    let host = Run::of(places::plugin("echo"))
        .arguments(["--metrics", &url])
        .start();
    host.logged(&["metrics", "unix:"]);
    let mut client = Client::unix(&path);
    client.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let (answer, _) = client.rest();
    assert!(
        answer.ends_with(b"\r\n\r\nok\n"),
        "{}",
        answer.escape_ascii()
    );
    host.terminate();
    assert_eq!(host.ended().code, Some(0));
    assert!(!path.exists());
}

#[test]
fn a_place_that_cannot_be_is_a_mistake() {
    for url in [
        "udp://127.0.0.1:0",
        "stdio:",
        "fd://3",
        "tcp://127.0.0.1:0?proxy=v1",
        "nonsense",
    ] {
        let plugin = places::plugin("echo");
        let ended = nethost([
            "run".as_ref(),
            plugin.as_os_str(),
            "--metrics".as_ref(),
            url.as_ref(),
        ]);
        assert_eq!(ended.code, Some(2), "{url}: {}", ended.log);
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let ended = Run::of(places::plugin("echo"))
        .arguments(["--metrics", &url])
        .ended();
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("for metrics"), "{}", ended.log);
}

#[test]
fn a_plugin_without_metrics_is_served_and_one_with_them_says_so() {
    for (component, imports) in [
        (places::plugin("echo"), true),
        (places::guest("counts"), true),
        (places::guest("loops"), false),
    ] {
        let ended = nethost(["inspect".as_ref(), component.as_os_str()]);
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        let names = ended.output.contains("nethost:plugin/metrics@0.1.0");
        assert_eq!(names, imports, "{}", ended.output);
    }
    let (host, endpoint) = start(Run::of(places::guest("loops")));
    let mut client = host.connect();
    client.send("a");
    client.expect("a");
    let scrape = endpoint.scrape();
    scrape.has(&[(r#"nethost_received_bytes_total{service="loops"}"#, 1.0)]);
    assert!(!scrape.0.contains("\nloops_"), "{}", scrape.0);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A plugin with its defaults.
fn plugin(name: &str) -> Protocol {
    let plugin = nethost_tests::service::load(&places::plugin(name));
    let config = plugin.manifest.config(&[]).expect("it has defaults");
    let config = serde_json::Value::Object(config).to_string().into();
    Protocol::Plugin { plugin, config }
}

fn spec(name: &str, protocol: Protocol) -> ServiceSpec {
    let mut program = program(Limits::default());
    program.service = name.to_owned();
    ServiceSpec {
        program,
        protocol,
        listen: vec!["tcp://127.0.0.1:0".parse().expect("an endpoint")],
        isolation: Isolation::Service,
    }
}

/// A host in this process with services, and an endpoint.
struct Services {
    host: Library,
    services: Vec<nethost::service::Service>,
    serving: endpoint::Serving,
}

impl Services {
    fn start(services: &[(&'static str, &str)]) -> Self {
        let services = services.iter().map(|(name, of)| (*name, plugin(of)));
        Self::start_with(services.collect())
    }

    fn start_with(protocols: Vec<(&str, Protocol)>) -> Self {
        let runtime = runtime();
        let host = Library::start(NonZeroUsize::MIN).expect("a worker");
        let endpoint = "tcp://127.0.0.1:0".parse().expect("an endpoint");
        let serving = endpoint::serve(&endpoint, host.registry().clone());
        let serving = runtime.block_on(serving).expect("it listens");
        let mut services = Vec::new();
        for (name, protocol) in protocols {
            let service = runtime.block_on(host.serve(spec(name, protocol)));
            services.push(service.expect("it starts"));
        }
        Self {
            host,
            services,
            serving,
        }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::at(self.serving.url())
    }

    fn connect(&self, service: usize) -> Client {
        let service = self.services.get(service);
        let url = service.and_then(|service| service.listening().first());
        let address = url.and_then(|url| url.strip_prefix("tcp://")?.parse().ok());
        Client::tcp(address.expect("it listens on TCP"))
    }
}

/// Hangs in its first `data_received` until it is released.
struct Hangs(Cell<Option<mpsc::Receiver<()>>>);

impl Handler for Hangs {
    fn connection_made(&self, _: &Rc<Connection>, _: &Origin) -> Option<SessionKey> {
        Some(SessionKey(0))
    }

    fn data_received(&self, _: &Rc<Connection>, _: SessionKey, _: &[u8]) {
        if let Some(held) = self.0.take() {
            held.recv().expect("the test releases it");
        }
    }

    fn writable(&self, _: &Rc<Connection>, _: SessionKey) {}

    fn read_closed(&self, connection: &Rc<Connection>, _: SessionKey) {
        connection.close();
    }

    fn connection_lost(&self, _: &Rc<Connection>, _: SessionKey, _: &CloseReason) {}

    fn completed(&self, _: Option<&Rc<Connection>>, _: Id, _: Outcome) {}

    fn draining(&self, _: Duration) {}
}
