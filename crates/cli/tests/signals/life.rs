//! One consumer process from its start to its end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tidegate_core::ids::{Generation, Incarnation, Offset, Term};
use tidegate_core::ledger::{Command, CommandBody};
use tidegate_kafka::ControlOptions;
use tidegate_runtime::ports::RawRecord;
use tidegate_wire::ConsumerStatus;
use tidegate_wire::status::LeaseState;

use crate::group::{Group, PARTITIONS, Running, start};
use crate::{Blow, State};

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It gave everything back.
    Clean,
    /// The second signal kept it from that.
    CutShort,
    Killed,
}

#[derive(Debug)]
pub(crate) struct Life {
    process: Running,
    directory: PathBuf,
    log: PathBuf,
    address: String,
    incarnation: u64,
}

impl Life {
    /// Starts a consumer and waits until it has its lease.
    pub(crate) fn begin(group: &Group, spec: &str, directory: &str) -> Self {
        let folder = group.folder.path();
        let directory = folder.join(directory);
        let mut names = (1..).map(|life| format!("life-{life}"));
        let name = names.find(|name| !folder.join(format!("{name}.log")).exists()).unwrap();
        let data = directory.to_str().unwrap();
        let arguments = ["consumer", "--spec", spec, "--id", "1", "--data", data, "--log", "info"];
        let process = start(folder, &name, &arguments);
        let log = folder.join(format!("{name}.log"));
        let address = group.waits_for("address of the consumer", || {
            let text = std::fs::read_to_string(&log).ok()?;
            let line = text.lines().find(|line| line.contains("serving /livez"))?;
            let (_, address) = line.split_once("address=")?;
            Some(address.split_whitespace().next()?.to_owned())
        });
        let mut life = Self { process, directory, log, address, incarnation: 0 };
        life.incarnation = group.waits_for("incarnation", || life.status()?.incarnation);
        life
    }

    fn status(&self) -> Option<ConsumerStatus> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let host = &self.address;
        write!(stream, "GET /status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Log and Hello say whether the life before was clean.
    pub(crate) fn tells_how_the_last_one_ended(&self, group: &Group, clean: bool) {
        let line = format!("the last stop of this consumer consumer=1 clean={clean}");
        assert!(self.text().contains(&line), "{line:?}: {}", self.text());
        let dump = group.dump();
        let hello = dump.iter().find(|message| message["offset"] == self.incarnation).unwrap();
        assert_eq!(hello["type"], "Hello");
        assert_eq!(hello["value"]["clean"], clean, "{hello}");
    }

    /// Waits until a partition is in this state, and brings that about where it does not come by itself.
    pub(crate) fn reaches(&self, group: &Group, state: State) {
        let wanted = match state {
            State::Idle => return self.delivers_all(group),
            State::Held(wanted) => wanted,
            State::Stopping | State::Leaving => "writing",
        };
        self.shows(group, wanted, LeaseState::Live);
        match state {
            State::Stopping => self.is_told_to_stop(group),
            State::Leaving => {
                self.process.signal(Signal::TERM);
                self.shows(group, "stopping", LeaseState::Leaving);
            }
            State::Idle | State::Held(_) => {}
        }
    }

    fn shows(&self, group: &Group, wanted: &str, lease: LeaseState) {
        group.waits_for(wanted, || {
            let status = self.status()?;
            let shown = status.partitions.iter().any(|held| held.state.name() == wanted);
            (status.lease == lease && shown).then_some(())
        });
    }

    /// Tells it to give everything back, as a controller does, whenever it writes, until the status shows that this was in
    /// time: it stops while a write is under way.
    fn is_told_to_stop(&self, group: &Group) {
        let dump = group.dump();
        let last = |kind: &str| dump.iter().rfind(|message| message["type"] == kind).unwrap();
        let generation = Generation(last("Genesis")["value"]["generation"].as_u64().unwrap());
        let term = Term(Offset(last("Elect")["offset"].as_u64().unwrap()));
        let incarnation = Incarnation(Offset(self.incarnation));
        let command = Command { generation, incarnation, body: CommandBody::Drain { term } };
        let encoded = tidegate_wire::encode_command(&command);
        let headers = encoded.headers.into_iter().map(|(name, value)| (name, value.into()));
        let record = RawRecord {
            headers: headers.collect(),
            value: encoded.value.map(Into::into),
            ..RawRecord::default()
        };
        let topic = format!("{}-c", group.name);
        let mut told = false;
        group.waits_for("stopping", || {
            let status = self.status()?;
            let shows = |word: &str| status.partitions.iter().any(|held| held.state.name() == word);
            if shows("stopping") {
                return Some(());
            }
            if shows("writing") && !told {
                group.kafka(async |kafka| {
                    let log = kafka.control_log(&topic, ControlOptions::default()).unwrap();
                    log.append(1, record.clone()).await.unwrap();
                });
            }
            told = shows("writing");
            None
        });
    }

    /// Waits until everything in the log is durable, and nothing is on its way.
    pub(crate) fn delivers_all(&self, group: &Group) {
        group.waits_for("delivery of everything", || {
            let held = self.status()?.partitions;
            let idle = held.iter().all(|held| {
                held.state.name() == "reading" && held.lag_records == Some(0) && held.next > Some(0)
            });
            (held.len() == PARTITIONS as usize && idle).then_some(())
        });
    }

    pub(crate) fn strike(&self, group: &Group, blow: Blow) {
        let signal = if blow == Blow::Kill { Signal::KILL } else { Signal::TERM };
        self.process.signal(signal);
        if blow == Blow::TermTwice {
            // Two that come together are one to the process.
            group.waits_for("stop that begins", || {
                self.text().contains("a stop begins").then_some(())
            });
            self.process.signal(signal);
        }
    }

    /// Whether the log says that the last signal met this state, or what follows from it by the first of two.
    pub(crate) fn was_struck_in(&self, group: &Group, state: State, blow: Blow) -> bool {
        let (leaving, word) = match state {
            State::Held("writing") if blow == Blow::TermTwice => (true, "stopping"),
            State::Stopping => (blow == Blow::TermTwice, "stopping"),
            State::Leaving => (true, "stopping"),
            State::Idle => (false, "reading"),
            State::Held(word) => (false, word),
        };
        let start = format!("a stop begins consumer=1 leaving={leaving} partitions=");
        let found = group.waits_for("stop that begins, or the end", || {
            let text = self.text();
            let line = text.lines().find(|line| line.contains(&start)).map(str::to_owned);
            (line.is_some() || self.has_ended()).then_some(line)
        });
        found.is_some_and(|line| line.contains(word))
    }

    /// Whether it is a process no more, or one that only waits to be asked how it ended.
    fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.0.id()));
        stat.map_or(true, |stat| {
            stat.rsplit_once(')').is_none_or(|(_, rest)| rest.starts_with(" Z"))
        })
    }

    /// Waits for the end; exit code, state file and ledger must agree on how it was.
    pub(crate) fn ended(self, group: &Group, expected: Option<Ended>) -> Ended {
        let (log, incarnation, name) = (self.text(), self.incarnation, &group.name);
        let ended = match self.process.code() {
            Some(0) => Ended::Clean,
            Some(1) => Ended::CutShort,
            None => Ended::Killed,
            other => panic!("{name}: exit code {other:?}: {log}"),
        };
        assert!(expected.is_none_or(|expected| ended == expected), "{name} {ended:?}: {log}");
        let bytes = std::fs::read(self.directory.join("state.json")).unwrap();
        let saved = tidegate_wire::state_file::decode(&bytes).unwrap();
        assert_eq!(saved.clean, ended == Ended::Clean, "{name}: the state file");
        let dump = group.dump();
        let goodbye = dump.iter().any(|message| {
            message["type"] == "Goodbye"
                && message["value"]["incarnation"] == incarnation
                && message["value"]["clean"] == true
        });
        if ended == Ended::Clean {
            assert!(goodbye, "{name}: the ledger has no Goodbye of {incarnation}");
            assert!(saved.partitions.is_empty(), "{name}: a clean end keeps nothing");
            let state = group.state();
            assert!(!state.contains("incarnation"), "{name}: nobody holds anything: {state}");
        } else if expected.is_some() {
            // Where it may be cut short at any moment, its Goodbye may have been written.
            assert!(!goodbye, "{name}: the ledger has a Goodbye of {incarnation}");
        }
        ended
    }
}
