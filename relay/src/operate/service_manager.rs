//! systemd, or another service manager with its protocols: the socket that it passes, and what it is told.
//!
//! Without a service manager, nothing happens here.

use std::net::TcpListener;
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;
use std::{env, thread};

use listenfd::ListenFd;
use tokio::time::interval;
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

/// The service manager, if there is one. A thread of its own tells it: a manager that does not read must not hold up
/// the relay.
#[derive(Clone)]
pub(crate) struct ServiceManager(Option<SyncSender<State>>);

impl ServiceManager {
    pub(crate) fn connect() -> Self {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let (sender, states) = mpsc::sync_channel(8);
        let tell_all = || states.into_iter().for_each(notify);
        let thread = thread::Builder::new().name("service manager".into());
        match thread.spawn(tell_all) {
            Ok(_) => Self(Some(sender)),
            Err(error) => {
                warn!(%error, "cannot notify the service manager");
                Self(None)
            }
        }
    }

    pub(crate) fn tell(&self, state: State) {
        if let Some(states) = &self.0
            && states.try_send(state).is_err()
        {
            warn!(?state, "the service manager does not read");
        }
    }

    /// Tells that the relay runs, as often as the service manager wants to know, also during a shutdown.
    pub(crate) async fn keep_alive(self) {
        let Some(limit) = watchdog() else {
            return;
        };
        let mut due = interval(limit / 2);
        loop {
            due.tick().await;
            self.tell(State::Alive);
        }
    }
}

#[cfg(unix)]
fn notify(state: State) {
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
fn notify(_: State) {}

#[cfg(unix)]
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

#[cfg(not(unix))]
fn watchdog() -> Option<Duration> {
    None
}
