//! An instance that breaks is replaced; one that breaks again and again is left alone for a while, which is said to whoever asks.

use std::time::Instant;

use nethost::{limits::Limits, metrics::health::State};
use nethost_tests::{
    DEADLINE,
    client::Client,
    host::Run,
    metrics::Endpoint,
    misbehaviour::{GOAL, LINES, Pair},
    places::guest,
    service::Running,
};

const DEGRADED: &str = r#"nethost_service_degraded{service="bad"}"#;

/// Breaks the guest until it is left alone.
fn degrade(pair: &Pair) {
    for _ in 0..6 {
        let mut client = pair.bad();
        drop(client.try_send("!trap\n"));
        client.rest();
    }
    pair.metrics.await_value(DEGRADED, 1.0);
}

#[test]
fn a_service_that_breaks_again_and_again_is_degraded_and_comes_back() {
    let pair = Pair::start(LINES);
    pair.metrics.scrape().has(&[(DEGRADED, 0.0), (FAILED, 0.0)]);
    let neighbour = pair.neighbour();
    degrade(&pair);
    // A client is not left hanging: it is closed at once, without a byte.
    let connected = Instant::now();
    let mut client = pair.bad();
    assert!(client.rest().0.is_empty());
    assert!(connected.elapsed() < 10 * GOAL);
    // The other service is there, so the host stays in its place behind a balancer; and it is not the process that is ill.
    let ready = pair.metrics.get("/readyz");
    assert_eq!(ready.status, 200, "{}", ready.body);
    let line = ready.body.lines().find(|line| line.starts_with("bad "));
    for part in [
        "listening",
        "degraded: data-received trapped",
        "; next try in ",
    ] {
        assert!(
            line.is_some_and(|line| line.contains(part)),
            "{}",
            ready.body
        );
    }
    assert_eq!(pair.metrics.get("/healthz").status, 200);
    // It is made again without anybody who connects.
    pair.host.logged(&["there is an instance again", "bad"]);
    let scrape = pair.metrics.await_value(DEGRADED, 0.0);
    scrape.has(&[(FAILED, 6.0)]);
    pair.serves();
    assert!(neighbour.stop().worst < 10 * GOAL);
}

const FAILED: &str = r#"nethost_instances_failed_total{service="bad"}"#;

#[test]
fn a_host_that_can_serve_nobody_is_not_ready() {
    let host = Run::of(guest("misbehaves"))
        .arguments(["--isolation", "service", "--metrics", "tcp://127.0.0.1:0"])
        .start();
    let endpoint = Endpoint::of(&host);
    for _ in 0..6 {
        let mut client = host.connect();
        drop(client.try_send("!trap\n"));
        client.rest();
    }
    let deadline = Instant::now() + DEADLINE;
    for status in [503, 200] {
        while endpoint.get("/readyz").status != status {
            assert!(Instant::now() < deadline, "{:?}", endpoint.get("/readyz"));
        }
    }
    let mut client: Client = host.connect();
    client.send("x");
    client.expect("x");
}

#[test]
fn an_instance_is_replaced_before_anybody_connects() {
    let pair = Pair::start(LINES);
    let made = r#"nethost_instances_made_total{service="bad"}"#;
    pair.metrics.await_value(made, 1.0);
    let mut client = pair.bad();
    client.send("!trap\n");
    client.rest();
    pair.metrics.await_value(made, 2.0);
    pair.metrics.scrape().has(&[(DEGRADED, 0.0), (FAILED, 1.0)]);
}

#[test]
fn connections_on_other_instances_do_not_notice() {
    let lines = LINES
        .replace("\"service\"", "\"connection\"")
        .replace(", \"udp://127.0.0.1:0\"", "");
    let pair = Pair::start(&lines);
    let mut bystander = pair.bad();
    for deed in ["loop", "trap"] {
        for callback in ["connection-lost", "destructor"] {
            let mut client = pair.bad();
            client.command(&format!("!{deed} {callback}"));
            client.line_with("ready");
        }
    }
    pair.host
        .logged_times(&["the session's destructor", "connections="], 2);
    pair.host
        .logged_times(&["connection-lost ", "this instance ends"], 2);
    bystander.send("x");
    bystander.expect("x");
}

#[test]
fn who_asks_a_service_is_told_how_it_fares() {
    let service = Running::limited(Limits::default(), &guest("misbehaves"));
    assert_eq!(service.health().state, State::Serving);
    for _ in 0..6 {
        let mut client = service.connect();
        drop(client.try_send("!trap\n"));
        client.rest();
    }
    let deadline = Instant::now() + DEADLINE;
    let degraded = loop {
        let health = service.health();
        if let State::Degraded(degraded) = health.state {
            assert_eq!(health.failures, 6);
            break degraded;
        }
        assert!(Instant::now() < deadline, "{health:?}");
    };
    assert!(
        degraded.reason.starts_with("data-received trapped"),
        "{degraded}"
    );
    assert_eq!((degraded.workers, degraded.of), (1, 1));
    assert!(degraded.retry > Instant::now());
    while service.health().state != State::Serving {
        assert!(Instant::now() < deadline, "{:?}", service.health());
    }
    assert!(Instant::now() >= degraded.retry);
}
