//! The faults: what is done, to whom it may be done, and for how long.

use std::fmt;
use std::time::Duration;

use crate::proxy::Direction;

/// Kinds of faults, as they are counted. Their names are the keys of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A consumer is killed and soon started again.
    Sigkill,
    /// A consumer is killed, and nobody starts it again or tells the controller.
    Death,
    /// A consumer stands still and goes on later.
    Sigstop,
    /// Several consumers are told to end at once, twice.
    Sigterm,
    /// The leading controller is killed.
    ControllerKill,
    /// The leading controller stands still and goes on when it has a successor.
    ControllerStop,
    /// A node of the broker is killed and started again.
    BrokerKill,
    /// Between a consumer and the brokers nothing passes, and arrives late.
    ProxyBlackHole,
    /// Between a consumer and the brokers everything takes long.
    ProxyDelay,
    /// Between a consumer and the brokers one direction loses everything.
    ProxyHalfOpen,
    /// The disk with the consumers' state directories is full.
    FullDisk,
    /// The sink's folder cannot be reached.
    SinkOutage,
}

/// What a hand-off that nobody planned is put down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The owner had been killed, and was soon back.
    Kill,
    /// The owner had been killed, and was away for long.
    Death,
    /// The owner stood still, or could not be heard.
    Stall,
    /// The owner had been told to end.
    Ending,
    /// A fault that struck everybody, or none.
    Other,
}

/// One fault of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Sigkill { restart_after: Duration },
    Death { for_: Duration },
    Sigstop { for_: Duration },
    Sigterm { consumers: usize, again_after: Duration },
    ControllerKill { restart_after: Duration },
    ControllerStop { for_: Duration },
    BrokerKill { for_: Duration },
    BlackHole { for_: Duration },
    Delay { each: Duration, for_: Duration },
    HalfOpen { lost: Direction, for_: Duration },
    FullDisk { for_: Duration },
    SinkOutage { for_: Duration },
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Sigkill,
        Self::Death,
        Self::Sigstop,
        Self::Sigterm,
        Self::ControllerKill,
        Self::ControllerStop,
        Self::BrokerKill,
        Self::ProxyBlackHole,
        Self::ProxyDelay,
        Self::ProxyHalfOpen,
        Self::FullDisk,
        Self::SinkOutage,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sigkill => "sigkill",
            Self::Death => "death",
            Self::Sigstop => "sigstop",
            Self::Sigterm => "sigterm",
            Self::ControllerKill => "controller-kill",
            Self::ControllerStop => "controller-stop",
            Self::BrokerKill => "broker-kill",
            Self::ProxyBlackHole => "proxy-black-hole",
            Self::ProxyDelay => "proxy-delay",
            Self::ProxyHalfOpen => "proxy-half-open",
            Self::FullDisk => "full-disk",
            Self::SinkOutage => "sink-outage",
        }
    }

    /// What a hand-off after it is put down to, if its owner was struck.
    pub(crate) fn cause(self) -> Cause {
        match self {
            Self::Sigkill => Cause::Kill,
            Self::Death => Cause::Death,
            Self::Sigstop | Self::ProxyBlackHole | Self::ProxyDelay | Self::ProxyHalfOpen => {
                Cause::Stall
            }
            Self::Sigterm | Self::FullDisk => Cause::Ending,
            Self::ControllerKill | Self::ControllerStop | Self::BrokerKill | Self::SinkOutage => {
                Cause::Other
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Fault {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Sigkill { .. } => Kind::Sigkill,
            Self::Death { .. } => Kind::Death,
            Self::Sigstop { .. } => Kind::Sigstop,
            Self::Sigterm { .. } => Kind::Sigterm,
            Self::ControllerKill { .. } => Kind::ControllerKill,
            Self::ControllerStop { .. } => Kind::ControllerStop,
            Self::BrokerKill { .. } => Kind::BrokerKill,
            Self::BlackHole { .. } => Kind::ProxyBlackHole,
            Self::Delay { .. } => Kind::ProxyDelay,
            Self::HalfOpen { .. } => Kind::ProxyHalfOpen,
            Self::FullDisk { .. } => Kind::FullDisk,
            Self::SinkOutage { .. } => Kind::SinkOutage,
        }
    }

    /// How long it lasts.
    pub(crate) fn span(&self) -> Duration {
        match *self {
            Self::Sigkill { restart_after: span }
            | Self::ControllerKill { restart_after: span }
            | Self::Sigterm { again_after: span, .. }
            | Self::Death { for_: span }
            | Self::Sigstop { for_: span }
            | Self::ControllerStop { for_: span }
            | Self::BrokerKill { for_: span }
            | Self::BlackHole { for_: span }
            | Self::Delay { for_: span, .. }
            | Self::HalfOpen { for_: span, .. }
            | Self::FullDisk { for_: span }
            | Self::SinkOutage { for_: span } => span,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.span().as_secs_f32();
        write!(f, "{:<16} for {seconds:>4.1} s", self.kind())?;
        match self {
            Self::Sigterm { consumers, .. } => write!(f, ", {consumers} consumers, twice"),
            Self::Delay { each, .. } => write!(f, ", {} ms each frame", each.as_millis()),
            Self::HalfOpen { lost, .. } => write!(f, ", {lost} lost"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
