//! Turns: how the services of one worker share its time.
//!
//! Every connection is a task, and the runtime runs those that are ready one after the other. A service with 1,000 of them whose callbacks take 49 ms each would hold up
//! every other one for 49 s. So each service has a *lane* on each worker, and every task asks its lane before it calls the guest, whatever for.
//!
//! *Accounting.* A thread counts ticks ([`TICK`](crate::engine::TICK), at uneven distances, so that no plugin can work between them). Who has the worker when one comes pays
//! for all the processor time that the worker took since the one before, host functions, reads and writes on its behalf included. That is fair in the long run, exact for a long
//! call, and costs a call between two ticks one comparison. A tick that comes while the worker sleeps is nobody's.
//!
//! *Share.* A lane may run as it likes while it has credit, which comes back at the rate of its share (`cpu-share`, percent of the worker) up to [`BURST`]. One without is over
//! its share, and takes turns: its tasks wait in the lane's queue, and the *keeper* gives one lane at a time a turn, that which owes least, which lasts until the first tick after it began, so it is many short
//! calls or one long one. Before the next turn everything else that is ready runs, and the sockets are looked at: the keeper yields, and tokio goes on with a task that yielded only after it
//! has polled. So time that nobody else wants is used up all the same, at the price of a look at the sockets in every tick, and a service that is alone on its worker never waits.
//!
//! *Bound.* What is ready within its share waits for one turn at most: a tick, and the call that it cuts into, 62.5 ms with the default deadline of 50 ms (which
//! is looked at once in a tick of at most 12.5 ms). A service that was quiet has its burst beside that, at most two ticks. That is 100 ms, or twice the deadline, with one service that is over its
//! share or several: one that spins gets next to no credit back while it waits, so that however many they are, who owes a tick only goes before them. Setting up is no call: what holds up the others there is bounded by `setup-time`, and after the first instance by [what that one took](super::Holdings::quick_setup).

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::VecDeque,
    future::poll_fn,
    rc::{Rc, Weak},
    sync::{
        self, Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use slab::Slab;

use super::{connection::Connection, holdings::Program};

/// The time of one worker.
#[derive(Debug)]
pub(super) struct Turns {
    ticks: &'static AtomicU64,
    /// By the key that [`CURRENT`] says.
    lanes: RefCell<Slab<Weak<Lane>>>,
    /// The last tick that was noticed.
    noticed: Cell<u64>,
    /// The processor time that the worker had taken then.
    taken: Cell<Duration>,
    /// Lanes whose tasks wait. The turn is the first one's.
    queue: RefCell<VecDeque<Rc<Lane>>>,
    keeper: RefCell<Option<Waker>>,
}

/// A service's part in it.
#[derive(Debug)]
pub(crate) struct Lane {
    turns: Rc<Turns>,
    key: usize,
    program: sync::Weak<Program>,
    /// Percent.
    share: u32,
    /// The tick in which it may run. All that a call must compare.
    runs_in: Cell<u64>,
    /// Nanoseconds that it may take before it takes turns.
    credit: Cell<i64>,
    /// When credit was last added.
    credited: Cell<Instant>,
    turn: Cell<Turn>,
    waiting: RefCell<Waiting>,
    /// Some wait.
    is_crowded: Cell<bool>,
    is_queued: Cell<bool>,
    /// When the next outbound connection would begin if they began evenly at the highest rate.
    next_connect: Cell<Option<Instant>>,
    /// Connections with something to write, since the last turn.
    dirty: RefCell<VecDeque<Rc<Connection>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It has none.
    Not,
    /// It has one that has not begun.
    Given,
    /// It began in this tick.
    Began(u64),
}

/// Tasks that wait for their lane, in order: one for each connection, socket and attempt to connect.
#[derive(Debug, Default)]
struct Waiting {
    /// By the number, which grows. Those that were given up are empty.
    wakers: VecDeque<(u64, Option<Waker>)>,
    last: u64,
    given_up: usize,
}

/// A task's place among those that wait.
#[derive(Debug, Default)]
pub(super) struct Place(Cell<u64>);

thread_local! {
    /// Whose time it is on this thread.
    static CURRENT: Cell<usize> = const { Cell::new(NOBODY) };
}

/// Notes that time has passed.
pub(crate) fn tick() {
    // Nothing is published through it.
    TICKS.fetch_add(1, Ordering::Relaxed);
}

/// What comes now is nobody's: the worker sleeps, or does something for the host.
pub(super) fn is_nobodys() {
    CURRENT.set(NOBODY);
}

impl Turns {
    pub(super) fn new() -> Rc<Self> {
        Self::ticked_by(&TICKS)
    }

    fn ticked_by(ticks: &'static AtomicU64) -> Rc<Self> {
        Rc::new(Self {
            ticks,
            lanes: RefCell::default(),
            noticed: Cell::new(ticks.load(Ordering::Relaxed)),
            taken: Cell::new(processor_time()),
            queue: RefCell::default(),
            keeper: RefCell::default(),
        })
    }

    /// Returns the lane of a service.
    pub(super) fn lane(self: &Rc<Self>, program: &Arc<Program>) -> Rc<Lane> {
        let ours = |lane: &Rc<Lane>| lane.program.as_ptr() == Arc::as_ptr(program);
        let known: Vec<Rc<Lane>> = {
            let lanes = self.lanes.borrow();
            lanes
                .iter()
                .filter_map(|(_, lane)| lane.upgrade())
                .collect()
        };
        if let Some(lane) = known.into_iter().find(ours) {
            return lane;
        }
        Lane::new(self, Arc::downgrade(program), program.limits.cpu_share)
    }

    /// Gives lanes whose tasks wait their turns, for ever.
    pub(super) async fn keep(self: Rc<Self>) {
        loop {
            poll_fn(|cx| self.poll_queue(cx)).await;
            // What is ready runs, and the sockets are looked at.
            tokio::task::yield_now().await;
            is_nobodys();
            self.give();
        }
    }

    fn poll_queue(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.queue.borrow().is_empty() {
            return Poll::Ready(());
        }
        *self.keeper.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Lets a task of the lane go on whose turn it is.
    fn give(&self) {
        let tick = self.ticks.load(Ordering::Relaxed);
        let now = Instant::now();
        let next = {
            let mut queue = self.queue.borrow_mut();
            queue.retain(|lane| lane.waits(now));
            // A turn that is over is the last in the order of those that owe as much.
            let over = queue.iter().position(|lane| lane.is_over(tick));
            if let Some(lane) = over.and_then(|at| queue.remove(at)) {
                lane.turn.set(Turn::Not);
                queue.push_back(lane);
            }
            let has_turn = |lane: &&Rc<Lane>| lane.turn.get() != Turn::Not;
            let owes = |lane: &&Rc<Lane>| {
                lane.add_credit(now);
                // To a tick: less is chance.
                let tick = nanoseconds(crate::engine::TICK);
                Reverse((lane.credit.get() - tick / 2) / tick)
            };
            let held = queue.iter().find(has_turn);
            held.or_else(|| queue.iter().min_by_key(owes)).cloned()
        };
        let Some(lane) = next else {
            return;
        };
        if lane.turn.get() == Turn::Not {
            lane.turn.set(Turn::Given);
        }
        // The task that was called before may have had no use for the turn.
        lane.call_next();
    }

    /// Has whoever had the worker pay, if a tick came.
    fn notice(&self, tick: u64) {
        if self.noticed.replace(tick) == tick {
            return;
        }
        let now = processor_time();
        let took = now.saturating_sub(self.taken.replace(now));
        let current = self
            .lanes
            .borrow()
            .get(CURRENT.get())
            .and_then(Weak::upgrade);
        if let Some(lane) = current {
            lane.charge(took, Instant::now());
        }
    }

    fn is_for_one(&self) -> bool {
        self.lanes.borrow().len() <= 1
    }
}

impl Lane {
    fn new(turns: &Rc<Turns>, program: sync::Weak<Program>, share: u32) -> Rc<Self> {
        let mut lanes = turns.lanes.borrow_mut();
        let entry = lanes.vacant_entry();
        let lane = Rc::new(Self {
            turns: turns.clone(),
            key: entry.key(),
            program,
            share,
            runs_in: Cell::new(u64::MAX),
            credit: Cell::new(nanoseconds(BURST)),
            credited: Cell::new(Instant::now()),
            turn: Cell::new(Turn::Not),
            waiting: RefCell::default(),
            is_crowded: Cell::new(false),
            is_queued: Cell::new(false),
            next_connect: Cell::new(None),
            dirty: RefCell::default(),
        });
        entry.insert(Rc::downgrade(&lane));
        lane
    }

    /// Notes that what comes now is done for this service.
    pub(crate) fn enter(&self) {
        let tick = self.turns.ticks.load(Ordering::Relaxed);
        if tick != self.turns.noticed.get() {
            self.turns.notice(tick);
        }
        CURRENT.set(self.key);
    }

    /// Returns whether the guest may be called now, and notes that what comes now is done for this service.
    pub(super) fn may_run(&self) -> bool {
        let tick = self.turns.ticks.load(Ordering::Relaxed);
        if tick != self.runs_in.get() && !self.may_run_in(tick) {
            return false;
        }
        CURRENT.set(self.key);
        if self.is_crowded.get() {
            self.call_next();
        }
        true
    }

    #[cold]
    fn may_run_in(&self, tick: u64) -> bool {
        self.turns.notice(tick);
        let may = match self.turn.get() {
            _ if self.turns.is_for_one() || self.has_credit(Instant::now()) => true,
            Turn::Given => {
                self.turn.set(Turn::Began(tick));
                true
            }
            Turn::Began(_) | Turn::Not => false,
        };
        if may {
            self.runs_in.set(tick);
        }
        may
    }

    /// Returns once the guest may be called.
    pub(crate) async fn turn(self: &Rc<Self>) {
        if self.may_run() {
            return;
        }
        let place = Leaving {
            lane: self,
            place: Place::default(),
        };
        poll_fn(|cx| self.poll_turn(cx, &place.place)).await;
    }

    /// As [`Self::turn`], for a task that has a place to keep, and is not given up while it waits.
    pub(super) fn poll_turn(self: &Rc<Self>, cx: &Context<'_>, place: &Place) -> Poll<()> {
        if self.may_run() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.has(place) {
            waiting.add(place, cx.waker().clone());
            self.is_crowded.set(true);
            if !self.is_queued.replace(true) {
                self.turns.queue.borrow_mut().push_back(self.clone());
                if let Some(keeper) = self.turns.keeper.borrow_mut().take() {
                    keeper.wake();
                }
            }
        }
        Poll::Pending
    }

    /// Returns whether the service may begin an outbound connection, and counts it if so.
    pub(super) fn may_connect(&self, now: Instant) -> bool {
        let Some(program) = self.program.upgrade() else {
            return false;
        };
        // The generic cell rate algorithm, as at the door.
        let next = self.next_connect.get().map_or(now, |next| next.max(now));
        let may = next.saturating_duration_since(now) <= CONNECT_BURST;
        if may {
            let interval = Duration::from_secs(1) / program.limits.connect_rate.max(1);
            self.next_connect.set(next.checked_add(interval));
        }
        may
    }

    /// Notes that a connection has something to write, and returns whether it is the first.
    pub(super) fn mark_dirty(&self, connection: &Rc<Connection>) -> bool {
        let mut dirty = self.dirty.borrow_mut();
        dirty.push_back(connection.clone());
        dirty.len() == 1
    }

    pub(super) fn next_dirty(&self) -> Option<Rc<Connection>> {
        self.dirty.borrow_mut().pop_front()
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.borrow().is_empty()
    }

    /// Returns whether some of its tasks wait; if none does, it is in the queue no longer.
    fn waits(&self, now: Instant) -> bool {
        let waits = !self.waiting.borrow().is_empty();
        if !waits {
            self.add_credit(now);
            self.is_queued.set(false);
            self.turn.set(Turn::Not);
        }
        waits
    }

    fn is_over(&self, tick: u64) -> bool {
        matches!(self.turn.get(), Turn::Began(began) if began != tick)
    }

    /// Wakes the first that waits.
    fn call_next(&self) {
        let mut waiting = self.waiting.borrow_mut();
        let next = waiting.take();
        self.is_crowded.set(!waiting.is_empty());
        drop(waiting);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Has it pay for time that it had just now.
    fn charge(&self, time: Duration, now: Instant) {
        // What came back while it had the time is a part of the sum, and what came back before is no more than the burst.
        self.add_credit(now.checked_sub(time).unwrap_or(now));
        self.credited.set(now);
        let earned = nanoseconds(time) / 100 * i64::from(self.share);
        let left = self.credit.get() + earned - nanoseconds(time);
        self.credit.set(left.max(-nanoseconds(DEBT)));
    }

    fn has_credit(&self, now: Instant) -> bool {
        self.add_credit(now);
        self.credit.get() > 0 || self.share >= 100
    }

    fn add_credit(&self, now: Instant) {
        let passed = now.saturating_duration_since(self.credited.get());
        self.credited.set(now.max(self.credited.get()));
        let mut more = nanoseconds(passed) / 100 * i64::from(self.share);
        if self.is_queued.get() {
            more /= QUEUED;
        }
        let credit = self.credit.get().saturating_add(more);
        self.credit.set(credit.min(nanoseconds(BURST)));
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.turns.lanes.borrow_mut().try_remove(self.key);
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.wakers.len() == self.given_up
    }

    fn has(&self, place: &Place) -> bool {
        // Numbers grow, so all from the first on are there.
        let first = self.wakers.front();
        first.is_some_and(|(first, _)| place.0.get() >= *first)
    }

    fn add(&mut self, place: &Place, waker: Waker) {
        self.last += 1;
        place.0.set(self.last);
        self.wakers.push_back((self.last, Some(waker)));
    }

    fn take(&mut self) -> Option<Waker> {
        while let Some((_, waker)) = self.wakers.pop_front() {
            match waker {
                Some(waker) => return Some(waker),
                None => self.given_up -= 1,
            }
        }
        None
    }

    fn give_up(&mut self, place: &Place) {
        let found = self.wakers.binary_search_by_key(&place.0.get(), |it| it.0);
        let Some((_, waker)) = found.ok().and_then(|index| self.wakers.get_mut(index)) else {
            return;
        };
        *waker = None;
        self.given_up += 1;
        // So that a plugin that starts and cancels leaves no more behind than it has.
        if self.given_up > self.wakers.len() / 2 {
            self.wakers.retain(|(_, waker)| waker.is_some());
            self.given_up = 0;
        }
    }
}

/// Gives the place up of a task that ends before its turn.
struct Leaving<'a> {
    lane: &'a Lane,
    place: Place,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut waiting = self.lane.waiting.borrow_mut();
        if waiting.has(&self.place) {
            waiting.give_up(&self.place);
            self.lane.is_crowded.set(!waiting.is_empty());
        }
    }
}

/// Returns the processor time that this thread has taken. A worker that was preempted has taken none.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Ticks since the program began; the same for all workers.
static TICKS: AtomicU64 = AtomicU64::new(0);

/// No lane has this key.
const NOBODY: usize = usize::MAX;

/// Credit that a lane can have: 10 ms, so that one that was quiet goes into its turns after a tick or two.
const BURST: Duration = Duration::from_millis(10);

/// What a lane can owe: 100 ms, so that one that has become quiet is within its share again after a second at most with a share of a tenth.
const DEBT: Duration = Duration::from_millis(100);

/// Credit comes back so many times slower to a lane whose tasks wait: 100. One that always wants more than its share would otherwise be within it after each time that it
/// waited for the others, and all of them at once; and none waits for ever.
const QUEUED: i64 = 100;

/// How far outbound connections may come ahead of an even rate: 100 ms, a tenth of a second's worth at once.
const CONNECT_BURST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::{future::Future as _, pin::pin, sync::atomic::AtomicUsize, task::Wake};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn turns() -> (Rc<Turns>, &'static AtomicU64) {
        let ticks: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(1)));
        (Turns::ticked_by(ticks), ticks)
    }

    fn lane(turns: &Rc<Turns>, share: u32) -> Rc<Lane> {
        Lane::new(turns, sync::Weak::new(), share)
    }

    /// Takes the credit that it has, and more.
    fn exhaust(lane: &Lane) {
        lane.charge(Duration::from_secs(10), Instant::now());
        lane.runs_in.set(u64::MAX);
    }

    #[test]
    fn a_service_that_is_alone_never_waits() {
        let (turns, _) = turns();
        let lane = lane(&turns, 1);
        exhaust(&lane);
        assert!(lane.may_run());
        let other = self::lane(&turns, 1);
        exhaust(&lane);
        assert!(!lane.may_run());
        drop(other);
        assert!(lane.may_run());
    }

    #[test]
    fn credit_comes_back_at_the_rate_of_the_share_up_to_the_burst() {
        let (turns, _) = turns();
        let start = Instant::now();
        // Of 20 ms that it had, and so many after them.
        for (share, milliseconds, expected) in [
            (25, 0, -5),
            (25, 20, 0),
            (25, 40, 5),
            (25, 80, 10),
            (100, 0, 10),
            (100, 10_000, 10),
            (50, 0, 0),
        ] {
            let lane = lane(&turns, share);
            lane.credited.set(start);
            let end = start + Duration::from_millis(20);
            lane.charge(Duration::from_millis(20), end);
            lane.add_credit(end + Duration::from_millis(milliseconds));
            assert_eq!(
                lane.credit.get(),
                expected * 1_000_000,
                "{share} {milliseconds}"
            );
        }
        let lane = lane(&turns, 10);
        lane.credited.set(start);
        let end = start + Duration::from_secs(60);
        lane.charge(Duration::from_secs(60), end);
        assert!(!lane.has_credit(end + Duration::from_millis(1000)));
        assert!(lane.has_credit(end + Duration::from_millis(1001)));
    }

    #[test]
    fn who_had_the_worker_at_the_tick_pays() {
        let (turns, ticks) = turns();
        let (busy, quiet) = (lane(&turns, 25), lane(&turns, 25));
        assert!(busy.may_run());
        let until = processor_time() + Duration::from_millis(20);
        while processor_time() < until {}
        ticks.fetch_add(1, Ordering::Relaxed);
        assert!(quiet.may_run());
        assert!(busy.credit.get() < 0);
        assert!(quiet.credit.get() > 0);
        assert!(!busy.may_run());
        // Time that was nobody's is nobody's.
        is_nobodys();
        let until = processor_time() + Duration::from_millis(20);
        while processor_time() < until {}
        ticks.fetch_add(1, Ordering::Relaxed);
        assert!(quiet.may_run());
    }

    #[test]
    fn lanes_take_turns_of_one_tick() {
        let (turns, ticks) = turns();
        let lanes = [lane(&turns, 1), lane(&turns, 1)];
        lanes.iter().for_each(|lane| exhaust(lane));
        let woken: [Arc<Woken>; 2] = Default::default();
        let places: [[Place; 3]; 2] = Default::default();
        for ((lane, woken), places) in lanes.iter().zip(&woken).zip(&places) {
            let waker = Waker::from(woken.clone());
            let cx = Context::from_waker(&waker);
            for place in places {
                assert!(lane.poll_turn(&cx, place).is_pending());
                // To ask twice takes no second place.
                assert!(lane.poll_turn(&cx, place).is_pending());
            }
            assert_eq!(lane.waiting.borrow().wakers.len(), 3);
        }
        let counts = || woken.each_ref().map(|woken| woken.count());
        turns.give();
        assert_eq!(counts(), [1, 0]);
        // It runs as long as no tick comes, and calls the next each time.
        assert!(lanes[0].may_run());
        assert_eq!(counts(), [2, 0]);
        assert!(lanes[0].may_run());
        assert_eq!(counts(), [3, 0]);
        assert!(!lanes[1].may_run());
        ticks.fetch_add(1, Ordering::Relaxed);
        assert!(!lanes[0].may_run());
        turns.give();
        assert_eq!(counts(), [3, 1]);
        // A turn that is not taken stays, and the next in the lane is called.
        turns.give();
        assert_eq!(counts(), [3, 2]);
        assert!(lanes[1].may_run());
        ticks.fetch_add(1, Ordering::Relaxed);
        turns.give();
        assert!(turns.queue.borrow().is_empty());
    }

    #[test]
    fn who_owes_least_is_the_first_and_waiting_pays_no_debt() {
        let (turns, ticks) = turns();
        let [first, second, modest] = [(); 3].map(|()| lane(&turns, 25));
        let woken: [Arc<Woken>; 3] = Default::default();
        let places: [Place; 3] = Default::default();
        for lane in [&first, &second] {
            exhaust(lane);
        }
        modest.charge(Duration::from_millis(20), Instant::now());
        let lanes = [&first, &second, &modest];
        for ((lane, woken), place) in lanes.iter().zip(&woken).zip(&places) {
            let waker = Waker::from(woken.clone());
            assert!(
                lane.poll_turn(&Context::from_waker(&waker), place)
                    .is_pending()
            );
        }
        turns.give();
        assert_eq!(woken.each_ref().map(|woken| woken.count()), [0, 0, 1]);
        assert!(modest.may_run());
        ticks.fetch_add(1, Ordering::Relaxed);
        turns.give();
        assert_eq!(woken.each_ref().map(|woken| woken.count()), [1, 0, 1]);
        let debt = second.credit.get();
        second.add_credit(second.credited.get() + Duration::from_secs(1));
        assert_eq!(second.credit.get() - debt, 2_500_000);
    }

    #[test]
    fn what_is_given_up_leaves_nothing_behind() {
        let (turns, _) = turns();
        let (first, _other) = (lane(&turns, 1), lane(&turns, 1));
        exhaust(&first);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let place = Place::default();
        assert!(first.poll_turn(&cx, &place).is_pending());
        for _ in 0..1000 {
            let future = pin!(first.turn());
            assert!(future.poll(&mut cx).is_pending());
        }
        assert!(first.waiting.borrow().wakers.len() <= 2);
        turns.give();
        assert_eq!(woken.count(), 1);
        assert!(first.waiting.borrow().is_empty());
    }
}
