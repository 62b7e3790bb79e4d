//! The signals that stop the relay, or make it read its certificate again.

use std::future::Future;

use super::error::Error;

/// Completes at the first SIGTERM or SIGINT. From the call on, neither ends the process by itself.
///
/// # Errors
///
/// Where the system refuses to hand the signals over.
#[cfg(unix)]
pub fn stop() -> Result<impl Future<Output = ()>, Error> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Completes at the first Ctrl-C.
///
/// # Errors
///
/// None on this platform.
#[cfg(not(unix))]
pub fn stop() -> Result<impl Future<Output = ()>, Error> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// The signals that ask for the certificate to be read again.
#[derive(Debug)]
pub struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

/// SIGHUPs from now on. None of them ends the process any more.
///
/// # Errors
///
/// Where the system refuses to hand the signal over.
pub fn hangups() -> Result<Hangups, Error> {
    Ok(Hangups {
        #[cfg(unix)]
        signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
            .map_err(Error::Signals)?,
    })
}

impl Hangups {
    /// Completes at the next SIGHUP; never where there is no such signal.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}
