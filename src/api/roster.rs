//! Who is connected to the TCP port, so that the one idle for the longest can make room.

use std::sync::Arc;

use tokio::task::AbortHandle;

use super::connection::Activity;

/// The connections of a listener. Those that have ended are struck off whenever it is used.
#[derive(Default)]
pub(super) struct Roster(Vec<Guest>);

struct Guest {
    activity: Arc<Activity>,
    task: AbortHandle,
}

impl Roster {
    pub(super) fn add(&mut self, activity: Arc<Activity>, task: AbortHandle) {
        self.strike_off_the_ended();
        self.0.push(Guest { activity, task });
    }

    /// Ends the connection on which nothing has happened for the longest; `false` where a request
    /// is at work on each.
    pub(super) fn evict_the_longest_idle(&mut self) -> bool {
        self.strike_off_the_ended();
        let idle = |(at, guest): (usize, &Guest)| Some((guest.activity.idle_since()?, at));
        let Some((_, at)) = self.0.iter().enumerate().filter_map(idle).min() else {
            return false;
        };
        self.0.swap_remove(at).task.abort();
        true
    }

    fn strike_off_the_ended(&mut self) {
        self.0.retain(|guest| !guest.task.is_finished());
    }
}
