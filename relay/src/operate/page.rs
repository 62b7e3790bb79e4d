//! The routes of the metrics listener: the metrics, and a page that shows them live.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::config::Hosts;
use super::health;
use super::metrics::{Metrics, Sample};

/// The whole page. It loads nothing else.
const PAGE: &str = include_str!("page.html");

/// The interval between samples.
const PERIOD: Duration = Duration::from_secs(1);

/// The most connections to the metrics listener.
pub(crate) const MOST: usize = 32;

/// How long a page waits before it reconnects.
const RETRY: Duration = Duration::from_secs(1);

/// How many samples are kept for new pages: five minutes' worth.
const KEPT: usize = 300;

/// The latest samples, and the pages that are subscribed to new ones.
struct Monitor {
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    /// The name of the relay, to tell it from others.
    instance: String,
    /// Whether the listener also serves the admin API.
    has_admin: bool,
    kept: Mutex<VecDeque<At>>,
    news: broadcast::Sender<At>,
}

/// A sample and its time.
#[derive(Clone, Debug, Serialize)]
struct At {
    /// Milliseconds since the Unix epoch.
    time: u64,
    #[serde(flatten)]
    sample: Sample,
}

/// Returns the routes, those of the admin API among them, and spawns a task that takes samples until the relay stops.
pub(crate) fn router(
    metrics: &Arc<Metrics>,
    hosts: &Hosts,
    tasks: &TaskTracker,
    (draining, stopping): (&CancellationToken, &CancellationToken),
    instance: String,
    admin: Option<Router>,
) -> Router {
    let monitor = Arc::new(Monitor {
        metrics: Arc::clone(metrics),
        stopping: stopping.clone(),
        instance,
        has_admin: admin.is_some(),
        kept: Mutex::default(),
        news: broadcast::Sender::new(16),
    });
    tasks.spawn(watch(Arc::clone(&monitor)));
    let gate = Arc::new((hosts.clone(), Arc::clone(metrics)));
    Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/metrics", get(series))
        .with_state(monitor)
        .route("/healthz", get(health::details))
        .with_state(Arc::clone(metrics))
        .route("/readyz", get(health::ready))
        .with_state(draining.clone())
        .merge(admin.unwrap_or_default())
        .layer(middleware::from_fn_with_state(gate, only_own_hosts))
}

/// Refuses requests for names that are not the relay's. A page of another site could point its own name at the relay
/// (DNS rebinding), and its browser would let it read the responses.
async fn only_own_hosts(
    State(gate): State<Arc<(Hosts, Arc<Metrics>)>>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let (hosts, metrics) = &*gate;
    if are_own(hosts, request.headers()) {
        return next.run(request).await;
    }
    metrics.page.wrong_host.inc();
    let host = request.headers().get(header::HOST);
    let address = caller.ip().to_canonical();
    debug!(%address, ?host, "request refused: the host is not in --metrics-host");
    let sentence = "The host must be an IP address, localhost, or a name in --metrics-host.\n";
    (StatusCode::MISDIRECTED_REQUEST, sentence).into_response()
}

/// Browsers always send the header.
fn are_own(hosts: &Hosts, headers: &HeaderMap) -> bool {
    headers.get_all(header::HOST).iter().all(|host| {
        let authority = host.to_str().ok().and_then(|host| host.parse().ok());
        authority.is_some_and(|authority: Authority| hosts.contain(authority.host()))
    })
}

async fn watch(monitor: Arc<Monitor>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => monitor.sample(),
            () = monitor.stopping.cancelled() => return,
        }
    }
}

impl Monitor {
    fn sample(&self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        let sample = self.metrics.sample();
        let at = At { time, sample };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(at.clone());
        // Sent under the lock, so that no subscriber gets a sample twice. An error means that no page is open.
        let _ = self.news.send(at);
    }

    /// Returns the samples kept so far, and a receiver of those that follow.
    fn subscribe(&self) -> (VecDeque<At>, broadcast::Receiver<At>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.clone(), self.news.subscribe())
    }
}

async fn page() -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(PAGE)).into_response()
}

/// Sends the name of the relay in an event `instance`, whether there is an admin API in an event `admin`, all kept
/// samples in one event `kept`, and then each new one in an event `sample`.
async fn events(
    State(monitor): State<Arc<Monitor>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (kept, news) = monitor.subscribe();
    // A page that is too slow for a sample misses it.
    let news = BroadcastStream::new(news).filter_map(async |at| at.ok());
    let stopping = monitor.stopping.clone();
    let instance = event("instance", &monitor.instance);
    let admin = event("admin", &monitor.has_admin);
    let events = stream::iter([instance, admin, event("kept", &kept).retry(RETRY)])
        .chain(news.map(|at| event("sample", &at)))
        .take_until(stopping.cancelled_owned())
        .map(Ok);
    Sse::new(events).keep_alive(KeepAlive::default())
}

fn event(name: &str, data: &impl Serialize) -> Event {
    let data = serde_json::to_string(data).expect("strings and numbers are always JSON");
    Event::default().event(name).data(data)
}

async fn series(State(monitor): State<Arc<Monitor>>) -> Response {
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = monitor.metrics.text();
    ([(header::CONTENT_TYPE, format)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::metrics::Population;

    #[test]
    fn the_newest_samples_are_kept_and_not_more_than_those_of_five_minutes() {
        let monitor = Monitor {
            metrics: Arc::new(Metrics::new(Population::default)),
            stopping: CancellationToken::new(),
            instance: String::new(),
            has_admin: false,
            kept: Mutex::default(),
            news: broadcast::Sender::new(16),
        };
        for count in 1..=KEPT + 5 {
            monitor.sample();
            monitor.metrics.reclaims.inc();
            assert_eq!(monitor.subscribe().0.len(), count.min(KEPT));
        }
        let (kept, _) = monitor.subscribe();
        let [first, last] = [kept.front(), kept.back()]
            .map(|at| serde_json::to_value(at.expect("some are kept")).expect("JSON"));
        assert_eq!(first["reclaims"], 5);
        assert_eq!(last["reclaims"], KEPT + 4);
    }
}
