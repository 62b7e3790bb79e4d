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
use futures_util::stream::{self, Stream, StreamExt};
use gethostname::gethostname;
use governor::{Quota, RateLimiter};
use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use crate::admin;
use crate::admin::token::Token;
use crate::admission::access::file::AccessFile;
use crate::admission::gate::{self, Gate};
use crate::connection::displaced;
use crate::connection::relay::Relay;
use crate::drain::drain;
use crate::operate::config::{Config, MetricsListen, Proxies};
use crate::operate::error::Error;
use crate::operate::service_manager::{ServiceManager, State};
use crate::operate::signals::{self, Hangups};
use crate::operate::{files, health, page};
use crate::sweeper;
use crate::transport::accept::ArrivalAcceptor;
use crate::transport::arrivals::{Arrivals, ProxyHeaders, Rules};
use crate::transport::caller::Failed;
use crate::transport::http1::Http1Acceptor;
use crate::transport::places::Places;
use crate::transport::tcp::TcpAcceptor;
use crate::transport::tls::Tls;

/// How long a shutdown waits for HTTP requests in progress. All responses are short.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

/// The most bytes of the headers of a request.
const MAX_HEADERS: usize = 16 * 1024;

/// A relay that is listening.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    metrics_listener: Option<TcpListener>,
    metrics_address: Option<SocketAddr>,
    tls: Option<Tls>,
    admin_token: Option<Arc<Token>>,
    access_file: Option<Arc<AccessFile>>,
    hangups: Hangups,
    relay: Arc<Relay>,
    gate: Arc<Gate>,
}

impl Server {
    /// Reads the certificates, the admin token and the access file, and starts listening.
    ///
    /// # Errors
    ///
    /// [`Error::Tls`], [`Error::AdminToken`], [`Error::AccessFile`] or [`Error::Listen`], which say what to do, or
    /// [`Error::Signals`].
    pub async fn bind(config: Config) -> Result<Self, Error> {
        Self::bind_or_use(None, config).await
    }

    /// The same, but in place of `--listen` it listens on this socket, if there is one.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub async fn bind_or_use(
        socket: Option<std::net::TcpListener>,
        config: Config,
    ) -> Result<Self, Error> {
        let hangups = signals::hangups()?;
        let relay = Relay::new(config)?;
        let access_file = AccessFile::load(relay.config.access_file.as_deref()).await?;
        let gate = Gate::new(&relay, access_file.clone())?;
        let config = &relay.config;
        let tls = Tls::load(config, &relay.metrics.certificate_expiry).await?;
        let admin_token = Token::load(config.admin_token_file.as_deref()).await?;
        let (listener, address) = match socket {
            Some(socket) => adopt(socket)?,
            None => listen("--listen", config.listen).await?,
        };
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
            admin_token,
            access_file,
            hangups,
            relay,
            gate,
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

    /// Serves connections until `stop` yields. Then admits no more, closes them one after the other for `--drain` and
    /// the rest at once, and waits for at most `--shutdown-timeout`. If `stop` yields again, a drain ends at once, and
    /// if there is none, the wait.
    ///
    /// # Errors
    ///
    /// [`Error::Serve`] if a listener fails.
    pub async fn run(self, stop: impl Stream<Item = ()>) -> Result<(), Error> {
        let Self {
            relay,
            gate,
            tls,
            admin_token,
            access_file,
            ..
        } = self;
        let stop = stop.chain(stream::pending());
        // Stops the tasks on every return path.
        let _stopping = relay.stopping.clone().drop_guard();
        relay
            .tasks
            .spawn(sweeper::sweep(Arc::clone(&relay), Arc::clone(&gate)));
        let files = (tls.clone(), admin_token.clone(), access_file);
        relay
            .tasks
            .spawn(reload(Arc::clone(&relay), files, self.hangups));
        let manager = ServiceManager::connect();
        let _alive = AbortOnDropHandle::new(tokio::spawn(manager.clone().keep_alive()));
        let arrivals = arrivals(&relay, tls.is_none());
        let http = serve(&relay, arrivals, self.listener, router(&relay, gate), tls)?;
        let metrics = async {
            match self.metrics_listener {
                Some(listener) => {
                    let router = page::router(
                        &relay.metrics,
                        &relay.config.metrics_host,
                        &relay.tasks,
                        (&relay.draining, &relay.stopping),
                        instance(self.address.port()),
                        admin_token
                            .as_ref()
                            .map(|token| admin::router(&relay, token)),
                    );
                    let arrivals = page_arrivals(&relay);
                    serve(&relay, arrivals, listener, router, None)?.await
                }
                None => std::future::pending().await,
            }
        };
        tokio::pin!(http, metrics, stop);
        manager.tell(State::Ready);
        tokio::select! {
            result = &mut http => return result,
            result = &mut metrics => return result,
            _ = stop.next() => {}
        }

        let before = relay.metrics.disconnects.so_far();
        manager.tell(State::Stopping);
        relay.draining.cancel();
        if !relay.config.drain.is_zero() {
            tokio::select! {
                result = &mut http => return result,
                result = &mut metrics => return result,
                () = drain(&relay) => {}
                _ = stop.next() => info!("drain ended by another signal"),
            }
        }
        info!("shutting down");
        relay.stopping.cancel();
        relay.registry.drain().iter().for_each(displaced::shut_down);
        relay.tasks.close();
        let ended = async {
            http.await?;
            relay.tasks.wait().await;
            Ok(())
        };
        let result = tokio::select! {
            ended = timeout(relay.config.shutdown_timeout, ended) => ended.unwrap_or_else(|_| {
                warn!("shutdown timed out: remaining connections dropped");
                Ok(())
            }),
            _ = stop.next() => {
                warn!("another signal: remaining connections dropped");
                Ok(())
            }
        };
        let after = relay.metrics.disconnects.so_far();
        let [by_peer, by_relay, by_network] = std::array::from_fn(|by| after[by] - before[by]);
        let dropped = relay.tasks.len();
        info!(by_relay, by_peer, by_network, dropped, "stopped");
        result
    }
}

fn adopt(socket: std::net::TcpListener) -> Result<(TcpListener, SocketAddr), Error> {
    socket.set_nonblocking(true).map_err(Error::Socket)?;
    let listener = TcpListener::from_std(socket).map_err(Error::Socket)?;
    let address = listener.local_addr().map_err(Error::Socket)?;
    Ok((listener, address))
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

/// The name of a relay: of its machine, and the port that clients connect to.
fn instance(port: u16) -> String {
    format!("{}:{port}", gethostname().to_string_lossy())
}

/// The limits of connections before their upgrade.
fn arrivals(relay: &Relay, speaks_plain_http: bool) -> Arc<Arrivals> {
    let config = &relay.config;
    let most = usize::try_from(files::arrivals(config)).unwrap_or(usize::MAX);
    let unheard = &relay.metrics.unheard;
    let rules = Rules {
        proxies: config.trusted_proxies.clone(),
        proxy_headers: config.proxy_protocol.then(|| ProxyHeaders {
            timeout: config.header_timeout,
            refused: unheard.proxy_header.clone(),
        }),
        speaks_plain_http,
        // Responses before an upgrade are short, and after it there are other limits.
        write_timeout: None,
        too_many: unheard.too_many.clone(),
        too_many_from_address: unheard.too_many_from_address.clone(),
        unread: Counter::default(),
    };
    Arrivals::new(Places::new(most, config.max_per_address), rules)
}

/// The limits of connections to the metrics listener.
fn page_arrivals(relay: &Relay) -> Arc<Arrivals> {
    let counts = &relay.metrics.page;
    let rules = Rules {
        proxies: Proxies::default(),
        proxy_headers: None,
        speaks_plain_http: true,
        write_timeout: Some(relay.config.write_timeout),
        too_many: counts.too_many.clone(),
        too_many_from_address: Counter::default(),
        unread: counts.not_read.clone(),
    };
    Arrivals::new(Places::new(page::MOST, 0), rules)
}

fn router(relay: &Relay, gate: Arc<Gate>) -> Router {
    let healthz = if relay.config.healthz_details {
        get(health::details)
    } else {
        get(health::state)
    };
    Router::new()
        .route("/v1/server", any(gate::server))
        .route("/v1/client", any(gate::client))
        .with_state(gate)
        .route("/healthz", healthz)
        .with_state(Arc::clone(&relay.metrics))
        .route("/readyz", get(health::ready))
        .with_state(relay.draining.clone())
}

/// Serves HTTP until the relay stops, and then until the requests in progress are answered.
fn serve(
    relay: &Arc<Relay>,
    arrivals: Arc<Arrivals>,
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
    http.max_buf_size(MAX_HEADERS);
    let stopping = relay.stopping.clone();
    relay.tasks.spawn(async move {
        stopping.cancelled().await;
        // A connection that has not sent a whole request by then is dropped.
        handle.graceful_shutdown(Some(LAST_ANSWERS));
    });
    let router = router.layer(middleware::map_response(only_request));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let tcp = TcpAcceptor(Arc::clone(&arrivals));
    let unheard = relay.metrics.unheard.clone();
    Ok(async move {
        let outcome = match tls {
            None => {
                let inner = Http1Acceptor {
                    inner: tcp,
                    unheard,
                };
                let acceptor = ArrivalAcceptor { inner, arrivals };
                server.acceptor(acceptor).serve(service).await
            }
            Some(tls) => {
                let tls = RustlsAcceptor::new(tls.rustls()).handshake_timeout(limit);
                let inner = Http1Acceptor {
                    inner: tls.acceptor(tcp),
                    unheard,
                };
                let acceptor = ArrivalAcceptor { inner, arrivals };
                server.acceptor(acceptor).serve(service).await
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
            let caller = Failed::caller(error).unwrap_or(caller.ip().to_canonical());
            debug!(address = %caller, %error, "connection refused");
            return;
        }
        relay.metrics.accept_errors.inc();
        if seldom.check().is_ok() {
            warn!(%error, "cannot accept connections: if too many files are open, raise that limit or lower --max-connections");
        }
    }
}

/// Reloads the certificate, the admin token and the access file at each SIGHUP.
async fn reload(
    relay: Arc<Relay>,
    (tls, admin_token, access_file): (Option<Tls>, Option<Arc<Token>>, Option<Arc<AccessFile>>),
    mut hangups: Hangups,
) {
    loop {
        tokio::select! {
            () = hangups.next() => {}
            () = relay.stopping.cancelled() => return,
        }
        if let Some(tls) = &tls {
            tls.reload(&relay.config, &relay.metrics.certificate_expiry)
                .await;
        }
        if let Some(token) = &admin_token {
            token.reload().await;
        }
        if let Some(file) = &access_file {
            file.reload().await;
        }
        if tls.is_none() && admin_token.is_none() && access_file.is_none() {
            info!("nothing to reload: there is no --tls-cert, --admin-token-file or --access-file");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use switchboard::Counts;
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::task::{JoinHandle, yield_now};
    use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
    use tungstenite::Message;
    use tungstenite::client::IntoClientRequest;

    use super::*;
    use crate::connection::peer::Peer;

    /// A relay whose phones wait for their binary.
    struct Running {
        relay: Arc<Relay>,
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<Result<(), Error>>,
    }

    impl Running {
        async fn start() -> Self {
            let listeners = [
                "switchboard-relay",
                "--listen",
                "127.0.0.1:0",
                "--metrics-listen",
                "off",
            ];
            let flags = ["--rate-burst", "0", "--wait-for-binary", "1h"];
            let config = Config::from_args(listeners.iter().chain(&flags)).expect("good flags");
            let server = Server::bind(config).await.expect("a free port");
            let (relay, address) = (Arc::clone(&server.relay), server.address());
            let (stop, stopped) = oneshot::channel();
            let stopped = stream::once(async { drop(stopped.await) });
            let task = tokio::spawn(server.run(stopped));
            Self {
                relay,
                address,
                stop,
                task,
            }
        }

        async fn phone(&self, server_id: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
            let url = format!("ws://{}/v1/client", self.address);
            let mut request = url.into_client_request().expect("a URL");
            let headers = request.headers_mut();
            let server_id = HeaderValue::from_bytes(server_id.as_bytes()).expect("a header value");
            headers.insert("X-Pyrycode-Server", server_id);
            headers.insert("X-Pyrycode-Token", HeaderValue::from_static("t"));
            headers.insert("User-Agent", HeaderValue::from_static("test"));
            let (phone, _) = connect_async(request).await.expect("an upgrade");
            phone
        }

        async fn stop(self) {
            drop(self.stop);
            self.task.await.expect("no panic").expect("a clean end");
        }
    }

    #[tokio::test]
    async fn phones_that_wait_leave_nothing_behind_whatever_server_id_they_name() {
        let running = Running::start().await;
        let relay = &running.relay;
        let long = "é".repeat(128);
        for server_id in ["a", "a", "\"}{", &long] {
            let phone = running.phone(server_id).await;
            while relay.registry.internals().watched == 0 {
                yield_now().await;
            }
            assert_eq!(relay.registry.counts(), Counts::default());
            drop(phone);
            while relay.metrics.population().connections > 0 {
                yield_now().await;
            }
            let left = relay.registry.internals();
            let left = (left.watched, left.lingering_slots, left.retired_slots);
            assert_eq!(left, (0, 0, 0));
        }
        running.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_phone_that_loses_a_race_waits_on() {
        let running = Running::start().await;
        let is_over = Arc::new(AtomicBool::new(false));
        // A binary that comes and goes, without a grace, as fast as it can.
        let flapping = thread::spawn({
            let (relay, is_over) = (Arc::clone(&running.relay), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    let binary = Peer::new("b".into(), 1000, 1, Arc::default());
                    let claim = relay.registry.claim_server("a", binary);
                    let displaced = claim.expect("it is alone").evict();
                    displaced::close(&displaced.expect("nobody else evicts"));
                }
            }
        });
        for _ in 0..200 {
            let mut phone = running.phone("a").await;
            let closed = phone.next().await.expect("a message").expect("no error");
            let Message::Close(Some(frame)) = closed else {
                panic!("expected a close frame, got {closed:?}");
            };
            // It was registered, and then its binary was evicted.
            assert_eq!(u16::from(frame.code), 1000);
        }
        is_over.store(true, Ordering::Relaxed);
        flapping.join().expect("no panic");
        running.stop().await;
    }
}
