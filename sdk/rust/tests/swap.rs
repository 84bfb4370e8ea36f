//! State moving from one version to the next, and back when that fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use nethost_sdk::{
    Config, Context, Deferred, Factory, LoopingCall, OperationId, Origin, Protocol, Refusal, Swap,
    after, spawn,
    testing::{Host, SwapError},
    with_factory,
};

type Old = Counter<1>;
type New = Counter<2>;
/// Reads no format of the others.
type Foreign = Counter<3>;

#[test]
fn state_moves_and_connections_stay() {
    let (mut host, ann) = started();
    let bob = host.connect();
    host.send(ann, b"abc");
    let mut host: Host<New> = host.swap("{}").unwrap();
    assert_eq!(host.received(ann), b"1: 3\n2: restored\n");
    host.send(ann, b"d");
    host.send(bob, b"e");
    assert_eq!(host.received(ann), b"2: 4\n");
    assert_eq!(host.received(bob), b"2: restored\n2: 1\n");
    assert_eq!(with_factory(|total: &mut Total| total.0), 5);
}

#[test]
fn a_timer_is_adopted_by_its_id() {
    let (mut host, ann) = started();
    host.send(ann, b"timer");
    host.advance(Duration::from_secs(6));
    let mut host: Host<New> = host.swap("{}").unwrap();
    host.received(ann);
    host.advance(Duration::from_millis(3_999));
    assert_eq!(with_factory(|total: &mut Total| total.0), 5);
    host.advance(Duration::from_millis(1));
    assert_eq!(with_factory(|total: &mut Total| total.0), 1005);
    assert_eq!(host.timers(), 0);
}

#[test]
fn a_session_with_a_task_is_busy() {
    let (mut host, ann) = started();
    host.send(ann, b"task");
    let (mut host, error) = host.swap::<New>("{}").unwrap_err();
    assert_eq!(error, SwapError::Refused(Refusal::Busy));
    host.advance(Duration::from_secs(1));
    assert!(host.swap::<New>("{}").is_ok());
}

#[test]
fn a_looping_call_keeps_nothing_from_moving() {
    let (mut host, ann) = started();
    host.send(ann, b"loop");
    assert!(host.swap::<New>("{}").is_ok());
}

#[test]
fn another_protocol_is_refused() {
    let (mut host, ann) = started();
    let (mut host, error) = {
        host.send(ann, b"a");
        host.swap::<Foreign>("{}").unwrap_err()
    };
    assert_eq!(error, SwapError::NoCommonFormat);
    host.send(ann, b"b");
    assert_eq!(host.received(ann), b"1: 1\n1: 2\n");
}

#[test]
fn a_swap_that_fails_leaves_everything_with_the_old_version() {
    for config in ["fail configure", "fail restore", "fail session"] {
        let (mut host, ann) = started();
        let bob = host.connect();
        host.send(ann, b"timer");
        host.send(bob, b"x");
        let (mut host, error) = host.swap::<New>(config).unwrap_err();
        assert_eq!(error, SwapError::NotRestored(config.into()));
        host.send(bob, b"y");
        assert_eq!(host.received(bob), b"1: 1\n1: 2\n", "{config}");
        host.advance(Duration::from_secs(10));
        assert_eq!(
            with_factory(|total: &mut Total| total.0),
            1007,
            "{config}: the old timer completes"
        );
        assert_eq!(
            (host.close_reason(ann), host.close_reason(bob)),
            (None, None)
        );
    }
}

/// Counts bytes; `V` is its version.
struct Counter<const V: usize> {
    count: u64,
    timer: Option<OperationId>,
    looping: Option<LoopingCall>,
}

struct Total(u64, String);

impl Factory for Total {
    fn configure(config: &Config) -> Result<Self, String> {
        match config.as_str() {
            "fail configure" => Err("fail configure".into()),
            config => Ok(Self(0, config.into())),
        }
    }
}

impl<const V: usize> Protocol for Counter<V> {
    type Factory = Total;

    fn connection_made(_cx: &mut Context<'_, Total>, _origin: Origin) -> Option<Self> {
        Some(Self {
            count: 0,
            timer: None,
            looping: None,
        })
    }

    fn data_received(&mut self, cx: &mut Context<'_, Total>, data: &[u8]) {
        self.count += data.len() as u64;
        cx.factory.0 += data.len() as u64;
        cx.connection
            .write(format!("{V}: {}\n", self.count).as_bytes());
        match data {
            b"timer" => {
                let timer = after(Duration::from_secs(10));
                self.timer = timer.id();
                self.looping = None;
                wait(timer);
            }
            b"task" => spawn(async {
                let _ = after(Duration::from_secs(1)).await;
            })
            .detach(),
            b"loop" => self.looping = Some(LoopingCall::start(Duration::from_secs(1), || {})),
            _ => {}
        }
    }
}

impl<const V: usize> Swap for Counter<V> {
    const FORMATS: &'static [&'static str] = match V {
        1 => &["count/1"],
        2 => &["count/2", "count/1"],
        _ => &["other/1"],
    };

    fn save(factory: &Total, format: &str) -> Result<Vec<u8>, Refusal> {
        assert_eq!(format, "count/1");
        Ok(factory.0.to_be_bytes().to_vec())
    }

    fn restore(factory: &mut Total, format: &str, state: &[u8]) -> Result<(), String> {
        assert_eq!(format, "count/1");
        factory.0 = u64::from_be_bytes(state.try_into().unwrap());
        if factory.1 == "fail restore" {
            Err(factory.1.clone())
        } else {
            Ok(())
        }
    }

    fn save_session(&self, _format: &str) -> Result<Vec<u8>, Refusal> {
        let timer = self.timer.map_or(0, OperationId::as_u64);
        Ok([self.count.to_be_bytes(), timer.to_be_bytes()].concat())
    }

    fn restore_session(
        cx: &mut Context<'_, Total>,
        _format: &str,
        state: &[u8],
    ) -> Result<Self, String> {
        let (count, timer) = state.split_at(8);
        let timer = u64::from_be_bytes(timer.try_into().unwrap());
        let timer = (timer != 0).then(|| OperationId::from(timer));
        if let Some(timer) = timer {
            wait(Deferred::adopt(timer));
        }
        cx.connection.write(format!("{V}: restored\n").as_bytes());
        after(Duration::from_secs(1))
            .map(|()| with_factory(|total: &mut Total| total.0 += 1_000_000))
            .cancel();
        if cx.factory.1 == "fail session" && timer.is_none() {
            return Err(cx.factory.1.clone());
        }
        Ok(Self {
            count: u64::from_be_bytes(count.try_into().unwrap()),
            timer,
            looping: None,
        })
    }
}

/// Adds 1000 to the total when the timer completes.
fn wait(timer: Deferred<()>) {
    timer
        .map(|()| with_factory(|total: &mut Total| total.0 += 1000))
        .detach();
}

fn started() -> (Host<Old>, nethost_sdk::ConnectionId) {
    let mut host = Host::start("{}").unwrap();
    let ann = host.connect();
    (host, ann)
}
