//! What the end of a pod waits for: that the partitions of its consumer have gone to others.
//!
//! A controller that sees a pod end moves them, and says a word to its consumer first. Who hears none is not waited for: nobody plans,
//! or the whole group ends.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a controller's first word may take: it sees the pod end at once, unless it is away.
const FIRST_WORD: Duration = Duration::from_secs(3);

/// What a consumer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its partitions.
    pub partitions: usize,
    /// How many commands it has read.
    pub commands: u64,
}

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The consumer has nothing any more.
    All,
    /// It still has partitions, and nobody takes them.
    Unheard,
    /// It still has partitions when the time is over.
    Late,
}

impl Left {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all partitions have left",
            Self::Unheard => "no controller takes the partitions",
            Self::Late => "some partitions have not left in time",
        }
    }
}

/// Waits until a consumer has nothing, or until that cannot be expected any more.
pub async fn left(mut held: watch::Receiver<Held>, limit: Duration) -> Left {
    let before = held.borrow().commands;
    let end = Instant::now() + limit;
    let first = held.wait_for(|held| held.partitions == 0 || held.commands != before);
    let heard = timeout(FIRST_WORD.min(limit), first).await.is_ok_and(|held| held.is_ok());
    if !heard {
        return Left::Unheard;
    }
    let all = held.wait_for(|held| held.partitions == 0);
    match timeout_at(end, all).await {
        // A consumer that has ended has nothing.
        Ok(_) => Left::All,
        Err(_) => Left::Late,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn who_has_nothing_is_not_waited_for_and_who_has_something_is_as_long_as_a_controller_sees_to_it()
     {
        let held = |partitions, commands| Held { partitions, commands };
        let (has, seen) = watch::channel(held(0, 7));
        assert_eq!(left(seen.clone(), LIMIT).await, Left::All);
        has.send_replace(held(2, 7));
        let began = Instant::now();
        assert_eq!(left(seen.clone(), LIMIT).await, Left::Unheard);
        assert_eq!(began.elapsed(), FIRST_WORD);
        let leaves = async {
            for next in [held(2, 8), held(1, 9), held(0, 10)] {
                tokio::time::sleep(Duration::from_secs(2)).await;
                has.send_replace(next);
            }
        };
        let began = Instant::now();
        assert_eq!(tokio::join!(left(seen.clone(), LIMIT), leaves).0, Left::All);
        assert_eq!(began.elapsed(), Duration::from_secs(6));
        has.send_replace(held(1, 10));
        let word = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            has.send_replace(held(1, 11));
        };
        let began = Instant::now();
        assert_eq!(tokio::join!(left(seen, LIMIT), word).0, Left::Late);
        assert_eq!(began.elapsed(), LIMIT);
    }
}
