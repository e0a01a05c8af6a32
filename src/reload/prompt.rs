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
use tracing::Span;

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
    /// What the task logs is logged in it. A push logs nothing, and does without.
    span: Span,
    push: Push,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Prompt {
    /// To be called inside a tokio runtime.
    pub(super) fn new(
        task: impl Future<Output = ()> + Send + 'static,
        span: Span,
        push: Push,
        volumes: &[Volume],
    ) -> Self {
        let shared = Arc::new(Shared {
            task: Mutex::new(Some(Box::pin(task))),
            waker: AtomicWaker::new(),
            runtime: Handle::current(),
            span,
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
        let polled = self.shared.span.in_scope(|| running.as_mut().poll(context));
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::SystemTime;

    use super::*;
    use crate::gate::Accepted;
    use crate::secrets::Secrets;
    use crate::snapshot::Label;
    use crate::snapshot::tests::contents;
    use crate::status::Status;
    use crate::store::Publisher;

    struct Fixture {
        /// Keeps the volume.
        _secrets: Secrets,
        volume: Volume,
        publisher: Publisher,
        seen: Arc<AtomicU64>,
    }

    impl Fixture {
        fn new() -> Self {
            let (secrets, mut publishers) = Secrets::for_test(&["db"]);
            let volume = secrets.volumes().next().unwrap();
            let publisher = publishers.remove(0);
            Self { _secrets: secrets, volume, publisher, seen: Arc::default() }
        }

        /// A task that notes the generation whenever it is polled, and fails from the second one on
        /// if asked to.
        fn prompt(&self, push: Push, fails: bool) -> Prompt {
            let (volume, seen) = (self.volume.clone(), Arc::clone(&self.seen));
            let task = poll_fn(move |_| {
                let generation = volume.reader().generation();
                assert!(!fails || generation == 0, "asked to fail");
                seen.store(generation, Ordering::SeqCst);
                Poll::Pending
            });
            Prompt::new(task, Span::none(), push, std::slice::from_ref(&self.volume))
        }

        /// Publishes on another thread, while this one, the runtime's, cannot poll anything.
        fn publish(&self) {
            let label = Label {
                volume: "db".parse().unwrap(),
                boot: "boot".into(),
                generation: 1,
                published_at: None,
                observed_at: SystemTime::UNIX_EPOCH,
            };
            let accepted = Accepted::for_test(contents([("k", "v")]));
            thread::scope(|scope| {
                scope.spawn(|| self.publisher.publish(label, accepted, &Status::default()));
            });
        }

        fn seen(&self) -> u64 {
            self.seen.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn publishing_thread_pushes_where_it_may_and_wakes_in_any_case() {
        for (push, at_once) in [(Push::Allowed, 1), (Push::Never, 0)] {
            let fixture = Fixture::new();
            let task = tokio::spawn(fixture.prompt(push, false));
            without_hurry().await;
            fixture.publish();
            assert_eq!(fixture.seen(), at_once, "{push:?}");
            // Noted anew only by a task that was woken.
            fixture.seen.store(0, Ordering::SeqCst);
            without_hurry().await;
            assert_eq!(fixture.seen(), 1, "{push:?}");
            task.abort();
        }
    }

    #[tokio::test]
    async fn panic_of_a_pushed_task_ends_the_task_and_not_the_publishing_thread() {
        let fixture = Fixture::new();
        let task = tokio::spawn(fixture.prompt(Push::Allowed, true));
        without_hurry().await;
        fixture.publish();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn task_is_not_pushed_while_it_is_polled_or_after_it_was_dropped() {
        let fixture = Fixture::new();
        let prompt = fixture.prompt(Push::Allowed, false);
        let polled = prompt.shared.lock();
        fixture.publish();
        assert_eq!(fixture.seen(), 0);
        drop(polled);
        drop(prompt);
        fixture.publish();
        assert_eq!(fixture.seen(), 0);
    }
}
