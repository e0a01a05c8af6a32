//! Tasks that are asked to end before they are ended.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

/// Tasks at work. Dropping it abandons what they do.
pub(crate) struct Tasks {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { stop: watch::Sender::new(false), tasks: JoinSet::new() }
    }

    /// Becomes `true` when the tasks are asked to end.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Starts a task. To be called inside a tokio runtime.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Asks all of them to end, and waits. `false` if the deadline cut one off.
    pub(crate) async fn stop(mut self, deadline: Duration) -> bool {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_ok() {
            return true;
        }
        self.tasks.shutdown().await;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn task_that_does_not_end_is_cut_off() {
        let mut tasks = Tasks::new();
        let mut stopping = tasks.stopping();
        tasks.spawn(async move { drop(stopping.wait_for(|is_stopping| *is_stopping).await) });
        assert!(tasks.stop(Duration::from_secs(1)).await);
        let mut tasks = Tasks::new();
        tasks.spawn(std::future::pending());
        assert!(!tasks.stop(Duration::from_secs(1)).await);
    }
}
