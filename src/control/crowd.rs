//! Room for connections at a listener: when there is none left, whoever has been idle longest gives way.
//!
//! A limit alone would let idle connections, a flood's or a forgotten script's, keep everybody else out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

/// The connections of one listener.
#[derive(Debug)]
pub struct Crowd {
    places: Arc<Semaphore>,
    /// In the order in which they came.
    members: VecDeque<Member>,
}

#[derive(Debug)]
struct Member {
    task: AbortHandle,
    busy: Busy,
}

/// A connection's word on whether it is idle, and may be ended for want of room.
#[derive(Clone, Debug, Default)]
pub struct Busy(Arc<AtomicBool>);

impl Busy {
    /// From now on it has something to do, or not.
    pub fn set(&self, busy: bool) {
        self.0.store(busy, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Crowd {
    /// Room for so many.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), members: VecDeque::new() }
    }

    /// A place for one more, once there is one; and whether an idle connection was ended for it. `None`
    /// never comes as long as the crowd exists.
    pub async fn place(&mut self) -> Option<(OwnedSemaphorePermit, bool)> {
        self.members.retain(|member| !member.task.is_finished());
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some((place, false));
        }
        let idle = self.members.iter().position(|member| !member.busy.get());
        if let Some(member) = idle.and_then(|at| self.members.remove(at)) {
            member.task.abort();
        }
        // Its task drops the place it holds when it ends.
        Some((Arc::clone(&self.places).acquire_owned().await.ok()?, idle.is_some()))
    }

    /// Adds a connection: its task, which holds its place.
    pub fn add(&mut self, task: AbortHandle, busy: Busy) {
        self.members.push_back(Member { task, busy });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_idle_gives_way_and_who_is_busy_stays() {
        let mut crowd = Crowd::new(2);
        let mut tasks = Vec::new();
        for busy in [true, false, false] {
            let (place, ended) = crowd.place().await.unwrap();
            assert_eq!(ended, tasks.len() == 2);
            let task = tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(place);
            });
            let word = Busy::default();
            word.set(busy);
            crowd.add(task.abort_handle(), word);
            tasks.push(task);
        }
        assert!(!tasks[0].is_finished() && !tasks[2].is_finished());
        assert!(tasks.remove(1).await.is_err_and(|error| error.is_cancelled()));
    }
}
