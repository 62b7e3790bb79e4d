//! The signals that stop the relay or make it reload its certificate and its admin token.

use futures_util::stream::{self, Stream};

use super::error::Error;

/// Yields at each SIGTERM and SIGINT. Once this is called, neither terminates the process by itself.
///
/// # Errors
///
/// If the program cannot register for the signals.
#[cfg(unix)]
pub fn stop() -> Result<impl Stream<Item = ()>, Error> {
    use std::task::Poll;

    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    Ok(stream::poll_fn(move |context| {
        let signals = [terminate.poll_recv(context), interrupt.poll_recv(context)];
        if signals.iter().any(Poll::is_ready) {
            Poll::Ready(Some(()))
        } else {
            Poll::Pending
        }
    }))
}

/// Yields at each Ctrl-C.
///
/// # Errors
///
/// None on this platform.
#[cfg(not(unix))]
pub fn stop() -> Result<impl Stream<Item = ()>, Error> {
    let next = |()| async { tokio::signal::ctrl_c().await.ok().map(|()| ((), ())) };
    Ok(stream::unfold((), next))
}

/// A stream of SIGHUPs, each a request to reload the certificate and the admin token.
#[derive(Debug)]
pub struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

/// Registers for SIGHUP. Once this is called, SIGHUP no longer terminates the process.
///
/// # Errors
///
/// If the program cannot register for the signal.
pub fn hangups() -> Result<Hangups, Error> {
    Ok(Hangups {
        #[cfg(unix)]
        signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
            .map_err(Error::Signals)?,
    })
}

impl Hangups {
    /// Completes at the next SIGHUP. On platforms without SIGHUP, it never completes.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}
