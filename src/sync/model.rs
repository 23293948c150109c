//! The same names for a model. Only what the engine uses is there.
//!
//! Time is not modelled: a wait with a time limit ends whenever the scheduler likes. A limit of a second and more is there for accidents,
//! and never ends a wait: if nothing else does, the model has found a deadlock.

use crossbeam_channel::{RecvError, SendError, TryRecvError};
pub(crate) use crossbeam_channel::{RecvTimeoutError, TrySendError};
use shuttle::rand::Rng;
pub(crate) use shuttle::sync::atomic;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Limits from here on are for accidents.
const ACCIDENT: Duration = Duration::from_secs(1);

/// A mutex with the manners of `parking_lot`: no poison.
#[derive(Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// `None` only while its condition variable waits.
pub(crate) struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("nobody waits with it")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("nobody waits with it")
    }
}

#[derive(Default)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.0.take().expect("nobody waits with it");
        guard.0 = Some(self.0.wait(inner).unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> RwLock<T> {
        RwLock(shuttle::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) mod thread {
    pub(crate) use shuttle::thread::{Builder, JoinHandle, spawn};

    /// Others go on; for how long is theirs to say.
    pub(crate) fn sleep(_: std::time::Duration) {
        shuttle::thread::yield_now();
    }
}

struct Channel<T> {
    state: Mutex<Queue<T>>,
    changed: Condvar,
}

struct Queue<T> {
    waiting: VecDeque<T>,
    room: usize,
    senders: usize,
    receivers: usize,
}

/// See `crossbeam_channel::Sender`.
pub struct Sender<T>(Arc<Channel<T>>);

/// See `crossbeam_channel::Receiver`.
pub struct Receiver<T>(Arc<Channel<T>>);

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

pub(crate) fn bounded<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue { waiting: VecDeque::new(), room, senders: 1, receivers: 1 };
    let channel = Arc::new(Channel { state: Mutex::new(queue), changed: Condvar::new() });
    (Sender(channel.clone()), Receiver(channel))
}

impl<T> Sender<T> {
    /// Without waiting for room: the engine only does this to channels without a bound.
    pub(crate) fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.try_send(item).map_err(|refused| SendError(refused.into_inner()))
    }

    pub(crate) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut queue = self.0.state.lock();
        if queue.receivers == 0 {
            return Err(TrySendError::Disconnected(item));
        }
        if queue.waiting.len() >= queue.room {
            return Err(TrySendError::Full(item));
        }
        queue.waiting.push_back(item);
        drop(queue);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// See `crossbeam_channel::Receiver::recv`.
    ///
    /// # Errors
    /// When nothing is there and nothing will come.
    pub fn recv(&self) -> Result<T, RecvError> {
        let mut queue = self.0.state.lock();
        loop {
            match queue.take() {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
                Err(TryRecvError::Empty) => self.0.changed.wait(&mut queue),
            }
        }
    }

    /// See `crossbeam_channel::Receiver::try_recv`.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.0.state.lock().take()
    }

    pub(crate) fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        if limit >= ACCIDENT {
            return self.recv().map_err(|RecvError| RecvTimeoutError::Disconnected);
        }
        for _ in 0..shuttle::rand::thread_rng().gen_range(1..4) {
            match self.try_recv() {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => shuttle::thread::yield_now(),
            }
        }
        Err(RecvTimeoutError::Timeout)
    }
}

impl<T> Queue<T> {
    fn take(&mut self) -> Result<T, TryRecvError> {
        let nothing = if self.senders == 0 { TryRecvError::Disconnected } else { TryRecvError::Empty };
        self.waiting.pop_front().ok_or(nothing)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().senders += 1;
        Sender(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().receivers += 1;
        Receiver(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state.lock().senders -= 1;
        self.0.changed.notify_all();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.state.lock();
        queue.receivers -= 1;
        let unread = if queue.receivers == 0 { std::mem::take(&mut queue.waiting) } else { VecDeque::new() };
        drop(queue);
        // Items may hold locks and senders of their own.
        drop(unread);
    }
}
