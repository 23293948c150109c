//! Signals: the first asks for a stop, the second insists.

use crate::engine::Handle;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// What signals have asked for, and whom they concern.
#[derive(Clone, Default)]
pub struct Signals {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    count: AtomicU32,
    run: Mutex<Option<Handle>>,
}

impl Signals {
    /// Listens for SIGINT, SIGTERM and SIGHUP from now on, on a thread of its own.
    pub fn listen() -> Signals {
        let signals = Signals::default();
        let listener = signals.clone();
        let listen = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
            runtime.block_on(listener.forward());
        };
        let _ = std::thread::Builder::new().name("signals".into()).spawn(listen);
        signals
    }

    async fn forward(&self) {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let Ok([mut interrupt, mut terminate, mut hangup]) = kinds
            .map(signal)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map(|all| <[_; 3]>::try_from(all).unwrap_or_else(|_| unreachable!("three kinds")))
        else {
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            self.stop();
        }
    }

    fn stop(&self) {
        let before = self.inner.count.fetch_add(1, Ordering::SeqCst);
        let run = self.inner.run.lock();
        match (&*run, before) {
            (Some(run), 0) => run.stop(),
            (Some(run), _) => run.stop_now(),
            // Nothing is under way that would have to be stopped with care.
            (None, _) => std::process::exit(75),
        }
    }

    /// From now on signals concern this run; one that has come meanwhile does at once.
    pub fn watch(&self, handle: Handle) {
        let mut run = self.inner.run.lock();
        if self.is_stopping() {
            handle.stop();
        }
        *run = Some(handle);
    }

    /// No run is under way any more.
    pub fn unwatch(&self) {
        *self.inner.run.lock() = None;
    }

    /// Whether a signal has come.
    pub fn is_stopping(&self) -> bool {
        self.inner.count.load(Ordering::SeqCst) > 0
    }
}
