//! Which replica tries: the rules of the Lease as a state machine, without IO and without the clocks of others.
//!
//! Time is this process's own, and a lease of somebody else counts from when it was last seen to change, as in client-go. Ownership of
//! partitions does not depend on any of this: the ledger's terms decide that.

use std::time::Duration;

use tokio::time::Instant;

/// How long a lease holds that nobody renews.
pub(super) const DURATION: Duration = Duration::from_secs(15);

/// Time between two renewals.
const RENEW: Duration = Duration::from_secs(3);

/// Time between two looks of a standby: as often as it may be late to see that the lease was released.
const LOOK: Duration = Duration::from_secs(5);

/// After the last renewal that worked. While no API server answers nobody else can take the lease, and who holds it goes on. Who is cut off
/// from it alone does, too, for so long, and is deposed in the ledgers by who has taken it.
const DEADLINE: Duration = Duration::from_secs(300);

/// Longest time that one request may take.
const REQUEST: Duration = Duration::from_secs(3);

/// After the last renewal that worked nobody else can have taken the lease for so long, also when it is looked at only after the request that
/// is under way.
const SURE: Duration = DURATION.saturating_sub(REQUEST);

/// The lease as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// Empty when it was released.
    pub(super) holder: String,
    pub(super) transitions: i32,
    /// Changes with each write: the resource version.
    pub(super) version: String,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Empty to release it.
    pub(super) holder: String,
    pub(super) transitions: i32,
    /// Whether the holder is another one than before.
    pub(super) acquires: bool,
    /// The version that it replaces; `None` where there is no lease.
    pub(super) over: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// The lease was read; there may be none.
    Seen(Option<Stored>),
    /// What was to be written was written.
    Written(Stored),
    /// Somebody else has written in between.
    Conflict,
    /// The request failed.
    Failed,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing yet.
    Wait,
    /// Read the lease.
    Look,
    /// Write the lease.
    Write(Wish),
}

/// What this process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Nobody has answered yet.
    #[default]
    Unknown,
    /// Another process holds the lease, or nobody yet.
    Standby {
        /// Who holds it; empty when nobody does.
        holder: String,
    },
    /// This process holds the lease.
    Holder,
    /// It held the lease last, and could not renew it: another process may hold it by now. It goes on, because nobody does where the API
    /// server is away, and claims nothing.
    CutOff,
}

impl Role {
    /// It runs the groups.
    pub(super) fn runs(&self) -> bool {
        matches!(self, Self::Holder | Self::CutOff)
    }
}

/// The state machine of one candidate.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    role: Role,
    /// The lease as it was seen last, and since when it is so.
    seen: Option<(Option<Stored>, Instant)>,
    /// When the request began that last renewed the lease.
    renewed: Option<Instant>,
    /// When the request that is under way began.
    asked: Option<Instant>,
    /// When the next request is due.
    due: Instant,
    /// The stored lease has to be read before it can be written.
    is_stale: bool,
}

// === impl Election ===

impl Election {
    pub(super) fn new(identity: String, now: Instant) -> Self {
        let (role, seen, renewed, asked) = (Role::Unknown, None, None, None);
        Self { identity, role, seen, renewed, asked, due: now, is_stale: true }
    }

    pub(super) fn role(&self, now: Instant) -> Role {
        match (&self.role, self.renewed) {
            (Role::Holder, Some(renewed)) if now >= renewed + SURE => Role::CutOff,
            (role, _) => role.clone(),
        }
    }

    /// What to do now. Loses the lease when it is too old.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        self.lapse(now);
        if self.asked.is_some() || now < self.due {
            return Next::Wait;
        }
        self.asked = Some(now);
        self.due = now + if self.role == Role::Holder { RENEW } else { LOOK };
        if self.is_stale {
            return Next::Look;
        }
        match self.wish(now) {
            Some(wish) => Next::Write(wish),
            None => Next::Look,
        }
    }

    /// How long the request may take that is begun now: never longer than the lease may still be believed in.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        if self.role == Role::Holder { REQUEST.min(self.left(now)) } else { REQUEST }
    }

    pub(super) fn step(&mut self, now: Instant, input: Input) {
        let asked = self.asked.take().unwrap_or(now);
        match input {
            Input::Seen(stored) => self.see(now, stored),
            Input::Written(stored) => {
                let is_mine = stored.holder == self.identity;
                self.seen = Some((Some(stored), now));
                if is_mine {
                    self.renewed = Some(asked);
                    self.due = asked + RENEW;
                    self.role = Role::Holder;
                }
            }
            Input::Conflict => {
                self.is_stale = true;
                self.due = now;
            }
            // Whether it was written is not known. Who does not see the holder renew must not take it for dead.
            Input::Failed => {
                self.is_stale = true;
                if let Some((_, since)) = &mut self.seen {
                    *since = now;
                }
            }
        }
        self.lapse(now);
    }

    /// What gives the lease up; nothing where it is another's.
    pub(super) fn release(&mut self, now: Instant) -> Option<Wish> {
        let stored = self.seen.as_ref().and_then(|(stored, _)| stored.clone())?;
        let is_mine = self.role == Role::Holder && stored.holder == self.identity;
        self.lose(String::new());
        self.asked = Some(now);
        let Stored { transitions, version, .. } = stored;
        is_mine.then(|| Wish {
            holder: String::new(),
            transitions,
            acquires: false,
            over: Some(version),
        })
    }

    fn see(&mut self, now: Instant, stored: Option<Stored>) {
        let is_same = self.seen.as_ref().is_some_and(|(seen, _)| *seen == stored);
        if !is_same {
            self.seen = Some((stored.clone(), now));
        }
        let holder = stored.map(|stored| stored.holder).unwrap_or_default();
        // A lease that somebody has deleted is nobody else's: who held it goes on as where the API server is away.
        let is_deleted = self.role == Role::Holder && self.is_of_nobody();
        if holder != self.identity && !is_deleted {
            self.lose(holder);
        }
        self.is_stale = false;
        // Written at once where it may be.
        if self.wish(now).is_some() {
            self.due = now;
        } else {
            self.is_stale = true;
        }
    }

    /// There is no lease, as it was seen last.
    fn is_of_nobody(&self) -> bool {
        matches!(self.seen, Some((None, _)))
    }

    fn lapse(&mut self, now: Instant) {
        if self.role == Role::Holder && self.left(now).is_zero() {
            self.lose(String::new());
        }
    }

    fn lose(&mut self, holder: String) {
        self.role = Role::Standby { holder };
        self.renewed = None;
        self.is_stale = true;
    }

    /// For how long the lease may still be believed in.
    fn left(&self, now: Instant) -> Duration {
        self.renewed
            .map(|renewed| (renewed + DEADLINE).saturating_duration_since(now))
            .unwrap_or_default()
    }

    /// The write that takes or keeps the lease, where that is allowed.
    fn wish(&self, now: Instant) -> Option<Wish> {
        let (stored, since) = self.seen.as_ref()?;
        let holder = self.identity.clone();
        let Some(stored) = stored else {
            return Some(Wish { holder, transitions: 0, acquires: true, over: None });
        };
        let over = Some(stored.version.clone());
        if stored.holder == self.identity {
            return Some(Wish { holder, transitions: stored.transitions, acquires: false, over });
        }
        let is_free = stored.holder.is_empty() || now >= *since + DURATION;
        let transitions = stored.transitions.saturating_add(1);
        is_free.then_some(Wish { holder, transitions, acquires: true, over })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(holder: &str, version: u32) -> Stored {
        Stored { holder: holder.to_owned(), transitions: 4, version: version.to_string() }
    }

    /// A candidate `me` that has looked once.
    fn after_look(now: Instant, found: Option<Stored>) -> Election {
        let mut election = Election::new("me".to_owned(), now);
        assert_eq!(election.next(now), Next::Look);
        election.step(now, Input::Seen(found));
        election
    }

    fn holder(now: Instant) -> Election {
        let mut election = after_look(now, None);
        let Next::Write(wish) = election.next(now) else { panic!("nothing is written") };
        assert_eq!((wish.over, wish.acquires), (None, true));
        election.step(now, Input::Written(stored("me", 1)));
        assert_eq!(election.role(now), Role::Holder);
        election
    }

    fn later(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_somebody_deletes_is_held_on_to_and_made_again_where_that_is_allowed() {
        let now = Instant::now();
        let mut election = holder(now);
        let Next::Write(_) = election.next(later(now, 3)) else { panic!("it is not renewed") };
        election.step(later(now, 3), Input::Conflict);
        assert_eq!(election.next(later(now, 4)), Next::Look);
        election.step(later(now, 4), Input::Seen(None));
        assert_eq!(election.role(later(now, 4)), Role::Holder);
        let Next::Write(wish) = election.next(later(now, 5)) else { panic!("it is not made") };
        assert_eq!(wish.over, None);
        election.step(later(now, 5), Input::Failed);
        assert_eq!(election.role(later(now, 30)), Role::CutOff);
    }

    #[test]
    fn a_lease_of_nobody_is_taken_at_once() {
        let now = Instant::now();
        let mut election = after_look(now, Some(stored("", 7)));
        let Next::Write(wish) = election.next(now) else { panic!("nothing is written") };
        assert_eq!((wish.transitions, wish.over.as_deref()), (5, Some("7")));
    }

    #[test]
    fn a_lease_of_another_is_taken_only_after_it_was_seen_unchanged_for_its_duration() {
        let now = Instant::now();
        let mut election = after_look(now, Some(stored("other", 1)));
        assert_eq!(election.role(now), Role::Standby { holder: "other".to_owned() });
        for (seconds, version) in [(5, 2), (10, 2), (15, 2), (20, 2)] {
            assert_eq!(election.next(later(now, seconds - 1)), Next::Wait);
            assert_eq!(election.next(later(now, seconds)), Next::Look);
            election.step(later(now, seconds), Input::Seen(Some(stored("other", version))));
        }
        // Its last change was seen at the fifth second.
        assert!(matches!(election.next(later(now, 20)), Next::Write(wish) if wish.acquires));
    }

    #[test]
    fn a_holder_renews_with_one_write_each_time_and_no_look() {
        let now = Instant::now();
        let mut election = holder(now);
        for (seconds, version) in [(3, 2), (6, 3), (9, 4), (12, 5)] {
            assert_eq!(election.next(later(now, seconds - 1)), Next::Wait);
            let Next::Write(wish) = election.next(later(now, seconds)) else { panic!("no write") };
            assert!(!wish.acquires);
            election.step(later(now, seconds), Input::Written(stored("me", version)));
        }
        assert_eq!(election.role(later(now, 12)), Role::Holder);
    }

    #[test]
    fn a_holder_that_cannot_renew_is_cut_off_tries_on_and_loses_after_the_deadline() {
        let now = Instant::now();
        let mut election = holder(now);
        for seconds in (3..300).step_by(3) {
            assert_ne!(election.next(later(now, seconds)), Next::Wait);
            assert!(election.patience(later(now, seconds)) <= Duration::from_secs(300 - seconds));
            election.step(later(now, seconds), Input::Failed);
            let role = if seconds < 12 { Role::Holder } else { Role::CutOff };
            assert_eq!(election.role(later(now, seconds)), role);
        }
        let _next = election.next(later(now, 300));
        assert_eq!(election.role(later(now, 300)), Role::Standby { holder: String::new() });
    }

    #[test]
    fn a_standby_that_was_not_answered_gives_the_holder_its_time() {
        let now = Instant::now();
        let mut election = after_look(now, Some(stored("other", 1)));
        for seconds in [5, 10, 15, 20, 25] {
            assert_eq!(election.next(later(now, seconds)), Next::Look);
            election.step(later(now, seconds), Input::Failed);
        }
        for seconds in [30, 35] {
            assert_eq!(election.next(later(now, seconds)), Next::Look);
            election.step(later(now, seconds), Input::Seen(Some(stored("other", 1))));
        }
        assert_eq!(election.next(later(now, 39)), Next::Wait);
        assert_eq!(election.next(later(now, 40)), Next::Look);
        election.step(later(now, 40), Input::Seen(Some(stored("other", 1))));
        assert!(matches!(election.next(later(now, 40)), Next::Write(wish) if wish.acquires));
    }

    #[test]
    fn a_slow_renewal_counts_from_its_beginning() {
        let now = Instant::now();
        let mut election = holder(now);
        assert!(matches!(election.next(later(now, 3)), Next::Write(_)));
        election.step(later(now, 6), Input::Written(stored("me", 2)));
        assert_eq!(election.role(later(now, 6)), Role::Holder);
        assert_eq!(election.role(later(now, 14)), Role::Holder);
        assert_eq!(election.role(later(now, 15)), Role::CutOff);
        let _next = election.next(later(now, 302));
        assert_eq!(election.role(later(now, 302)), Role::CutOff);
        let _next = election.next(later(now, 303));
        assert!(!election.role(later(now, 303)).runs());
    }

    #[test]
    fn a_holder_who_sees_another_loses_at_once() {
        let now = Instant::now();
        let mut election = holder(now);
        assert!(matches!(election.next(later(now, 3)), Next::Write(_)));
        election.step(later(now, 3), Input::Conflict);
        assert_eq!(election.role(later(now, 3)), Role::Holder, "who has written is not known yet");
        assert_eq!(election.next(later(now, 3)), Next::Look);
        election.step(later(now, 3), Input::Seen(Some(stored("other", 9))));
        assert_eq!(election.role(later(now, 3)), Role::Standby { holder: "other".to_owned() });
    }

    #[test]
    fn two_that_find_the_same_lease_free_do_not_both_hold_it() {
        let now = Instant::now();
        let mut election = after_look(now, Some(stored("", 7)));
        assert!(matches!(election.next(now), Next::Write(_)));
        election.step(now, Input::Conflict);
        assert_eq!(election.next(now), Next::Look);
        election.step(now, Input::Seen(Some(stored("other", 8))));
        assert_eq!(election.next(now), Next::Wait);
        assert_eq!(election.role(now), Role::Standby { holder: "other".to_owned() });
    }

    #[test]
    fn an_orderly_end_releases_only_a_lease_of_ones_own() {
        let now = Instant::now();
        let wish = holder(now).release(now).unwrap();
        assert_eq!((wish.holder.as_str(), wish.over.as_deref()), ("", Some("1")));
        assert_eq!(after_look(now, Some(stored("other", 1))).release(now), None);
    }
}
