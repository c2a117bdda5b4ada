//! One connection through the proxy: two pumps of frames, and the weather they go through.

use std::collections::BTreeMap;
use std::io::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;

use super::frames::{self, FrameReader};
use super::rewrite::{self, Addresses, Asked};
use super::{Direction, Weather};

/// Requests that were passed on and whose answers are to be changed, by correlation id.
#[derive(Debug, Default)]
struct Pending(Mutex<BTreeMap<i32, Asked>>);

impl Pending {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One direction of a link.
struct Pump<'a> {
    direction: Direction,
    from: FrameReader,
    to: OwnedWriteHalf,
    weather: watch::Receiver<Weather>,
    addresses: &'a Addresses,
    pending: &'a Pending,
    /// Frames were lost: the stream has a hole, so the link ends with the fault.
    torn: bool,
}

/// Joins a client and a broker until either leaves, or until a fault that lost frames is over.
pub(super) async fn join(
    client: TcpStream,
    broker: TcpStream,
    weather: watch::Receiver<Weather>,
    addresses: &Addresses,
) -> Result<(), Error> {
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let pending = Pending::default();
    let pump = |direction, from, to| Pump {
        direction,
        from: FrameReader::new(from),
        to,
        weather: weather.clone(),
        addresses,
        pending: &pending,
        torn: false,
    };
    // Either end closes both: dropping the halves closes the sockets.
    tokio::select! {
        ended = pump(Direction::ToBroker, from_client, to_broker).run() => ended,
        ended = pump(Direction::ToConsumer, from_broker, to_client).run() => ended,
    }
}

impl Pump<'_> {
    async fn run(mut self) -> Result<(), Error> {
        loop {
            // Cancel-safe: a frame that is not whole stays in its buffer, and a change that was not seen stays unseen.
            tokio::select! {
                frame = self.from.next() => {
                    let Some(frame) = frame? else { return Ok(()) };
                    self.pass(frame).await?;
                }
                changed = self.weather.changed() => {
                    changed.map_err(Error::other)?;
                }
            }
            if self.torn && *self.weather.borrow() == Weather::Clear {
                return Ok(());
            }
        }
    }

    /// Sends a frame on as the weather lets it.
    async fn pass(&mut self, frame: Bytes) -> Result<(), Error> {
        loop {
            let weather = *self.weather.borrow_and_update();
            match weather {
                Weather::BlackHole => self.weather.changed().await.map_err(Error::other)?,
                Weather::HalfOpen(lost) if lost == self.direction => {
                    self.torn = true;
                    return Ok(());
                }
                Weather::Delay(each) => {
                    tokio::time::sleep(each).await;
                    break;
                }
                Weather::Clear | Weather::HalfOpen(_) => break,
            }
        }
        let frame = self.changed(frame);
        frames::send(&mut self.to, &frame).await
    }

    fn changed(&self, frame: Bytes) -> Bytes {
        match self.direction {
            Direction::ToBroker => {
                if let Some((correlation, asked)) = rewrite::asked(&frame) {
                    self.pending.lock().insert(correlation, asked);
                }
                frame
            }
            Direction::ToConsumer => {
                let correlation = rewrite::correlation(&frame);
                let asked = correlation.and_then(|id| self.pending.lock().remove(&id));
                asked.map_or_else(
                    || frame.clone(),
                    |asked| rewrite::changed(&frame, asked, self.addresses),
                )
            }
        }
    }
}
