//! A run, from the first connection to the summary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::crowd::{Crowd, Opener};
use crate::dial::{Dialer, Socket};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::frame::Stamp;
use crate::options::{Direction, Options};
use crate::program::Program;
use crate::progress::Progress;
use crate::summary::{Measured, Mode, Readings, Summary};
use crate::traffic::Traffic;
use crate::usage::{Reading, Usage};
use crate::{bare, limits, pacer, phone, storm};

/// The time that frames in flight at the end have to arrive.
const DRAINING_TIME: Duration = Duration::from_secs(5);

pub(crate) async fn run(options: Options) -> Result<Summary, Error> {
    limits::make_room_for(options.connections())?;
    let stop = stop_on_ctrl_c();
    let program = match (&options.relay, &options.forwarder) {
        (Some(relay), _) => Program::start(relay, &options, None).await?,
        (None, Some(forwarder)) => {
            let far_end = bare::far_end().await?;
            Program::start(forwarder, &options, Some(far_end)).await?
        }
        (None, None) => {
            let usage = options.pid.map(|pid| Usage::of(pid.get())).transpose()?;
            let run = Run::new(&options, options.url.clone(), usage, stop)?;
            return Ok(run.measure().await?.0);
        }
    };
    let usage = Usage::of(program.pid)?;
    let run = Run::new(&options, program.endpoint.clone(), Some(usage), stop)?;
    let (summary, usage) = run.measure().await?;
    if let Some(mut usage) = usage {
        program.stop(&mut usage).await;
    }
    Ok(summary)
}

/// Returns a token that the first Ctrl-C cancels.
fn stop_on_ctrl_c() -> CancellationToken {
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        // If the system delivers no signals, the run ends as planned.
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.cancel();
        }
    });
    stop
}

struct Run<'a> {
    options: &'a Options,
    opener: Opener,
    orders: Vec<crate::traffic::Orders>,
    usage: Option<Usage>,
    own_usage: Option<Usage>,
    progress: Progress,
}

impl<'a> Run<'a> {
    fn new(
        options: &'a Options,
        endpoint: Endpoint,
        usage: Option<Usage>,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        options.check_trust(&endpoint)?;
        let dialer = Dialer::new(endpoint, options)?;
        let (traffic, orders) = Traffic::new(options);
        Ok(Self {
            options,
            opener: Opener {
                dialer: Arc::new(dialer),
                traffic: Arc::new(traffic),
                stop,
            },
            orders,
            usage,
            own_usage: Usage::of(std::process::id()).ok(),
            progress: Progress::new(unit(options)),
        })
    }

    async fn measure(mut self) -> Result<(Summary, Option<Usage>), Error> {
        let traffic = Arc::clone(&self.opener.traffic);
        let mut readings = Readings {
            before: self.read(),
            ..Readings::default()
        };
        let connections = self.options.connections();
        self.progress.say(&format!("connecting {connections}"));
        let orders = std::mem::take(&mut self.orders);
        let mut crowd = self.opener.gather(self.options, orders).await?;
        readings.connected = self.read();

        traffic
            .window
            .open(self.options.warmup, self.options.duration);
        let load = tokio::spawn(self.load(&crowd)?);
        self.wait("warming up", traffic.window.from()).await;
        (readings.from, readings.load_from) = (self.read(), self.read_own());
        self.wait("measuring", traffic.window.to()).await;
        (readings.to, readings.load_to) = (self.read(), self.read_own());
        load.await
            .map_err(|error| Error::Failed(error.to_string()))?;
        drain(&traffic).await;
        let slow = std::mem::take(&mut crowd.slow);
        self.progress.clear();

        let measured = Measured {
            seconds: traffic.window.length().as_secs_f64(),
            connections: crowd.connections,
            connect: crowd.connect.clone(),
            counts: traffic.tally.counts(),
            readings,
            slow_phones_dropped: traffic.tally.slow_phones_dropped(),
            errors: traffic.tally.errors(),
            slow_phones_by_ending: endings(slow).await,
        };
        Ok((Summary::of(self.options, measured), self.usage))
    }

    /// The load from now to the end of the window.
    fn load(&self, crowd: &Crowd) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
        let Opener {
            dialer, traffic, ..
        } = &self.opener;
        let (dialer, traffic) = (Arc::clone(dialer), Arc::clone(traffic));
        let server_ids = Arc::clone(&crowd.server_ids);
        let at_once = self.options.storm;
        let phones = self.options.all_phones();
        let mut pacer = None;
        if Mode::of(self.options) == Mode::Traffic && !self.opener.stop.is_cancelled() {
            match self.options.rate {
                Some(rate) => {
                    let started = pacer::start(Arc::clone(&traffic), rate.get(), phones);
                    pacer = Some(started.map_err(|error| Error::runtime(&error))?);
                }
                None => saturate(&traffic, phones, self.options.in_flight.get()),
            }
        }
        Ok(async move {
            if let Some(at_once) = at_once {
                storm::rage(&dialer, &traffic, &server_ids, at_once.get()).await;
            }
            // On a busy machine it may order its last frames after the end of the window.
            if let Some(pacer) = pacer {
                let ended = spawn_blocking(|| pacer.join()).await;
                ended
                    .expect("it does not panic")
                    .expect("nor does the pacer");
            }
        })
    }

    /// Waits until that time, or until the run is stopped, which ends the window.
    async fn wait(&mut self, doing: &str, until: u64) {
        let Opener { traffic, stop, .. } = &self.opener;
        let until = traffic.window.instant(until);
        let mut next = Instant::now();
        while next < until && !stop.is_cancelled() {
            next = until.min(next + Duration::from_secs(1));
            tokio::select! {
                () = sleep_until(next.into()) => self.progress.line(doing, &traffic.tally),
                () = stop.cancelled() => {}
            }
        }
        if stop.is_cancelled() {
            traffic.window.cut();
        }
    }

    fn read(&mut self) -> Option<Reading> {
        self.usage.as_mut().and_then(Usage::read)
    }

    fn read_own(&mut self) -> Option<Reading> {
        self.own_usage.as_mut().and_then(Usage::read)
    }
}

/// The unit of the progress line.
fn unit(options: &Options) -> &'static str {
    match (Mode::of(options), options.direction) {
        (Mode::Storm, _) => "connections",
        (_, Direction::Echo) => "round trips",
        (_, Direction::ToBinary | Direction::ToPhone) => "frames",
    }
}

/// Orders the full number of frames in flight for each phone. Each arrival orders the next one.
fn saturate(traffic: &Traffic, phones: u32, in_flight: u16) {
    for _ in 0..in_flight {
        for phone in 0..phones {
            let due = traffic.window.now();
            traffic.order(Stamp { due, phone });
        }
    }
}

async fn drain(traffic: &Traffic) {
    let end = Instant::now() + DRAINING_TIME;
    while Instant::now() < end {
        let (ordered, arrived) = traffic.tally.progress();
        if arrived >= ordered {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn endings(slow: Vec<Socket>) -> BTreeMap<String, u64> {
    let mut endings = BTreeMap::new();
    for ended in join_all(slow.into_iter().map(phone::read_at_last)).await {
        let ending = ended.map_or_else(|| "still connected".to_owned(), |ended| ended.to_string());
        *endings.entry(ending).or_default() += 1;
    }
    endings
}
