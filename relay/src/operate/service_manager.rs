//! systemd, or another service manager with its protocols: the socket that it passes, and what it is told.
//!
//! Without a service manager, nothing happens here.

use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::error::Error;

/// The socket that the service manager listens on for the relay, if there is one. Connections wait in it while the relay
/// restarts.
///
/// Removes the variables that name it from the environment, so call it before the program starts a thread.
///
/// # Errors
///
/// [`Error::Socket`] if it is no TCP socket.
pub fn socket() -> Result<Option<TcpListener>, Error> {
    let mut sockets = ListenFd::from_env();
    sockets.take_tcp_listener(0).map_err(Error::Socket)
}

/// What the service manager is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// The relay listens.
    Ready,
    /// The relay is shutting down.
    Stopping,
    /// The relay still runs.
    Alive,
}

#[cfg(unix)]
pub(crate) fn tell(state: State) {
    use sd_notify::NotifyState;

    let message = match state {
        State::Ready => NotifyState::Ready,
        State::Stopping => NotifyState::Stopping,
        State::Alive => NotifyState::Watchdog,
    };
    if let Err(error) = sd_notify::notify(&[message]) {
        warn!(?state, %error, "cannot notify the service manager");
    }
}

#[cfg(not(unix))]
pub(crate) fn tell(_: State) {}

/// Tells the service manager that the relay runs, as often as it wants to know, until the relay stops.
pub(crate) async fn keep_alive(stopping: CancellationToken) {
    let Some(limit) = watchdog() else {
        return;
    };
    let mut due = tokio::time::interval(limit / 2);
    loop {
        tokio::select! {
            _ = due.tick() => tell(State::Alive),
            () = stopping.cancelled() => return,
        }
    }
}

#[cfg(unix)]
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

#[cfg(not(unix))]
fn watchdog() -> Option<Duration> {
    None
}
