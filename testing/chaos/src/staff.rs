//! Keeps the processes of the group running, as a cluster would, and lays hands on them when told to.
//!
//! One task owns all processes. It starts every consumer that the leading controller wants, starts again what has ended,
//! ends consumers that have not been wanted for a while, and performs the faults that concern processes. It tells no
//! controller of any of it: they find out by themselves.

mod post;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_runtime::task::{Task, spawn_named};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use self::post::Post;
use crate::process::Who;
use crate::status::Seen;

/// Time between two looks at the processes.
const LOOK: Duration = Duration::from_millis(100);

/// Orders that may wait.
const QUEUE: usize = 64;

/// How long all processes get to end in order before they are killed; above the stop budget of consumers.
const END_GRACE: Duration = Duration::from_secs(20);

/// Starts the command of a process.
pub(crate) type Recipe = Box<dyn Fn(Who) -> Command + Send>;

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// SIGKILL; it is started again so much later.
    Kill { restart_after: Duration },
    /// SIGTERM; it is started again at once.
    Terminate,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Resume,
}

#[derive(Debug)]
enum Order {
    Do(Who, Deed, oneshot::Sender<bool>),
    Running(oneshot::Sender<Vec<Who>>),
    /// Ends everybody: in order, or at once.
    End {
        orderly: bool,
    },
}

/// What the staff looks back on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Ends that nobody had brought about: who, and how.
    pub(crate) surprises: Vec<String>,
    /// How many processes were started.
    pub(crate) starts: u32,
}

/// The way to the staff.
#[derive(Clone, Debug)]
pub(crate) struct Staff {
    orders: mpsc::Sender<Order>,
}

struct Keeper {
    posts: BTreeMap<Who, Post>,
    recipe: Recipe,
    logs: PathBuf,
    seen: watch::Receiver<Seen>,
    record: Record,
}

// === impl Staff ===

impl Staff {
    /// Starts the monitor and two controllers, and the consumers that are wanted.
    pub(crate) fn start(
        recipe: Recipe,
        logs: PathBuf,
        seen: watch::Receiver<Seen>,
    ) -> (Self, Task<Record>) {
        let (orders, incoming) = mpsc::channel(QUEUE);
        let always = [Who::Monitor, Who::Controller(1), Who::Controller(2)];
        let posts = always.map(|who| (who, Post::permanent())).into();
        let keeper = Keeper { posts, recipe, logs, seen, record: Record::default() };
        (Self { orders }, spawn_named("staff", keeper.run(incoming)))
    }

    /// Does something to a process; false when it does not run.
    pub(crate) async fn order(&self, who: Who, deed: Deed) -> bool {
        let (done, answer) = oneshot::channel();
        let sent = self.orders.send(Order::Do(who, deed, done)).await;
        sent.is_ok() && answer.await.unwrap_or(false)
    }

    /// Who runs and does not stand still.
    pub(crate) async fn running(&self) -> Vec<Who> {
        let (tell, told) = oneshot::channel();
        let sent = self.orders.send(Order::Running(tell)).await;
        if sent.is_ok() { told.await.unwrap_or_default() } else { Vec::new() }
    }

    /// Ends everybody; the task ends when they are gone.
    pub(crate) async fn end(&self, orderly: bool) {
        if self.orders.send(Order::End { orderly }).await.is_err() {
            tracing::error!("the staff is gone already");
        }
    }
}

// === impl Keeper ===

impl Keeper {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Record {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: an order stays in its queue until it is taken.
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Do(who, deed, done)) => drop(done.send(self.perform(who, deed))),
                    Some(Order::Running(tell)) => drop(tell.send(self.running())),
                    Some(Order::End { orderly }) => return self.end(orderly).await,
                    None => return self.end(false).await,
                },
                _ = looks.tick() => self.look(),
            }
        }
    }

    fn perform(&mut self, who: Who, deed: Deed) -> bool {
        let now = Instant::now();
        self.posts.get_mut(&who).is_some_and(|post| post.perform(now, deed))
    }

    fn running(&self) -> Vec<Who> {
        let runs = |(who, post): (&Who, &Post)| post.is_running().then_some(*who);
        self.posts.iter().filter_map(runs).collect()
    }

    fn look(&mut self) {
        let now = Instant::now();
        let wanted = self.seen.borrow_and_update().wanted.clone();
        for number in &wanted {
            self.posts.entry(Who::Consumer(*number)).or_insert_with(Post::temporary);
        }
        for (who, post) in &mut self.posts {
            if let Who::Consumer(number) = who {
                post.want(now, wanted.contains(number));
            }
            if let Some(surprise) = post.reap(now) {
                tracing::warn!("{who} has ended by itself: {surprise}");
                self.record.surprises.push(format!("{who}: {surprise}"));
            }
            post.end_overdue(now);
            if post.is_due(now) {
                self.record.starts += 1;
                let log = format!("{who}-{}.log", self.record.starts).replace(' ', "-");
                post.start((self.recipe)(*who), &self.logs.join(log), now);
            }
        }
    }

    /// Ends the consumers, then the controllers and the monitor.
    async fn end(mut self, orderly: bool) -> Record {
        let is_consumer = |who: &Who| matches!(who, Who::Consumer(_));
        for consumers in [true, false] {
            let deadline = Instant::now() + if orderly { END_GRACE } else { Duration::ZERO };
            let ending = |(who, _): &(&Who, &mut Post)| is_consumer(who) == consumers;
            self.posts.iter_mut().filter(ending).for_each(|(_, post)| post.dismiss(orderly));
            while self
                .posts
                .iter()
                .any(|(who, post)| is_consumer(who) == consumers && post.has_process())
            {
                tokio::time::sleep(LOOK).await;
                let now = Instant::now();
                for (who, post) in self.posts.iter_mut().filter(ending) {
                    if let Some(surprise) = post.reap(now) {
                        self.record.surprises.push(format!("{who}: {surprise}"));
                    }
                    if deadline <= now {
                        post.dismiss(false);
                    }
                }
            }
        }
        self.record
    }
}
