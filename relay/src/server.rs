use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::error::Error;
use crate::relay::Relay;
use crate::{binary, close, conn_id, headers, health, phone, sweeper};

/// The buffer that every connection reads into. The default of the library is 128 KiB, nearly all of what an idle
/// connection costs.
const READ_BUFFER: usize = 8 * 1024;

/// A relay that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    relay: Arc<Relay>,
}

impl Server {
    /// Listens on the address of the settings.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`], which says what to do.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let failed = |source| Error::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        info!(%address, "listening");
        Ok(Self {
            listener,
            address,
            relay: Relay::new(config),
        })
    }

    /// The address, with the port that was picked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves connections until `stop` completes, then closes them all and waits for them a bounded time.
    ///
    /// # Errors
    ///
    /// [`Error::Serve`] where the listener fails.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let Self {
            listener, relay, ..
        } = self;
        // However this ends, the sweeper ends too.
        let _stopping = relay.stopping.clone().drop_guard();
        relay.tasks.spawn(sweeper::sweep(Arc::clone(&relay)));

        let listener = listener.tap_io(|socket| {
            // Frames are batched here already. Without it they only come a little later.
            if let Err(error) = socket.set_nodelay(true) {
                debug!(%error, "TCP_NODELAY refused");
            }
        });
        let stopping = relay.stopping.clone().cancelled_owned();
        let http = axum::serve(listener, router(&relay)).with_graceful_shutdown(stopping);
        let mut http = pin!(http.into_future());
        tokio::select! {
            result = &mut http => return result.map_err(Error::Serve),
            () = stop => {}
        }

        info!("shutting down");
        relay.stopping.cancel();
        relay.registry.drain().iter().for_each(close::displaced);
        relay.tasks.close();
        let ended = async {
            http.await.map_err(Error::Serve)?;
            relay.tasks.wait().await;
            Ok(())
        };
        let ended = timeout(relay.config.shutdown_timeout, ended).await;
        ended.unwrap_or_else(|_| {
            warn!("connections cut off that did not end in time");
            Ok(())
        })
    }
}

fn router(relay: &Arc<Relay>) -> Router {
    Router::new()
        .route("/v1/server", get(server))
        .route("/v1/client", get(client))
        .route("/healthz", get(health::healthz))
        .with_state(Arc::clone(relay))
}

/// The extractor of the upgrade, which must not answer before the headers are checked.
type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

async fn server(State(relay): State<Arc<Relay>>, headers: HeaderMap, upgrade: Upgrade) -> Response {
    let server_id = match headers::admit(&headers, headers::OF_BINARY) {
        Ok(server_id) => server_id,
        Err(bad) => return bad.into_response(),
    };
    let conn_id = conn_id::for_binary(&server_id);
    connect(relay, upgrade, conn_id, |relay, socket, conn_id| {
        binary::serve(relay, socket, server_id, conn_id)
    })
}

async fn client(State(relay): State<Arc<Relay>>, headers: HeaderMap, upgrade: Upgrade) -> Response {
    let server_id = match headers::admit(&headers, headers::OF_PHONE) {
        Ok(server_id) => server_id,
        Err(bad) => return bad.into_response(),
    };
    let conn_id = conn_id::for_phone(&server_id);
    connect(relay, upgrade, conn_id, |relay, socket, conn_id| {
        phone::serve(relay, socket, server_id, conn_id)
    })
}

/// Upgrades the connection, and hands the socket over to its task.
fn connect<F>(
    relay: Arc<Relay>,
    upgrade: Upgrade,
    conn_id: Result<String, getrandom::Error>,
    serve: impl FnOnce(Arc<Relay>, WebSocket, String) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let conn_id = match conn_id {
        Ok(conn_id) => conn_id,
        Err(error) => {
            warn!(%error, "no random conn-id to be had");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let max_frame = relay.config.max_frame as usize;
    // Drawn here and not in the task, so that a shutdown waits for an upgrade under way.
    let token = relay.tasks.token();
    upgrade
        .read_buffer_size(READ_BUFFER)
        .max_frame_size(max_frame)
        .max_message_size(max_frame)
        .on_failed_upgrade(|error| debug!(%error, "upgrade failed"))
        .on_upgrade(async move |socket| {
            serve(relay, socket, conn_id).await;
            drop(token);
        })
}
