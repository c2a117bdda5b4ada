//! What happens, in words: the lines of a counterexample.

use std::fmt::Write as _;

use crate::action::{Action, Fate, Way};
use crate::process::{Machine, Payload, Request};
use crate::scenario::Loss;
use crate::share::Log;
use crate::state::State;

impl State {
    fn name(&self, at: usize) -> String {
        match &self.process(at).machine {
            Machine::Controller(_) => format!("controller p{}", at + 1),
            Machine::Consumer(shell) => format!("consumer {} p{}", shell.number, at + 1),
            Machine::Gone => format!("p{} (gone)", at + 1),
        }
    }

    /// What an action does in this state, and what the logs hold after it that they did not before.
    pub(crate) fn describe(&self, action: Action, after: &Self) -> String {
        let mut line = self.action_in_words(action);
        let kept = match action {
            Action::Lose(loss) => self.kept(loss),
            _ => self.ledger.end(),
        };
        for (at, entry) in after.ledger.from(kept) {
            // Writing to a string cannot fail.
            let _infallible = write!(line, "\n        @{at} {:?}", entry.record);
        }
        for (number, log) in &after.commands {
            for (at, command) in log.from(self.commands.get(number).map_or(0, Log::end)) {
                let _infallible = write!(
                    line,
                    "\n        to consumer {number} @{at} {:?} {:?}",
                    command.incarnation, command.body
                );
            }
        }
        line
    }

    fn action_in_words(&self, action: Action) -> String {
        match action {
            Action::Send(at, way, fate) => {
                let process = self.process(at);
                let queue = if way == Way::Ledger { &process.ledger } else { &process.commands };
                let what = queue.front().map(payload).unwrap_or_default();
                format!("{}: {what} {}", self.name(at), fate_in_words(fate))
            }
            Action::Straggle(place) => {
                let request = &self.late[place];
                format!("{}: {} arrives late", self.name(request.from), payload(request))
            }
            Action::Answer(place) => {
                let answer = self.answers[place];
                format!("{} learns late that @{} was appended", self.name(answer.to), answer.at)
            }
            Action::Read(at) => format!("{} reads to the end", self.name(at)),
            Action::Look(at) => format!("{} looks what time brings", self.name(at)),
            Action::Gather(at, partition) => {
                format!("{} has gathered of {partition}", self.name(at))
            }
            Action::Land(place) => {
                let write = self.writes[place];
                let range = format!("{}..{}", write.expected, write.end);
                format!(
                    "a write of {} reaches the sink: {} {range}",
                    self.name(write.from),
                    write.partition
                )
            }
            Action::GiveUpWrite(place) => {
                format!(
                    "{} gives a write up that is still on its way",
                    self.name(self.writes[place].from)
                )
            }
            Action::Pass(seconds) => format!("{seconds} s pass"),
            Action::Lapse(at, seconds) => format!("{seconds} s pass for {} alone", self.name(at)),
            Action::Crash(at) => format!("{} crashes", self.name(at)),
            Action::Restart(place) => {
                format!("a process starts in directory {:?}", self.directories.keys().nth(place))
            }
            Action::Reap(at) => format!("the controllers learn that p{} is dead", at + 1),
            Action::Twin => "a second process of consumer 1 starts".into(),
            Action::Respec => "the settings change".into(),
            Action::Deafen(at) => format!("{} hears nothing from now on", self.name(at)),
            Action::Silence(at) => format!("{} is not heard from now on", self.name(at)),
            Action::ForgeGrant => "somebody grants what is owned".into(),
            Action::ForgeFence => "somebody fences who has beaten since".into(),
            Action::Lose(Loss::Tail(lost)) => {
                format!(
                    "the ledger loses its last {lost} records, from @{}",
                    self.ledger.end() - lost
                )
            }
            Action::Lose(Loss::Topic) => "the topic is made again".into(),
            Action::Arrive => "another controller starts".into(),
            Action::Shutdown(at) => format!("{} is told to end", self.name(at)),
        }
    }
}

fn payload(request: &Request) -> String {
    let text = match &request.payload {
        Payload::Ledger(entry) => format!("{:?}", entry.record),
        Payload::Command(_, command) => format!("{:?}", command.body),
    };
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

const fn fate_in_words(fate: Fate) -> &'static str {
    match fate {
        Fate::Arrives => "arrives",
        Fate::ArrivesUnheard => "arrives, and is sent once more",
        Fate::ArrivesTwice => "arrives, and another copy is on its way",
        Fate::Unknown => "arrives, and its sender is told that it may not have",
        Fate::Late => "is given up, and is still on its way",
        Fate::Lost => "gets lost",
        Fate::AnswerLate => "arrives, and its acknowledgement is late",
    }
}
