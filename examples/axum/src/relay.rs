//! The relay. A binary connects to `/binary/{server_id}`, a phone to `/phone/{server_id}/{name}`.
//!
//! A phone sends text to its binary, which receives `NAME TEXT`. The binary sends `NAME TEXT`, and that phone
//! receives the text.
//!
//! It leaves out what has nothing to do with the registry: authentication, pings, and limits on addresses and
//! frames. `switchboard-relay` has all of them.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use switchboard::{Cause, Claim, Conn, Displaced, Membership, RegisterError, Registry, SendError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The binary came back before its grace ended. The phone should connect again.
pub(crate) const RECLAIMED: u16 = 4001;
/// The binary did not come back.
pub(crate) const EXPIRED: u16 = 4002;
/// The peer does not read its frames fast enough.
pub(crate) const TOO_SLOW: u16 = 4003;
/// The relay stops. The code is from the WebSocket protocol.
pub(crate) const STOPPING: u16 = 1001;

/// How many frames may wait for a peer.
const OUTBOX: usize = 64;
/// How long a peer may take to receive its close frame.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection as the registry sees it: the sending ends of two channels. The task of the connection has the
/// receiving ends.
pub(crate) struct Outbox {
    conn_id: String,
    frames: mpsc::Sender<Bytes>,
    /// A channel of its own, so that a connection can be closed while its outbox is full.
    closing: watch::Sender<Option<CloseFrame>>,
}

struct Inbox {
    frames: mpsc::Receiver<Bytes>,
    closing: watch::Receiver<Option<CloseFrame>>,
}

impl Outbox {
    fn new(conn_id: String) -> (Arc<Self>, Inbox) {
        let (frames, their_frames) = mpsc::channel(OUTBOX);
        let (closing, their_closing) = watch::channel(None);
        let outbox = Self {
            conn_id,
            frames,
            closing,
        };
        let inbox = Inbox {
            frames: their_frames,
            closing: their_closing,
        };
        (Arc::new(outbox), inbox)
    }
}

impl Conn for Outbox {
    fn conn_id(&self) -> &str {
        &self.conn_id
    }

    fn send(&self, frame: Bytes) -> Result<(), SendError> {
        self.frames.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }

    fn close(&self) {
        self.close_with(1000, "");
    }

    fn close_with(&self, code: u16, reason: &str) {
        let reason = reason.into();
        self.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            closing.get_or_insert(CloseFrame { code, reason });
            first
        });
    }
}

/// Closes connections that the registry has removed. The registry itself closes none.
fn close_displaced(out: &Displaced<Outbox>) {
    let (code, reason) = match out.cause {
        Cause::Reclaimed => (RECLAIMED, "the binary is back"),
        _ => (EXPIRED, "the binary did not come back"),
    };
    for conn in out {
        conn.close_with(code, reason);
    }
}

/// What all connections share. A clone is the same relay.
#[derive(Clone)]
pub(crate) struct Relay {
    registry: Registry<Outbox>,
    /// How long a phone may wait for its binary.
    patience: Duration,
    connections: TaskTracker,
    stopping: CancellationToken,
}

impl Relay {
    pub(crate) fn new(grace: Duration, patience: Duration) -> Self {
        Self {
            registry: Registry::builder().max_phones(16).grace(grace).build(),
            patience,
            connections: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Serves until `stop` completes, or until the server or the expiry task ends.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let router = Router::new()
            .route("/binary/{server_id}", get(binary))
            .route("/phone/{server_id}/{name}", get(phone))
            .with_state(self.clone());
        let server = axum::serve(listener, router).into_future();
        let expiry = expire_graces(self.registry.clone());
        let result = tokio::select! {
            result = until_one_ends(server, expiry) => result,
            () = stop => Ok(()),
        };
        // Nobody accepts connections any more. Those that are open end now, with a close frame.
        self.stopping.cancel();
        self.connections.close();
        if timeout(2 * LAST_WORDS, self.connections.wait())
            .await
            .is_err()
        {
            eprintln!("{} connections did not end", self.connections.len());
        }
        result
    }
}

/// Runs the server and the expiry task. A relay that ends no graces keeps phones without a binary for ever.
/// So it must not go on without that task.
async fn until_one_ends(
    server: impl Future<Output = io::Result<()>>,
    expiry: impl Future<Output = Infallible> + Send + 'static,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    // A set, because it ends its tasks when it is dropped.
    let mut tasks = JoinSet::new();
    tasks.spawn(expiry);
    tokio::select! {
        result = server => Ok(result?),
        Some(Err(error)) = tasks.join_next() => Err(format!("the expiry task ended: {error}").into()),
    }
}

/// Ends each grace at its deadline, and closes the connections of the server-id.
async fn expire_graces(registry: Registry<Outbox>) -> Infallible {
    loop {
        let next = registry.next_deadline();
        // Any grace counts, whoever began it: it may have been the drop of a claim while its task panicked.
        let earlier = registry.earlier_deadline(next);
        let _ = match next {
            Some(next) => timeout_at(next.into(), earlier).await,
            None => Ok(earlier.await),
        };
        for out in registry.expire(Instant::now()) {
            close_displaced(&out);
        }
    }
}

async fn binary(
    State(relay): State<Relay>,
    Path(server_id): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let (outbox, inbox) = Outbox::new("binary".into());
    // Before the upgrade, so that a refusal is a plain HTTP response.
    let mut claim = match relay.registry.claim_server(&server_id, outbox) {
        Ok(claim) => claim,
        Err(conflict) => return (StatusCode::CONFLICT, conflict.to_string()).into_response(),
    };
    if let Some(out) = claim.take_displaced() {
        close_displaced(&out);
    }
    let connections = relay.connections.clone();
    // If there is no upgrade after all, the closure is dropped and the claim with it.
    upgrade.on_upgrade(move |socket| {
        connections.track_future(async move {
            let receive = |text: &str| from_binary(&claim, text);
            relay.connect(socket, inbox, receive).await;
            // The claim is dropped here, or where the task panics: the grace begins.
        })
    })
}

async fn phone(
    State(relay): State<Relay>,
    Path((server_id, name)): Path<(String, String)>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let (outbox, inbox) = Outbox::new(name);
    // If the phone hangs up meanwhile, the server drops this future. That ends the wait.
    let registered = tokio::select! {
        registered = relay.register(&server_id, outbox) => registered,
        () = relay.stopping.cancelled() => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    let membership = match registered {
        Ok(membership) => membership,
        Err(refused) => {
            let status = match refused {
                RegisterError::NoServer(_) => StatusCode::NOT_FOUND,
                RegisterError::DuplicateConnId(_) => StatusCode::CONFLICT,
                _ => StatusCode::TOO_MANY_REQUESTS,
            };
            return (status, refused.to_string()).into_response();
        }
    };
    let connections = relay.connections.clone();
    upgrade.on_upgrade(move |socket| {
        connections.track_future(async move {
            let receive = |text: &str| from_phone(&membership, text);
            relay.connect(socket, inbox, receive).await;
            // The membership is dropped here: the phone is unregistered.
        })
    })
}

impl Relay {
    /// Registers a phone. If it came before its binary, it waits for the binary.
    async fn register(
        &self,
        server_id: &str,
        mut outbox: Arc<Outbox>,
    ) -> Result<Membership<Outbox>, RegisterError<Outbox>> {
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            match self.registry.register_phone(server_id, outbox) {
                // A refusal returns the connection.
                Err(RegisterError::NoServer(refused)) => outbox = refused,
                settled => return settled,
            }
            let binary = self.registry.wait_for_binary(server_id);
            if timeout_at(deadline, binary).await.is_err() {
                return Err(RegisterError::NoServer(outbox));
            }
            // The binary may be gone again by now, so this is a loop.
        }
    }

    /// Moves frames between a socket and its inbox until either side ends. `receive` gets what the peer says.
    async fn connect(self, mut socket: WebSocket, inbox: Inbox, receive: impl Fn(&str)) {
        let Inbox {
            frames,
            mut closing,
        } = inbox;
        // A close interrupts a frame that is being written to a peer that does not read.
        let close = tokio::select! {
            () = exchange(&mut socket, frames, receive) => None,
            Ok(close) = closing.wait_for(Option::is_some) => close.clone(),
            () = self.stopping.cancelled() => Some(CloseFrame {
                code: STOPPING,
                reason: "the relay stops".into(),
            }),
        };
        if close.is_some() {
            // If this fails, the peer is gone anyway.
            let _ = timeout(LAST_WORDS, socket.send(Message::Close(close))).await;
        }
    }
}

async fn exchange(
    socket: &mut WebSocket,
    mut frames: mpsc::Receiver<Bytes>,
    receive: impl Fn(&str),
) {
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => receive(&text),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                // axum answers pings. Binary messages are ignored.
                Some(Ok(_)) => {}
            },
            Some(frame) = frames.recv() => {
                let Ok(text) = Utf8Bytes::try_from(frame) else { continue };
                if socket.send(Message::Text(text)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// `NAME TEXT` goes to the phone with that name. No lookup by server-id: the claim knows its phones.
fn from_binary(claim: &Claim<Outbox>, said: &str) {
    let Some((name, text)) = said.split_once(' ') else {
        return;
    };
    let delivered = claim
        .phone(name)
        .is_some_and(|phone| forward(&phone, text.to_owned().into()));
    if !delivered {
        forward(claim.conn(), format!("{name} is not there").into());
    }
}

/// Text goes to the binary. In grace, that is the binary that went away, and its outbox refuses the frame.
fn from_phone(membership: &Membership<Outbox>, text: &str) {
    let frame = format!("{} {text}", membership.conn_id());
    let delivered = membership
        .binary()
        .is_some_and(|binary| forward(&binary, frame.into()));
    if !delivered {
        forward(membership.conn(), "the binary is away".into());
    }
}

/// Queues a frame. Closes a peer whose outbox is full: it would miss frames without knowing.
fn forward(to: &Outbox, frame: Bytes) -> bool {
    match to.send(frame) {
        Ok(()) => true,
        Err(SendError::Full) => {
            to.close_with(TOO_SLOW, "too slow");
            false
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn a_grace_that_a_panic_begins_ends_at_its_deadline() {
        let relay = Relay::new(GRACE, GRACE);
        let mut tasks = JoinSet::new();
        tasks.spawn(expire_graces(relay.registry.clone()));
        let (outbox, _inbox) = Outbox::new("binary".into());
        let claim = relay.registry.claim_server("s", outbox).unwrap();
        let (outbox, mut inbox) = Outbox::new("phone".into());
        let membership = relay.registry.register_phone("s", outbox).unwrap();
        let binary = tokio::spawn(async move {
            let _claim = claim;
            panic!("a bug in the task of a binary");
        });
        binary.await.unwrap_err();
        let closing = inbox.closing.wait_for(Option::is_some).await.unwrap();
        assert_eq!(closing.as_ref().unwrap().code, EXPIRED);
        assert!(!membership.is_registered());
    }

    #[tokio::test]
    async fn the_server_does_not_go_on_without_the_expiry_task() {
        let server = std::future::pending();
        let expiry = async { panic!("a bug in the expiry task") };
        let error = until_one_ends(server, expiry).await.unwrap_err();
        assert!(error.to_string().contains("the expiry task ended"));
    }
}
