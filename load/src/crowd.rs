//! The connections of a run: binaries first, then phones. Each phone is known to its binary before anything
//! is measured.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::binary::Binary;
use crate::dial::{DialError, Dialer, Side, Socket};
use crate::error::Error;
use crate::link::{self, Ended};
use crate::options::{Direction, Options};
use crate::phone::{self, Phone};
use crate::tally::{self, Tally};
use crate::traffic::{Orders, Traffic};

/// The number of connections opened concurrently.
const AT_ONCE: usize = 64;

/// A binary's upgrade is answered just before the binary holds its server-id, so a phone may connect slightly
/// too early.
const TOO_EARLY: u16 = 4404;
const ATTEMPTS: usize = 20;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);

pub(crate) struct Crowd {
    pub(crate) connections: u32,
    /// Time from the first packet to the answer to the upgrade, in nanoseconds.
    pub(crate) connect: Histogram<u64>,
    /// The connections' tasks, which end when this is dropped.
    tasks: JoinSet<()>,
    pub(crate) slow: Vec<Socket>,
    pub(crate) server_ids: Arc<[String]>,
}

/// Opens the connections of a run.
pub(crate) struct Opener {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) stop: CancellationToken,
}

impl Opener {
    pub(crate) async fn gather(
        &self,
        options: &Options,
        orders: Vec<Orders>,
    ) -> Result<Crowd, Error> {
        let (of_binaries, of_phones) = match options.direction {
            Direction::ToPhone => (orders, Vec::new()),
            Direction::Echo | Direction::ToBinary => (Vec::new(), orders),
        };
        let mut crowd = Crowd {
            connections: 0,
            connect: tally::histogram(),
            tasks: JoinSet::new(),
            slow: Vec::new(),
            server_ids: server_ids(options.servers.get()),
        };
        if options.forwarder.is_none() {
            self.binaries(&mut crowd, of_binaries).await?;
        }
        self.phones(&mut crowd, options.all_phones(), of_phones)
            .await?;
        Ok(crowd)
    }

    async fn binaries(&self, crowd: &mut Crowd, orders: Vec<Orders>) -> Result<(), Error> {
        let server_ids = Arc::clone(&crowd.server_ids);
        let open = |index: u32| {
            let server_ids = Arc::clone(&server_ids);
            let dialer = Arc::clone(&self.dialer);
            async move { timed(&dialer, Side::Binary, &server_ids[index as usize]).await }
        };
        let mut orders = orders.into_iter().map(Some).collect::<Vec<_>>();
        let mut run = |crowd: &mut Crowd, index: u32, mut socket: Socket| {
            let traffic = Arc::clone(&self.traffic);
            let orders = orders.get_mut(index as usize).and_then(Option::take);
            crowd.tasks.spawn(async move {
                let mut binary = Binary::new(Arc::clone(&traffic), orders);
                let ended = link::drive(&mut socket, &mut binary).await;
                traffic.tally.error(format!("binary: {ended}"));
            });
        };
        // The first one alone, so that a general problem with the relay is reported at once.
        let (socket, took) = open(0).await.map_err(|error| self.unreachable(&error))?;
        crowd.connected(took);
        run(crowd, 0, socket);
        let count = u32::try_from(server_ids.len()).unwrap_or(u32::MAX);
        self.each(1..count, open, |index, opened| match opened {
            Ok((socket, took)) => {
                crowd.connected(took);
                run(crowd, index, socket);
            }
            Err(error) => self.tally().error(format!("binary: {error}")),
        })
        .await
    }

    async fn phones(
        &self,
        crowd: &mut Crowd,
        count: u32,
        orders: Vec<Orders>,
    ) -> Result<(), Error> {
        let server_ids = Arc::clone(&crowd.server_ids);
        let join = |phone: u32| {
            let server_ids = Arc::clone(&server_ids);
            let (dialer, traffic) = (Arc::clone(&self.dialer), Arc::clone(&self.traffic));
            async move {
                let server_id = &server_ids[phone as usize % server_ids.len()];
                join(&dialer, &traffic, server_id, phone).await
            }
        };
        let mut orders = orders.into_iter().map(Some).collect::<Vec<_>>();
        let binaries = crowd.tasks.len();
        let mut last = None;
        self.each(0..count, join, |phone, joined| match joined {
            Ok((socket, took)) => {
                crowd.connected(took);
                if phone < self.traffic.slow {
                    crowd.slow.push(socket);
                    return;
                }
                let orders = orders.get_mut(phone as usize).and_then(Option::take);
                crowd
                    .tasks
                    .spawn(run_phone(Arc::clone(&self.traffic), orders, socket));
            }
            Err(error) => {
                self.tally().error(format!("phone: {error}"));
                last = Some(error);
            }
        })
        .await?;
        match last {
            Some(error) if crowd.tasks.len() == binaries => {
                Err(Error::Failed(format!("no phone could connect: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Opens for every number, several at a time, until the run is stopped. Calls `then` with each result.
    async fn each<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        numbers: std::ops::Range<u32>,
        open: impl Fn(u32) -> F,
        mut then: impl FnMut(u32, T),
    ) -> Result<(), Error> {
        let tasks = stream::iter(numbers).map(|number| {
            let opened = tokio::spawn(open(number));
            async move { (number, opened.await) }
        });
        let opened = tasks.buffer_unordered(AT_ONCE);
        let mut opened = std::pin::pin!(opened.take_until(self.stop.cancelled()));
        while let Some((number, opened)) = opened.next().await {
            let opened = opened.map_err(|error| Error::Failed(error.to_string()))?;
            then(number, opened);
        }
        Ok(())
    }

    fn tally(&self) -> &Tally {
        &self.traffic.tally
    }

    fn unreachable(&self, error: &DialError) -> Error {
        Error::Failed(format!("no relay at {}: {error}", self.dialer.address()))
    }
}

impl Crowd {
    fn connected(&mut self, took: Duration) {
        self.connections += 1;
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.connect.saturating_record(nanos);
    }
}

/// Server-ids that no other run uses: one of the previous run may still be in grace.
fn server_ids(count: u16) -> Arc<[String]> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_millis());
    let run = std::process::id();
    let names = (0..count).map(|server| format!("load-{now:x}-{run:x}-{server}"));
    names.collect()
}

async fn run_phone(traffic: Arc<Traffic>, orders: Option<Orders>, mut socket: Socket) {
    let mut phone = Phone::new(Arc::clone(&traffic), orders);
    let ended = link::drive(&mut socket, &mut phone).await;
    traffic.tally.error(format!("phone: {ended}"));
}

async fn timed(
    dialer: &Dialer,
    side: Side,
    server_id: &str,
) -> Result<(Socket, Duration), DialError> {
    let began = Instant::now();
    let socket = dialer.dial(side, server_id).await?;
    Ok((socket, began.elapsed()))
}

/// The reason why a phone could not join.
#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("not registered: {0}")]
    Ended(#[from] Ended),
}

async fn join(
    dialer: &Dialer,
    traffic: &Traffic,
    server_id: &str,
    number: u32,
) -> Result<(Socket, Duration), JoinError> {
    for _ in 1..ATTEMPTS {
        let (mut socket, took) = timed(dialer, Side::Phone, server_id).await?;
        match phone::introduce(&mut socket, number, traffic).await {
            Ok(()) => return Ok((socket, took)),
            Err(Ended::Closed(frame)) if u16::from(frame.code) == TOO_EARLY => {
                sleep(BETWEEN_ATTEMPTS).await;
            }
            Err(ended) => return Err(ended.into()),
        }
    }
    let (mut socket, took) = timed(dialer, Side::Phone, server_id).await?;
    phone::introduce(&mut socket, number, traffic).await?;
    Ok((socket, took))
}
