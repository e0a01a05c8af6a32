//! A target's task that the publishing thread gives its first push.
//!
//! How it works. A rotation is found on inotify's thread, and waking the runtime's thread for it
//! would take as long as telling the app does. So where that cannot block, the publishing thread
//! polls the task itself, once, which is enough for a signal or a request to leave. The wakers that
//! it leaves behind for that lead nowhere; the task is woken in any case when the publishing thread
//! has finished, and goes on from where it is.
//!
//! Nothing is lost in between: whoever is polled looks at what is there before it waits. Where the
//! runtime's thread is polling the task already, there is no push, only the wake-up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;

use crate::secrets::Volume;
use crate::store::Observer;

/// Whether the publishing thread may poll a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Push {
    /// It never blocks.
    Allowed,
    /// It may read a file or start a process.
    Never,
}

/// A task that looks for new snapshots whenever it is polled. It ends with this future.
pub(super) struct Prompt {
    shared: Arc<Shared>,
    /// What the volumes call, as long as this is here.
    _observer: Arc<dyn Observer>,
}

struct Shared {
    /// `None` once it has ended.
    task: Mutex<Option<Task>>,
    waker: AtomicWaker,
    runtime: Handle,
    push: Push,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Prompt {
    /// To be called inside a tokio runtime.
    pub(super) fn new(
        task: impl Future<Output = ()> + Send + 'static,
        push: Push,
        volumes: &[Volume],
    ) -> Self {
        let shared = Arc::new(Shared {
            task: Mutex::new(Some(Box::pin(task))),
            waker: AtomicWaker::new(),
            runtime: Handle::current(),
            push,
        });
        let observer: Arc<dyn Observer> = Arc::<Shared>::clone(&shared);
        for volume in volumes {
            volume.reader().observe(&observer);
        }
        Self { shared, _observer: observer }
    }
}

impl Observer for Shared {
    fn published(&self) {
        if self.push == Push::Never {
            return;
        }
        let Ok(mut task) = self.task.try_lock() else { return };
        let Some(running) = task.as_mut() else { return };
        let _entered = self.runtime.enter();
        let mut nobody = Context::from_waker(Waker::noop());
        // A panic here must not end the engine. The task would have ended by it, too.
        let polled = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(&mut nobody)));
        if !matches!(polled, Ok(Poll::Pending)) {
            *task = None;
        }
    }

    fn finished(&self) {
        self.waker.wake();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Task>> {
        // A task that has panicked is gone with the task around it.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Prompt {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // First: a snapshot that comes from here on wakes, one that came before is found.
        self.shared.waker.register(context.waker());
        let mut task = self.shared.lock();
        let Some(running) = task.as_mut() else { return Poll::Ready(()) };
        let polled = running.as_mut().poll(context);
        if polled.is_ready() {
            *task = None;
        }
        polled
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        // The runtime may end after this; nobody may poll the task then.
        *self.shared.lock() = None;
    }
}

/// Leaves what follows to the task's own thread.
pub(crate) async fn without_hurry() {
    tokio::task::yield_now().await;
}
