//! Tasks: futures that run after the callbacks.
//!
//! One queue and no threads. What is ready runs when a callback has returned and holds nothing any more, which is why a task may reach the
//! factory and the sessions.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    ops::RangeInclusive,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use crate::{connection::ConnectionId, deferred::Operation};

/// Runs a future beside the callbacks.
///
/// The task belongs to the session in whose callback (or task) it was started and is dropped after that session's
/// [`connection_lost`](crate::Protocol::connection_lost); one that was started elsewhere belongs to the instance. It starts to run when the current
/// callback has returned.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Task {
    start(future, owner(), Kind::Busy)
}

/// Runs a future beside the callbacks that belongs to the instance, whoever starts it, and so outlives the session.
pub fn spawn_for_instance(future: impl Future<Output = ()> + 'static) -> Task {
    start(future, None, Kind::Busy)
}

/// Runs two futures at the same time, until both have succeeded or one has failed; the other is dropped then.
pub async fn try_join<A, B, E>(
    one: impl Future<Output = Result<A, E>>,
    other: impl Future<Output = Result<B, E>>,
) -> Result<(A, B), E> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(result) = one.as_mut().poll(cx)
        {
            match result {
                Ok(value) => first = Some(value),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if second.is_none()
            && let Poll::Ready(result) = other.as_mut().poll(cx)
        {
            match result {
                Ok(value) => second = Some(value),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready(Ok((first, second))),
            unfinished => {
                (first, second) = unfinished;
                Poll::Pending
            }
        }
    })
    .await
}

/// A task that is cancelled when this is dropped, unless it was [detached](Self::detach).
#[must_use = "a task whose handle is dropped is cancelled; keep or detach it"]
#[derive(Debug)]
pub struct Task(Option<Key>);

impl Task {
    /// Lets the task run with nobody holding it.
    pub fn detach(mut self) {
        self.0 = None;
    }

    /// Ends the task. The same as dropping it, with a name.
    pub fn cancel(self) {}
}

impl Drop for Task {
    fn drop(&mut self) {
        let Some(key) = self.0 else { return };
        // The future is dropped when the borrow is over: it may hold tasks and deferreds itself.
        let slot = EXECUTOR.try_with(|executor| executor.tasks.borrow_mut().remove(&key));
        drop(slot);
    }
}

/// Whether a task keeps its session from moving to another version.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its state cannot be saved.
    Busy,
    /// The session starts it again when it is restored.
    Restartable,
}

pub(crate) fn start(
    future: impl Future<Output = ()> + 'static,
    owner: Option<ConnectionId>,
    kind: Kind,
) -> Task {
    EXECUTOR.with(|executor| {
        let number = executor.next.get();
        executor.next.set(number + 1);
        let key = Key { owner, number };
        let flag = Arc::new(Flag {
            key,
            queued: AtomicBool::new(true),
        });
        let slot = Slot {
            future: Some(Box::pin(future)),
            kind,
            waker: Waker::from(Arc::clone(&flag)),
            flag,
        };
        executor.tasks.borrow_mut().insert(key, slot);
        executor.ready.borrow_mut().push_back(key);
        Task(Some(key))
    })
}

/// The session that a task which is started now belongs to.
pub(crate) fn owner() -> Option<ConnectionId> {
    EXECUTOR.with(|executor| {
        executor
            .polling
            .get()
            .unwrap_or_else(|| executor.ambient.get())
    })
}

/// The session in whose callback the host believes itself to be.
pub(crate) fn ambient() -> Option<ConnectionId> {
    EXECUTOR.with(|executor| executor.ambient.get())
}

/// A callback begins: whose is it?
pub(crate) fn enter(session: Option<ConnectionId>) {
    EXECUTOR.with(|executor| executor.ambient.set(session));
}

/// A callback is over: runs what is ready. What is still ready after [`MAX_POLLS`] waits for a timer of 0, so that a task that always wakes itself
/// does not use up the callback's time.
pub(crate) fn run_ready() {
    EXECUTOR.with(|executor| {
        for _ in 0..MAX_POLLS {
            let Some(key) = executor.ready.borrow_mut().pop_front() else {
                return;
            };
            executor.poll(key);
        }
        let mut resume = executor.resume.borrow_mut();
        if !executor.ready.borrow().is_empty() && resume.as_ref().is_none_or(Operation::is_complete)
        {
            *resume = Some(Operation::timer(Duration::ZERO));
        }
    });
}

/// Whether a task of this session is running that cannot move.
pub(crate) fn is_busy(session: ConnectionId) -> bool {
    EXECUTOR.with(|executor| {
        let tasks = executor.tasks.borrow();
        tasks
            .range(Key::all_of(session))
            .any(|(_, slot)| slot.kind == Kind::Busy)
    })
}

/// Drops the tasks of a session that is gone.
pub(crate) fn session_ended(session: ConnectionId) {
    // The futures are dropped when the borrow is over: they may hold tasks and deferreds themselves.
    let ended: Vec<_> = EXECUTOR.with(|executor| {
        let mut tasks = executor.tasks.borrow_mut();
        tasks
            .extract_if(Key::all_of(session), |_, _| true)
            .collect()
    });
    drop(ended);
}

/// Forgets every task: the instance is gone. Only tests have more than one instance in a life.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn reset() {
    drop(suspend());
}

/// Takes all tasks out of this thread, and puts them back.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn suspend() -> Suspended {
    EXECUTOR.with(|executor| {
        executor.ambient.set(None);
        Suspended(
            executor.tasks.take(),
            executor.ready.take(),
            executor.resume.take(),
        )
    })
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn resume(suspended: Suspended) {
    EXECUTOR.with(|executor| {
        executor.tasks.replace(suspended.0);
        executor.ready.replace(suspended.1);
        executor.resume.replace(suspended.2);
    });
}

/// The tasks of an instance that another one stands in for.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) struct Suspended(BTreeMap<Key, Slot>, VecDeque<Key>, Option<Operation>);

#[derive(Default)]
struct Executor {
    tasks: RefCell<BTreeMap<Key, Slot>>,
    ready: RefCell<VecDeque<Key>>,
    next: Cell<u64>,
    ambient: Cell<Option<ConnectionId>>,
    /// While a task runs, the session that it belongs to.
    polling: Cell<Option<Option<ConnectionId>>>,
    resume: RefCell<Option<Operation>>,
}

/// Names a task; those of one session lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    owner: Option<ConnectionId>,
    number: u64,
}

impl Key {
    fn all_of(session: ConnectionId) -> RangeInclusive<Self> {
        let key = |number| Self {
            owner: Some(session),
            number,
        };
        key(0)..=key(u64::MAX)
    }
}

pub(crate) struct Slot {
    /// None while it runs.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    kind: Kind,
    waker: Waker,
    flag: Arc<Flag>,
}

impl Executor {
    fn poll(&self, key: Key) {
        let taken = self.tasks.borrow_mut().get_mut(&key).and_then(|slot| {
            slot.flag.queued.store(false, Ordering::Relaxed);
            Some((slot.future.take()?, slot.waker.clone()))
        });
        let Some((mut future, waker)) = taken else {
            return;
        };
        self.polling.set(Some(key.owner));
        let outcome = future.as_mut().poll(&mut Context::from_waker(&waker));
        self.polling.set(None);
        if outcome.is_ready() {
            drop(future);
            let slot = self.tasks.borrow_mut().remove(&key);
            drop(slot);
        } else if let Some(slot) = self.tasks.borrow_mut().get_mut(&key) {
            slot.future = Some(future);
        }
    }
}

/// A task's waker: puts it into the queue, once.
struct Flag {
    key: Key,
    queued: AtomicBool,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            // An error means that the thread ends, and the queue with it.
            let _ = EXECUTOR.try_with(|executor| executor.ready.borrow_mut().push_back(self.key));
        }
    }
}

/// How many times tasks are polled after one callback. Enough for a task per session of a busy factory to say a word; far from 50 ms.
const MAX_POLLS: usize = 1024;

thread_local! {
    static EXECUTOR: Executor = Executor::default();
}
