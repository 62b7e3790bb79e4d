//! The listeners, from the first connection to the last.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, get};
use axum::{Router, middleware};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsAcceptor;
use governor::{Quota, RateLimiter};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::admission::gate::{self, Gate};
use crate::connection::displaced;
use crate::connection::relay::Relay;
use crate::operate::config::{Config, MetricsListen};
use crate::operate::error::Error;
use crate::operate::signals::{self, Hangups};
use crate::operate::{health, page};
use crate::sweeper;
use crate::transport::http1::Http1Acceptor;
use crate::transport::tcp::TcpAcceptor;
use crate::transport::tls::Tls;

/// How long a shutdown waits for HTTP requests in progress. All responses are short.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

/// A relay that is listening.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    metrics_listener: Option<TcpListener>,
    metrics_address: Option<SocketAddr>,
    tls: Option<Tls>,
    hangups: Hangups,
    relay: Arc<Relay>,
}

impl Server {
    /// Reads the certificate and starts listening.
    ///
    /// # Errors
    ///
    /// [`Error::Tls`] or [`Error::Listen`], which say what to do, or [`Error::Signals`].
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let hangups = signals::hangups()?;
        let tls = Tls::load(&config).await?;
        let (listener, address) = listen("--listen", config.listen).await?;
        let (metrics_listener, metrics_address) = match config.metrics_listen {
            MetricsListen::Off => (None, None),
            MetricsListen::On(address) => {
                let (listener, address) = listen("--metrics-listen", address).await?;
                info!(%address, "serving metrics");
                (Some(listener), Some(address))
            }
        };
        info!(%address, tls = tls.is_some(), "listening");
        Ok(Self {
            listener,
            address,
            metrics_listener,
            metrics_address,
            tls,
            hangups,
            relay: Relay::new(config),
        })
    }

    /// The address that it listens on, with the actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the metrics listener, if there is one.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Serves connections until `stop` completes. Then closes them all, and waits for at most `--shutdown-timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::Serve`] if a listener fails.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { relay, tls, .. } = self;
        // Stops the tasks on every return path.
        let _stopping = relay.stopping.clone().drop_guard();
        let gate = Gate::new(&relay);
        relay
            .tasks
            .spawn(sweeper::sweep(Arc::clone(&relay), Arc::clone(&gate)));
        relay
            .tasks
            .spawn(reload(Arc::clone(&relay), tls.clone(), self.hangups));
        let http = serve(&relay, self.listener, router(&relay, gate), tls)?;
        let metrics = async {
            match self.metrics_listener {
                Some(listener) => {
                    let router = page::router(&relay.metrics, &relay.tasks, &relay.stopping);
                    serve(&relay, listener, router, None)?.await
                }
                None => std::future::pending().await,
            }
        };
        tokio::pin!(http, metrics);
        tokio::select! {
            result = &mut http => return result,
            result = &mut metrics => return result,
            () = stop => {}
        }

        info!("shutting down");
        relay.stopping.cancel();
        relay.registry.drain().iter().for_each(displaced::close);
        relay.tasks.close();
        let ended = async {
            http.await?;
            relay.tasks.wait().await;
            Ok(())
        };
        let ended = timeout(relay.config.shutdown_timeout, ended).await;
        ended.unwrap_or_else(|_| {
            warn!("shutdown timed out: remaining connections dropped");
            Ok(())
        })
    }
}

async fn listen(
    flag: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen {
        flag,
        address,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn router(relay: &Relay, gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/v1/server", any(gate::server))
        .route("/v1/client", any(gate::client))
        .with_state(gate)
        .route("/healthz", get(health::healthz))
        .with_state(Arc::clone(&relay.metrics))
}

/// Serves HTTP until the relay stops, and then until the requests in progress are answered.
fn serve(
    relay: &Arc<Relay>,
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
) -> Result<impl Future<Output = Result<(), Error>> + use<>, Error> {
    let limit = relay.config.header_timeout;
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener.into_std().map_err(Error::Serve)?)
        .map_err(Error::Serve)?
        .handle(handle.clone())
        .first_request_timeout(limit)
        .accept_error_handler(accept_failed(relay));
    let mut http = server.http_builder().http1();
    http.header_read_timeout(limit);
    let stopping = relay.stopping.clone();
    relay.tasks.spawn(async move {
        stopping.cancelled().await;
        // A connection that has not sent a whole request by then is dropped.
        handle.graceful_shutdown(Some(LAST_ANSWERS));
    });
    let router = router.layer(middleware::map_response(only_request));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(async move {
        let outcome = match tls {
            None => {
                server
                    .acceptor(Http1Acceptor(TcpAcceptor))
                    .serve(service)
                    .await
            }
            Some(tls) => {
                let tls = RustlsAcceptor::new(tls.rustls()).handshake_timeout(limit);
                let tls = Http1Acceptor(tls.acceptor(TcpAcceptor));
                server.acceptor(tls).serve(service).await
            }
        };
        outcome.map_err(Error::Serve)
    })
}

/// Closes the connection after one request, so that a client that does not read the response cannot keep it.
async fn only_request(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().append(header::CONNECTION, close);
    }
    response
}

/// Counts failed attempts to accept a connection, and logs a warning at most every 10 seconds. A connection that fails
/// later, in the TLS handshake for example, is only logged.
fn accept_failed(relay: &Arc<Relay>) -> impl Fn(Option<&SocketAddr>, &io::Error) + use<> {
    let relay = Arc::clone(relay);
    let seldom = Quota::with_period(Duration::from_secs(10)).expect("not zero");
    let seldom = RateLimiter::direct(seldom);
    move |caller, error| {
        if let Some(caller) = caller {
            // Usually a failed TLS handshake.
            debug!(%caller, %error, "connection refused");
            return;
        }
        relay.metrics.accept_errors.inc();
        if seldom.check().is_ok() {
            warn!(%error, "cannot accept connections: if too many files are open, raise that limit or lower --max-connections");
        }
    }
}

/// Reloads the certificate at each SIGHUP.
async fn reload(relay: Arc<Relay>, tls: Option<Tls>, mut hangups: Hangups) {
    loop {
        tokio::select! {
            () = hangups.next() => {}
            () = relay.stopping.cancelled() => return,
        }
        if let Some(tls) = &tls {
            tls.reload(&relay.config).await;
        } else {
            info!("nothing to reload: there is no --tls-cert");
        }
    }
}

#[cfg(test)]
mod tests {
    use switchboard::Counts;
    use tokio::sync::oneshot;
    use tokio::task::yield_now;
    use tokio_tungstenite::connect_async;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    use super::*;

    #[tokio::test]
    async fn phones_that_wait_leave_nothing_behind_whatever_server_id_they_name() {
        let args = [
            "switchboard-relay",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "off",
        ];
        let waits = ["--rate-burst", "0", "--wait-for-binary", "1h"];
        let config = Config::from_args(args.iter().chain(&waits)).expect("good flags");
        let server = Server::bind(config).await.expect("a free port");
        let (relay, address) = (Arc::clone(&server.relay), server.address());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        let long = "é".repeat(128);
        for server_id in ["a", "a", "\"}{", &long] {
            let mut request = format!("ws://{address}/v1/client")
                .into_client_request()
                .expect("a URL");
            let headers = request.headers_mut();
            headers.insert(
                "X-Pyrycode-Server",
                HeaderValue::from_bytes(server_id.as_bytes()).expect("a value"),
            );
            headers.insert("X-Pyrycode-Token", HeaderValue::from_static("t"));
            headers.insert("User-Agent", HeaderValue::from_static("test"));
            let (phone, _) = connect_async(request).await.expect("an upgrade");
            while relay.registry.internals().watched == 0 {
                yield_now().await;
            }
            assert_eq!(relay.registry.counts(), Counts::default());
            drop(phone);
            while relay.metrics.population().connections > 0 {
                yield_now().await;
            }
            let left = relay.registry.internals();
            assert_eq!(
                (left.watched, left.lingering_slots, left.retired_slots),
                (0, 0, 0)
            );
        }
        drop(stop);
        running.await.expect("no panic").expect("a clean end");
    }
}
